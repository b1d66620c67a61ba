"""Notes: ordinary notes in a table. The model writes only when it is asked to continue one."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from unwritten import Canvas, Page, Router

from .desk import app, examples, window

router = Router()

MAX_LENGTH = 8000


class Note(BaseModel):
    id: int | None = None
    text: str = ""
    changed: str = ""
    deleted: bool = False

    @property
    def title(self) -> str:
        """The first line, shortened."""
        first = self.text.strip().split("\n")[0].strip()
        return first if len(first) <= 48 else first[:47] + "…"


class Offer(BaseModel):
    """A request to continue a note after these last words of it."""

    id: int | None = None
    note: int
    after: str


WELCOME = """Welcome

This is a note. It stays as you leave it. Everything else on this machine is written when you open it."""
notes = router.table(Note, index=["deleted"], initial=[Note(text=WELCOME, changed="")])
offers = router.table(Offer, index=["note"])
CONTINUATIONS = examples("note")
NoteText = Annotated[str, Field(max_length=MAX_LENGTH)]


def now() -> str:
    return datetime.now(UTC).strftime("%-d %B, %H:%M")


def add(text: str) -> int:
    """Store a new note and return its number."""
    return notes.insert(Note(text=text, changed=now())).id or 0


@router.page("/notes")
def all_notes() -> Page:
    return window(
        "notes.html",
        "Notes",
        notes=notes.select(deleted=False, order="-id", limit=200),
        deleted=notes.select(deleted=True, order="-id", limit=3),
    )


@router.page("/note/{number:int}")
def note(number: int) -> Page:
    row = notes.get(number)
    if row is None:
        raise HTTPException(404, f"There is no note {number}.")
    canvases = {}
    for offer in offers.select(note=number, order="-id", limit=1):
        prompt = f"A note, and how it goes on: {row.title}"
        canvases["more"] = Canvas(prompt, "text", opening=offer.after, examples=CONTINUATIONS, tokens=70)
    return window("note.html", row.title or "Empty note", note=row, max_length=MAX_LENGTH, **canvases)


@router.action("/notes/new")
def new_note() -> str:
    return app.url_path_for("note", number=add(""))


@router.action("/note/{number:int}/save")
def save(number: int, text: NoteText) -> None:
    notes.update(number, text=text.replace("\r\n", "\n"), changed=now())


@router.action("/note/{number:int}/delete")
def delete(number: int) -> str:
    notes.update(number, deleted=True)
    return app.url_path_for("all_notes")


@router.action("/note/{number:int}/restore")
def restore(number: int) -> None:
    notes.update(number, deleted=False)


@router.action("/note/{number:int}/write-on")
def continue_note(number: int, text: NoteText) -> None:
    """Save what was typed, and ask the model to continue from its last line."""
    save(number, text)
    last = text.strip().split("\n")[-1][-160:].strip()
    if last:
        offers.insert(Offer(note=number, after=last))


@router.action("/note/{number:int}/take")
def accept(number: int) -> None:
    """Append the continuation to the note."""
    row, offer = notes.get(number), offers.select(note=number, order="-id", limit=1)
    page = app.store.get(app.url_path_for("note", number=number))
    more = page.canvases.get("more") if page else None
    if row and offer and more and row.text.rstrip().endswith(offer[0].after):
        notes.update(number, text=row.text.rstrip() + more.text.removeprefix(offer[0].after), changed=now())
    discard(number)


@router.action("/note/{number:int}/drop")
def discard(number: int) -> None:
    for offer in offers.select(note=number):
        offers.delete(offer.id or 0)
