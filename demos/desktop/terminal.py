"""The terminal: what is known is told as it is kept; every other command's output is written."""

import shlex
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, Field

from unwritten import Canvas, Page

from .desk import app, examples, look, window
from .files import clean, listing
from .notes import add, notes, now

HELP = (
    "ls [folder], cd folder, cat file, pwd, echo words, note words, notes, date, hostname, clear, help:\n"
    "these tell what is kept. Every other command is run by a model, which makes up what it says."
)


class Command(BaseModel):
    id: int | None = None
    line: str
    folder: str = ""
    output: str = ""
    written: bool = False


class Place(BaseModel):
    """Where the terminal stands; there is one row."""

    id: int | None = None
    folder: str = ""


commands = app.table(Command)
places = app.table(Place, first=[Place()])
SHELL = examples("shell")


@app.page("/terminal", prefetch=False)
def terminal() -> Page:
    history = commands.select(order="-id", limit=25)[::-1]
    place = places.get(1) or Place()
    written = {row.id: told(row) for row in history if row.written}
    return window("terminal.html", "Terminal", history=history, place=place, outputs=written or {})


def told(row: Command) -> Canvas:
    seen = listing(row.folder)
    names = ", ".join(row.name for row in seen) if seen else "nothing that was looked at"
    ask = f"The folder {row.folder or 'Home'} has {names}. The command: $ {row.line}"
    return Canvas(ask, "text", examples=SHELL, tokens=70)


@app.action("/terminal/run")
def run(line: Annotated[str, Field(max_length=200)]) -> None:
    line = " ".join(line.split())
    place = places.get(1) or Place()
    name, *words = parsed(line)
    if name == "clear":
        for row in commands.select():
            commands.delete(row.id or 0)
        return
    known = KNOWN.get(name)
    output = known(place.folder, words) if known else ""
    commands.insert(Command(line=line, folder=place.folder, output=output, written=not known))


def parsed(line: str) -> list[str]:
    try:
        return shlex.split(line) or [""]
    except ValueError:  # a quotation mark without a second one
        return line.split() or [""]


def path_of(folder: str, words: list[str]) -> str:
    """Where words lead from a folder, as a shell reads them."""
    path = [] if not words or words[0][:1] in "/~" else folder.split("/")
    for part in " ".join(words).split("/"):
        if part == "..":
            path = path[:-1]
        elif clean(part):
            path.append(clean(part))
    return "/".join(part for part in path if part)


def ls(folder: str, words: list[str]) -> str:
    words = [word for word in words if not word.startswith("-")]
    path = path_of(folder, words) if words else folder
    seen = listing(path)
    if seen is None:
        return f"{path}: nobody has opened this folder yet. Open it in Files, and it is here too."
    return "\n".join(f"{row.kb:>5} kB  {row.changed:<12}  {row.name}{'/' * (row.kind == 'folder')}" for row in seen)


def cd(folder: str, words: list[str]) -> str:
    places.update(1, folder=path_of(folder, words)[:100] if words else "")
    return ""


def cat(folder: str, words: list[str]) -> str:
    path = path_of(folder, words)
    above, _, name = path.rpartition("/")
    row = next((row for row in listing(above) or () if row.name == name and row.kind != "folder"), None)
    if row is None or row.key is None:
        return f"cat: {path or 'what?'}: no such file"
    kept = app.store.get(row.key)
    text = kept.canvases["words"].text if kept and "words" in kept.canvases else ""
    return text or f"{path}: nobody has opened this file yet. Open it in Files, and it is here too."


def note(folder: str, words: list[str]) -> str:
    return f"note {add(' '.join(words))} is kept" if words else "note: what is to be noted?"


KNOWN: dict[str, Callable[[str, list[str]], str]] = {
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
