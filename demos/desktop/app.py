"""A desktop whose folders, letters, web pages and apps do not exist until you open them.

    unwritten demo desktop

Every screen is a page with an address of its own, kept like every page: open a folder again, and it is the same
folder. The desktop is one more page, which shows the others in windows; without JavaScript its dock leads to them.

    desk.py      the machine: the app itself, its settings, what every window has
    files.py     folders, texts and pictures
    mail.py      letters, and answers to yours
    dates.py     the dates of both
    web.py       the browser: any address
    notes.py     notes, which are yours
    terminal.py  known commands tell what is kept, all others are written
    programs.py  "New app…": a sentence becomes a program
"""

from typing import get_args

from unwritten import Page

from . import files, mail, notes, terminal, web  # noqa: F401 - their pages are declared as they are imported
from .desk import Accent, Look, Wallpaper, app, look, looks, window
from .programs import named

DOCK = (
    ("files", "/files", "Files"),
    ("mail", "/mail", "Mail"),
    ("browser", "/web", "Browser"),
    ("notes", "/notes", "Notes"),
    ("terminal", "/terminal", "Terminal"),
    ("settings", "/settings", "Settings"),
    ("new", "/new", "New app…"),
)

KEYS = (
    ("Tab, Shift + Tab", "through the window, its buttons, and the dock"),
    ("Arrow keys, on a window’s title", "move the window; with Shift they resize it"),
    ("Enter, on a window’s title", "makes it as large as the screen, and back"),
    ("Alt + Shift + N", "to the next window"),
    ("Alt + Shift + D", "to the dock"),
    ("Alt + Shift + M", "minimises the window"),
    ("Alt + Shift + W", "closes the window"),
    ("Alt + Shift + B", "back to what the window showed before"),
    ("Alt + Shift + T", "sets the windows side by side"),
    ("Alt + Shift + C", "lays them on each other"),
    ("Ctrl + S, in a note", "saves it"),
    ("Shift + click in the dock", "opens a second window of the same kind"),
)


@app.page("/")
def desktop() -> Page:
    return Page("desktop.html", title=look().machine, frames=True, look=look(), dock=DOCK, programs=named())


@app.page("/settings")
def settings() -> Page:
    return window("settings.html", "Settings", wallpapers=get_args(Wallpaper), accents=get_args(Accent))


@app.action("/settings/save")
def save_settings(new: Look) -> None:
    looks.update(1, **new.model_dump(exclude={"id"}))


@app.page("/help")
def keys() -> Page:
    return window("help.html", "Keys and help", keys=KEYS)
