"""The terminal: known commands show what exists; the output of every other command is generated."""

import shlex
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, Field

from unwritten import Canvas, Page, Router

from .desk import app, examples, look, window
from .files import clean_name, list_folder
from .notes import add, notes, now

router = Router()

HELP = (
    "ls [folder], cd folder, cat file, pwd, echo text, note text, notes, date, hostname, clear, help\n"
    "A model makes up the output of every other command."
)


class Command(BaseModel):
    id: int | None = None
    line: str
    folder: str = ""
    output: str = ""
    written: bool = False


class Place(BaseModel):
    """The current folder. The table has one row."""

    id: int | None = None
    folder: str = ""


commands = router.table(Command)
places = router.table(Place, initial=[Place()])
SHELL = examples("shell")


@router.page("/terminal", prefetch=False)
def terminal() -> Page:
    history = commands.select(order="-id", limit=25)[::-1]
    place = places.get(1) or Place()
    outputs = {row.id: output_canvas(row) for row in history if row.written}
    return window("terminal.html", "Terminal", history=history, place=place, outputs=outputs)


def output_canvas(row: Command) -> Canvas:
    """Return the canvas for the output of a command."""
    files = list_folder(row.folder)
    names = ", ".join(file.name for file in files) if files else "nothing that was looked at"
    prompt = f"The folder {row.folder or 'Home'} has {names}. The command: $ {row.line}"
    return Canvas(prompt, "text", examples=SHELL, tokens=70)


@router.action("/terminal/run")
def run(line: Annotated[str, Field(max_length=200)]) -> None:
    line = " ".join(line.split())
    place = places.get(1) or Place()
    name, *words = parse(line)
    if name == "clear":
        for row in commands.select():
            commands.delete(row.id or 0)
        return
    command = COMMANDS.get(name)
    output = command(place.folder, words) if command else ""
    commands.insert(Command(line=line, folder=place.folder, output=output, written=not command))


def parse(line: str) -> list[str]:
    """Split a line into words as a shell does."""
    try:
        return shlex.split(line) or [""]
    except ValueError:  # an unclosed quotation mark
        return line.split() or [""]


def resolve(folder: str, words: list[str]) -> str:
    """Return the path that a command's arguments name, seen from a folder."""
    path = [] if not words or words[0][:1] in "/~" else folder.split("/")
    for part in " ".join(words).split("/"):
        if part == "..":
            path = path[:-1]
        elif clean_name(part):
            path.append(clean_name(part))
    return "/".join(part for part in path if part)


def ls(folder: str, words: list[str]) -> str:
    words = [word for word in words if not word.startswith("-")]
    path = resolve(folder, words) if words else folder
    rows = list_folder(path)
    if rows is None:
        return f"ls: {path}: this folder does not exist until you open it in Files"
    return "\n".join(f"{row.kb:>5} kB  {row.changed:<12}  {row.name}{'/' * (row.kind == 'folder')}" for row in rows)


def cd(folder: str, words: list[str]) -> str:
    places.update(1, folder=resolve(folder, words)[:100] if words else "")
    return ""


def cat(folder: str, words: list[str]) -> str:
    path = resolve(folder, words)
    parent, _, name = path.rpartition("/")
    row = next((row for row in list_folder(parent) or () if row.name == name and row.kind != "folder"), None)
    if row is None or row.key is None:
        return f"cat: {path}: no such file" if path else "cat: which file?"
    page = app.store.get(row.key)
    text = page.canvases["words"].text if page and "words" in page.canvases else ""
    return text or f"cat: {path}: this file does not exist until you open it in Files"


def note(folder: str, words: list[str]) -> str:
    return f"saved as note {add(' '.join(words))}" if words else "note: nothing to save"


COMMANDS: dict[str, Callable[[str, list[str]], str]] = {
    "": lambda folder, words: "",
    "ls": ls,
    "cd": cd,
    "cat": cat,
    "note": note,
    "notes": lambda folder, words: "\n".join(f"{n.id:>4}  {n.title}" for n in notes.select(deleted=False, limit=40)),
    "pwd": lambda folder, words: "/" + folder,
    "echo": lambda folder, words: " ".join(words),
    "date": lambda folder, words: now() + " UTC",
    "hostname": lambda folder, words: look().machine,
    "help": lambda folder, words: HELP,
}
