"""A desktop whose folders, letters, web pages and apps do not exist until you open them.

    unwritten demo desktop

Every screen is a page with its own address and is stored like every page: open a folder again, and it is the same
folder. The desktop is one more page, which shows the others in windows. Without JavaScript its dock links to them.

    desk.py      the machine: the app, its settings, what all windows share
    dates.py     dates of files and letters

Each part has a router with its pages, actions and tables:

    files.py     folders, texts and pictures
    mail.py      letters and your answers
    web.py       the browser: any address
    notes.py     notes, which are yours
    terminal.py  known commands show what exists; the output of all others is generated
    programs.py  "New app…": a sentence becomes a program
"""

from typing import get_args

from unwritten import Page

from . import files, mail, notes, programs, terminal, web
from .desk import Accent, Look, Wallpaper, app, look, looks, window

for part in (files, mail, notes, programs, terminal, web):
    app.include_router(part.router)

DOCK = (
    ("files", "home", "Files"),
    ("mail", "newest", "Mail"),
    ("browser", "browser", "Browser"),
    ("notes", "all_notes", "Notes"),
    ("terminal", "terminal", "Terminal"),
    ("settings", "settings", "Settings"),
    ("new", "new", "New app…"),
)
"""What is in the dock: an icon, the name of a page function, and a label."""

KEYS = (
    ("Tab, Shift + Tab", "Move through the window, its buttons and the dock"),
    ("Arrow keys on a window’s title", "Move the window; with Shift, resize it"),
    ("Enter on a window’s title", "Maximise or restore the window"),
    ("Alt + Shift + N", "Next window"),
    ("Alt + Shift + D", "Go to the dock"),
    ("Alt + Shift + M", "Minimise the window"),
    ("Alt + Shift + W", "Close the window"),
    ("Alt + Shift + B", "Go back in the window"),
    ("Alt + Shift + T", "Tile all windows"),
    ("Alt + Shift + C", "Cascade all windows"),
    ("Ctrl + S in a note", "Save the note"),
    ("Shift + click in the dock", "Open another window of the same app"),
)


@app.page("/")
def desktop() -> Page:
    return Page(
        "desktop.html", title=look().machine, embeds=True, look=look(), dock=DOCK, programs=programs.all_programs()
    )


@app.page("/settings")
def settings() -> Page:
    return window("settings.html", "Settings", wallpapers=get_args(Wallpaper), accents=get_args(Accent))


@app.action("/settings/save")
def save_settings(new: Look) -> None:
    looks.update(1, **new.model_dump(exclude={"id"}))


@app.page("/help")
def keys() -> Page:
    return window("help.html", "Keys and help", keys=KEYS)
