"""Files: folders whose entries are written when they are opened, and then stay; texts; pictures."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, model_validator
from starlette.responses import RedirectResponse, Response

from unwritten import Canvas, Page

from .dates import Month, divided, shown
from .desk import app, examples, fits, look, some, window


class Entry(BaseModel):
    name: str = Field(min_length=3, max_length=28)
    kb: int = Field(ge=1, le=900)
    day: int = Field(ge=1, le=31)
    month: Month

    @model_validator(mode="before")
    @classmethod
    def _earlier(cls, data: Any) -> Any:
        return divided(data, "changed")


class Folder(BaseModel):
    """A folder has some of everything: a small model left to itself fills it with five of a kind."""

    folders: list[Entry] = Field(min_length=1, max_length=1)
    texts: list[Entry] = Field(min_length=3, max_length=3)
    pictures: list[Entry] = Field(min_length=1, max_length=1)


HOME = Folder.model_construct(
    folders=[
        Entry(name="Bees", kb=38, day=2, month="May"),
        Entry(name="Clocks", kb=112, day=19, month="April"),
        Entry(name="Ferry office", kb=410, day=4, month="May"),
        Entry(name="Letters", kb=64, day=30, month="April"),
        Entry(name="Pictures", kb=880, day=12, month="March"),
    ],
    texts=[],
    pictures=[],
)
"""What is in the first folder: five names, so that there is something to open. All that is in them is written."""

PAGES = {"folder": "files", "text": "file", "picture": "picture"}
FOLDERS = "orders, older things, records, drafts, repairs, plans, visits, bills, samples"
TEXTS = (
    "a letter to a friend, a list of names, a plan, a bill, a diary, a talk that was written down, some rules, "
    "a complaint, a table of prices, a speech, a list of dates, some advice, a recipe, a report of an accident"
)
PICTURES = "a photograph of a place, a photograph of people, a map, a drawing of a tool, a photograph of an animal"
FOLDER, TEXT, PICTURE = (examples(name) for name in ("folder", "text", "picture"))


def clean(name: str) -> str:
    """A name as it can be a part of a path; empty if it cannot be one."""
    return " ".join(name.replace("/", "-").replace("\\", "-").split()).strip(" .")


class Row(NamedTuple):
    """What stands in a folder, as it is listed."""

    kind: str
    name: str
    key: str | None
    kb: int | None
    changed: str


ENDINGS = {"folder": "", "text": ".txt", "picture": ".jpg"}


def rows(path: str, folder: Any) -> Iterator[Row]:
    """The rows of a folder, which may still be growing: what is not whole has no key, and leads nowhere."""
    seen: set[str] = set()  # two files of one name are one
    for kind, entries in (("folder", folder.folders), ("text", folder.texts), ("picture", folder.pictures)):
        for entry in entries or ():
            name = clean(entry.name or "")
            changed = shown(entry)
            whole = f"{name}{ENDINGS[kind]}" if changed else name
            inner = f"{path}/{whole}" if path else whole
            key = app.url_path_for(PAGES[kind], path=inner) if name and changed and fits(inner) else None
            if whole in seen and changed:
                continue
            seen.add(whole)
            yield Row(kind, whole, key, entry.kb, changed)


def crumbs(path: str) -> list[tuple[str, str]]:
    """The folders above a path, each with its key."""
    parts = path.split("/")[:-1]
    return [("Home", "/files")] + [
        (part, app.url_path_for("files", path="/".join(parts[: i + 1]))) for i, part in enumerate(parts)
    ]


def listing(path: str) -> list[Row] | None:
    """What is in a folder, if anybody has opened it yet. The terminal sees the same."""
    found = app.value(app.url_path_for("files", path=path), "listing", Folder) if path else HOME
    return list(rows(path, found)) if found else None


def straight(page: str, path: str) -> Response | None:
    """A way to the one spelling of a path, if this is another."""
    right = "/".join(part for part in map(clean, path.split("/")) if part)
    if right == path:
        return None
    return RedirectResponse(app.url_path_for(page, path=right) if right else "/files", 303)


@app.page("/files")
def home() -> Page:
    return window("folder.html", "Home", listing=HOME, path="", crumbs=[], rows=rows)


@app.page("/files/{path:path}")
def files(path: str) -> Page | Response:
    name = path.rsplit("/", 1)[-1]
    return straight("files", path) or window(
        "folder.html",
        name,
        path=path,
        crumbs=crumbs(path),
        rows=rows,
        listing=Canvas(
            f"The files in the folder {path.replace('/', ' / ')} on the computer {look().machine}: {ideas(path)}.",
            schema=Folder,
            canvases=2,
            examples=FOLDER,
            tokens=256,
        ),
    )


@app.page("/file/{path:path}")
def file(path: str) -> Page | Response:
    name = path.rsplit("/", 1)[-1]
    words = Canvas(f"The text of the file {told(path)}.", "text", examples=TEXT, tokens=150)
    return straight("file", path) or window("file.html", name, crumbs=crumbs(path), words=words)


@app.page("/picture/{path:path}")
def picture(path: str) -> Page | Response:
    name = path.rsplit("/", 1)[-1]
    parts = {"words": Canvas(f"What the picture {told(path)} shows.", "text", examples=PICTURE, tokens=60)}
    if app.supports("svg"):
        parts["drawing"] = Canvas(f"A line drawing of what the picture {told(path)} shows.", "svg")
    return straight("picture", path) or window("picture.html", name, crumbs=crumbs(path), **parts)


def ideas(path: str) -> str:
    """What a folder may have: something else in every folder."""
    (folder,), texts, (shown,) = some(FOLDERS, 1, path), some(TEXTS, 3, path), some(PICTURES, 1, path)
    return f"a folder of {folder}, {', '.join(texts)} and {shown}"


def told(path: str) -> str:
    """A path in words, with its last folder, which says what it is about."""
    *folders, name = path.split("/")
    return f"“{name}” in the folder {folders[-1]}" if folders else f"“{name}”"
