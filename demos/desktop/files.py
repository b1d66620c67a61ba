"""Files: folders whose entries are generated when they are opened, texts and pictures."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, model_validator
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten import Canvas, Page, Router

from .dates import Month, format_date, split_date
from .desk import app, examples, look, pick, window

router = Router()


class Entry(BaseModel):
    name: str = Field(min_length=3, max_length=28)
    kb: int = Field(ge=1, le=900)
    day: int = Field(ge=1, le=31)
    month: Month

    @model_validator(mode="before")
    @classmethod
    def _read_old_date(cls, data: Any) -> Any:
        return split_date(data, "changed")


class Folder(BaseModel):
    """A fixed number of each kind: a small model left to itself fills a folder with five entries of one kind."""

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
"""The home folder. It is fixed, so that there is something to open; what is inside is generated."""

PAGES = {"folder": "files", "text": "file", "picture": "picture"}
"""The page function that shows each kind of entry."""

EXTENSIONS = {"folder": "", "text": ".txt", "picture": ".jpg"}
FOLDERS = "orders, older things, records, drafts, repairs, plans, visits, bills, samples"
TEXTS = (
    "a letter to a friend, a list of names, a plan, a bill, a diary, a talk that was written down, some rules, "
    "a complaint, a table of prices, a speech, a list of dates, some advice, a recipe, a report of an accident"
)
PICTURES = "a photograph of a place, a photograph of people, a map, a drawing of a tool, a photograph of an animal"
FOLDER, TEXT, PICTURE = (examples(name) for name in ("folder", "text", "picture"))


class Row(NamedTuple):
    """An entry as a folder lists it. ``key`` is None if it cannot be opened."""

    kind: str
    name: str
    key: str | None
    kb: int | None
    changed: str


def clean_name(name: str) -> str:
    """Return a name that can be part of a path. Empty if nothing is left of it."""
    return " ".join(name.replace("/", "-").replace("\\", "-").split()).strip(" .")


def rows(path: str, folder: Any) -> Iterator[Row]:
    """Yield the rows of a folder, which may still be written. Incomplete entries have no key."""
    seen: set[str] = set()  # names that occur twice are shown once
    for kind, entries in (("folder", folder.folders), ("text", folder.texts), ("picture", folder.pictures)):
        for entry in entries or ():
            name = clean_name(entry.name or "")
            changed = format_date(entry)
            full_name = f"{name}{EXTENSIONS[kind]}" if changed else name
            full_path = f"{path}/{full_name}" if path else full_name
            key = app.url_path_for(PAGES[kind], path=full_path, default=None) if name and changed else None
            if full_name in seen and changed:
                continue
            seen.add(full_name)
            yield Row(kind, full_name, key, entry.kb, changed)


def breadcrumbs(path: str) -> list[tuple[str, str]]:
    """Return the folders above a path: name and key of each."""
    parts = path.split("/")[:-1]
    crumbs: list[tuple[str, str]] = [("Home", app.url_path_for("home"))]
    crumbs += [(part, app.url_path_for("files", path="/".join(parts[: i + 1]))) for i, part in enumerate(parts)]
    return crumbs


def list_folder(path: str) -> list[Row] | None:
    """Return the rows of a folder, or None if it has not been opened yet. The terminal uses it too."""
    folder = app.value(app.url_path_for("files", path=path), "listing", Folder) if path else HOME
    return list(rows(path, folder)) if folder else None


def canonical_redirect(request: Request, page: str, path: str) -> Response | None:
    """Return a redirect to the canonical spelling of a path, or None if this is it."""
    canonical = "/".join(part for part in map(clean_name, path.split("/")) if part)
    if canonical == path:
        return None
    return RedirectResponse(request.url_for(page, path=canonical) if canonical else request.url_for("home"), 303)


@router.page("/files")
def home() -> Page:
    return window("folder.html", "Home", listing=HOME, path="", breadcrumbs=[], rows=rows)


@router.page("/files/{path:path}")
def files(path: str, request: Request) -> Page | Response:
    name = path.rsplit("/", 1)[-1]
    return canonical_redirect(request, "files", path) or window(
        "folder.html",
        name,
        path=path,
        breadcrumbs=breadcrumbs(path),
        rows=rows,
        listing=Canvas(
            f"The files in the folder {path.replace('/', ' / ')} on the computer {look().machine}: {ideas(path)}.",
            schema=Folder,
            canvases=2,
            examples=FOLDER,
            tokens=256,
        ),
    )


@router.page("/file/{path:path}")
def file(path: str, request: Request) -> Page | Response:
    name = path.rsplit("/", 1)[-1]
    words = Canvas(f"The text of the file {describe(path)}.", "text", examples=TEXT, tokens=150)
    return canonical_redirect(request, "file", path) or window(
        "file.html", name, breadcrumbs=breadcrumbs(path), words=words
    )


@router.page("/picture/{path:path}")
def picture(path: str, request: Request) -> Page | Response:
    name = path.rsplit("/", 1)[-1]
    canvases = {"words": Canvas(f"What the picture {describe(path)} shows.", "text", examples=PICTURE, tokens=60)}
    if app.supports("svg"):
        canvases["drawing"] = Canvas(f"A line drawing of what the picture {describe(path)} shows.", "svg")
    return canonical_redirect(request, "picture", path) or window(
        "picture.html", name, breadcrumbs=breadcrumbs(path), **canvases
    )


def ideas(path: str) -> str:
    """Return suggestions for the prompt of a folder, different for each folder."""
    (folder,), texts, (picture,) = pick(FOLDERS, 1, path), pick(TEXTS, 3, path), pick(PICTURES, 1, path)
    return f"a folder of {folder}, {', '.join(texts)} and {picture}"


def describe(path: str) -> str:
    """Return a path in words. The folder's name says what the file is about."""
    *folders, name = path.split("/")
    return f"“{name}” in the folder {folders[-1]}" if folders else f"“{name}”"
