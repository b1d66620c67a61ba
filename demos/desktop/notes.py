"""Notes: ordinary, lasting notes. The model comes in only if it is asked to write one on."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from unwritten import Canvas, Page
from unwritten.core.errors import BadAddress

from .desk import app, examples, window

LONGEST = 8000


class Note(BaseModel):
    id: int | None = None
    text: str = ""
    changed: str = ""
    deleted: bool = False

    @property
    def title(self) -> str:
        """Its first line."""
        first = self.text.strip().split("\n")[0].strip()
        return first if len(first) <= 48 else first[:47] + "…"


class Offer(BaseModel):
    """A note is to be written on, from these last words of it."""

    id: int | None = None
    note: int
    after: str


WELCOME = """Welcome

This is a note. It is kept, whatever happens to the power. Everything else here is written when you open it."""
notes = app.table(Note, index=["deleted"], first=[Note(text=WELCOME, changed="at the beginning")])
offers = app.table(Offer, index=["note"])
ON = examples("note")
Text = Annotated[str, Field(max_length=LONGEST)]


def now() -> str:
    return datetime.now(UTC).strftime("%-d %B, %H:%M")


def add(text: str) -> int:
    return notes.insert(Note(text=text, changed=now())).id or 0


@app.page("/notes")
def all_notes() -> Page:
    kept = notes.select(deleted=False, order="-id", limit=200)
    return window("notes.html", "Notes", notes=kept, gone=notes.select(deleted=True, order="-id", limit=3))


@app.page("/note/{number:int}")
def note(number: int) -> Page:
    row = notes.get(number)
    if row is None:
        raise BadAddress(f"There is no note {number}. It may have been on another machine.", 404)
    parts = {}
    for offer in offers.select(note=number, order="-id", limit=1):
        ask = f"A note, and how it goes on: {row.title}"
        parts["more"] = Canvas(ask, "text", opening=offer.after, examples=ON, tokens=70)
    return window("note.html", row.title or "An empty note", note=row, longest=LONGEST, **parts)


@app.action("/notes/new")
def new_note() -> str:
    return app.url_path_for("note", number=add(""))


@app.action("/note/{number:int}/save")
def save(number: int, text: Text) -> None:
    notes.update(number, text=text.replace("\r\n", "\n"), changed=now())


@app.action("/note/{number:int}/delete")
def delete(number: int) -> str:
    notes.update(number, deleted=True)
    return "/notes"


@app.action("/note/{number:int}/restore")
def restore(number: int) -> None:
    notes.update(number, deleted=False)


@app.action("/note/{number:int}/write-on")
def write_on(number: int, text: Text) -> None:
    """Save what is typed, and have it written on from its last line."""
    save(number, text)
    last = text.strip().split("\n")[-1][-160:].strip()
    if last:
        offers.insert(Offer(note=number, after=last))


@app.action("/note/{number:int}/take")
def take(number: int) -> None:
    """What was written on becomes a part of the note."""
    row, offer = notes.get(number), offers.select(note=number, order="-id", limit=1)
    kept = app.store.get(app.url_path_for("note", number=number))
    more = kept.canvases.get("more") if kept else None
    if row and offer and more and row.text.rstrip().endswith(offer[0].after):
        notes.update(number, text=row.text.rstrip() + more.text.removeprefix(offer[0].after), changed=now())
    drop(number)


@app.action("/note/{number:int}/drop")
def drop(number: int) -> None:
    for offer in offers.select(note=number):
        offers.delete(offer.id or 0)
