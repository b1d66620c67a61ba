"""The models of lists and items, and the views that pages show."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field

from . import fields
from .fields import Column, Values


class Sheet(BaseModel):
    """A list.

    Attributes:
        name: Its name in the URL.
        wish: The request that it was made from.
        made: True if it was generated and its items are stored.
        view: The default view: open, done, soon, by:FIELD or only:PERSON.
        message: The message about the last change.
        pending: A change that waits for confirmation or for the model, with what it would lose.
    """

    id: int | None = None
    name: str
    wish: str
    cut: bool = False
    title: str = ""
    purpose: str = ""
    columns: list[Column] = []
    made: bool = False
    view: str = ""
    message: str = ""
    pending: dict[str, Any] = {}
    gone: bool = False

    @property
    def number(self) -> int:
        """The id in the table."""
        return self.id or 0


class Item(BaseModel):
    """One thing to do."""

    id: int | None = None
    sheet: int
    what: str
    values: Values = {}
    done: bool = False
    place: float = 0

    @property
    def number(self) -> int:
        """The id in the table."""
        return self.id or 0


class Entry(BaseModel):
    """The form of an item: each value belongs to the field at the same position."""

    what: str = Field(min_length=1, max_length=200)
    fields: list[str] = []
    values: list[str] = []
    way: Literal["save", "up", "down", "delete"] = "save"

    def read(self, columns: Sequence[Column], before: Values, today: date) -> tuple[Values, list[str]]:
        """Return the values, and messages about invalid ones, which are not changed."""
        values, wrong = dict(before), []
        by_id = {column.id: column for column in columns}
        for id, text in zip(self.fields, self.values, strict=False):
            if id in by_id:
                value = fields.read(text, by_id[id], today)
                if value is None:
                    wrong.append(
                        f"“{text[:40]}” is not {fields.KINDS[by_id[id].kind]}, so {by_id[id].label} was not changed."
                    )
                else:
                    values[id] = value
        return values, wrong


@dataclass
class Row:
    """An item with its cells: column, value, text and state of each."""

    item: Item
    cells: list[tuple[Column, str, str, str]]


@dataclass
class View:
    """What a page of a list shows."""

    sheet: Sheet
    rows: list[Row] = field(default_factory=list)
    show: str = "all"
    sort: str = ""
    only: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    people: list[tuple[Column, list[str]]] = field(default_factory=list)
    undo: str = ""
    redo: str = ""
    fresh: bool = False


def view(sheet: Sheet, items: list[Item], today: date, show: str = "", sort: str = "", only: str = "") -> View:
    """Return the items filtered and sorted as requested, or else as in the default view."""
    how, _, which = sheet.view.partition(":")
    show = show or (how if how in {"open", "done", "soon"} else "all")
    sort = sort or (which if how == "by" else "")
    only = only or (which if how == "only" else "")
    columns = {column.id: column for column in sheet.columns}
    soon = [item.number for item in items if not item.done and _is_soon(item, sheet.columns, today)]
    parts = {"all": items, "open": [i for i in items if not i.done], "done": [i for i in items if i.done]}
    if any(column.kind == "date" for column in sheet.columns):
        parts["soon"] = [item for item in items if item.number in soon]
    shown = parts.get(show, items)
    if only and only != "-":
        shown = [item for item in shown if only in item.values.values()]
    if sort in columns:
        shown = sorted(shown, key=lambda item: fields.rank(item.values.get(sort, ""), columns[sort]))
    elif sort == "what":
        shown = sorted(shown, key=lambda item: item.what.casefold())
    chips = [
        (column, list(dict.fromkeys(item.values[column.id] for item in items if item.values.get(column.id)))[:12])
        for column in sheet.columns
        if column.kind in {"person", "choice"}
    ]
    return View(
        sheet,
        [Row(item, cells(item.values, sheet.columns, today)) for item in shown],
        show if show in parts else "all",
        sort if sort in columns or sort == "what" else "",
        "" if only == "-" else only,
        {name: len(part) for name, part in parts.items()},
        [(column, values) for column, values in chips if values],
    )


def cells(values: Values, columns: Sequence[Column], today: date) -> list[tuple[Column, str, str, str]]:
    """Return the cells of an item: column, value, text and state of each."""
    return [(c, values.get(c.id, ""), *fields.show(values.get(c.id, ""), c, today)) for c in columns]


def stored_values(given: dict[str, Any], columns: Sequence[Column], today: date) -> Values:
    """Return values of the model as they are stored. The model writes dates as a number of days from today."""
    values = {}
    for column in columns:
        value = given.get(column.id)
        if column.kind == "date" and isinstance(value, int):
            values[column.id] = (today + timedelta(days=value)).isoformat()
        elif column.kind == "check":
            values[column.id] = "yes" if value is True else ""
        elif value is not None:
            values[column.id] = fields.read(fields.tidy(str(value)), column, today) or ""
    return values


def as_csv(sheet: Sheet, items: list[Item]) -> str:
    """Return all items as CSV. Texts that a spreadsheet would read as formulas are escaped."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["Done", "What", *(column.label for column in sheet.columns)])
    for item in items:
        row = ["yes" if item.done else "", item.what, *(item.values.get(column.id, "") for column in sheet.columns)]
        writer.writerow(
            [f"'{cell}" if cell[:1] in set("=+-@\t") and not cell[1:].isdecimal() else cell for cell in row]
        )
    return out.getvalue()


def as_text(sheet: Sheet, items: list[Item], today: date) -> str:
    """Return all items as plain text."""
    lines = [sheet.title, "=" * len(sheet.title), ""]
    for item in items:
        rest = ", ".join(
            f"{c.label}: {words}" for c, value, words, _ in cells(item.values, sheet.columns, today) if value
        )
        lines.append(f"[{'x' if item.done else ' '}] {item.what}" + (f" ({rest})" if rest else ""))
    return "\n".join(lines) + "\n"


def _is_soon(item: Item, columns: Sequence[Column], today: date) -> bool:
    days = [item.values[c.id] for c in columns if c.kind == "date" and item.values.get(c.id)]
    return any(day <= (today + timedelta(days=3)).isoformat() for day in days)
