"""The fields of a list: their kinds, and how values are parsed, shown and sorted."""

import re
from datetime import date, timedelta
from typing import Literal, TypeAlias

from pydantic import BaseModel, Field

Kind: TypeAlias = Literal["text", "date", "person", "choice", "number", "check"]
Values: TypeAlias = dict[str, str]
"""The values of an item by the id of the field. "" is no value; dates are ISO dates; a tick is "yes"."""

KINDS: dict[Kind, str] = {
    "text": "text",
    "date": "a date",
    "person": "a person",
    "choice": "one of a few",
    "number": "a number",
    "check": "a tick",
}


class Column(BaseModel):
    """A field of a list. Its id never changes, so values stay when it is renamed.

    ``least`` and ``most`` bound the numbers that the model writes for a new list. Visitors may type any number.
    """

    id: str
    label: str = Field(min_length=1, max_length=30)
    kind: Kind = "text"
    choices: list[str] = []
    least: int = 1
    most: int = 500

    def __str__(self) -> str:
        return f"{self.label} ({', '.join(self.choices) if self.choices else KINDS[self.kind]})"


def tidy(text: str) -> str:
    """Return a text of the model without stray punctuation around it."""
    text = re.sub(r"^[^\w(“\"'¿¡]+|[\s,;:{}\[\]|]+$", "", text)
    return text if re.search(r"\w", text) else ""


def read(text: str, column: Column, today: date) -> str | None:
    """Return a text as a value of a column, or None if it is not valid."""
    text = text.strip()
    if not text:
        return ""
    if column.kind == "date":
        return _date(text, today)
    if column.kind == "number":
        found = re.fullmatch(r"[^\d-]{0,3}(-?\d{1,12}(?:[.,]\d{1,4})?)\s*\D{0,12}", text)
        return f"{float(found[1].replace(',', '.')):g}" if found else None
    if column.kind == "check":
        word = text.casefold()
        return "yes" if word in {"yes", "true", "x", "1", "ja", "sí", "si", "on"} else "" if _is_no(word) else None
    if column.kind == "choice":
        return next((choice for choice in column.choices if choice.casefold() == text.casefold()), None)
    return text[:120]


def show(value: str, column: Column, today: date) -> tuple[str, str]:
    """Return a value as text for people, and its state: "late", "today", "soon" or ""."""
    if column.kind == "check":
        return (column.label if value else ""), ""
    if column.kind != "date" or not value:
        return value, ""
    day = date.fromisoformat(value)
    days = (day - today).days
    plain = f"{day:%a} {day.day} {day:%b}" + (f" {day.year}" if day.year != today.year else "")
    if days < 0:
        return f"{plain}, {-days} day{'s' if days < -1 else ''} late", "late"
    words = {0: "today", 1: "tomorrow"}.get(days, f"in {days} days" if days < 8 else "")
    return (f"{plain}, {words}" if words else plain), ("today" if not days else "soon" if days < 4 else "")


def rank(value: str, column: Column) -> tuple[int, float | str]:
    """Return the sort key of a value. Empty values come last."""
    if not value:
        return 1, ""
    if column.kind == "number":
        return 0, float(value)
    if column.kind == "choice" and value in column.choices:
        return 0, column.choices.index(value)
    return 0, value.casefold()


def name_of(label: str, taken: list[Column]) -> str:
    """Return an unused id for a new column."""
    base = re.sub(r"\W+", "_", label.casefold()).strip("_")[:20] or "field"
    used, number = {column.id for column in taken}, 1
    while (base if number == 1 else f"{base}_{number}") in used:
        number += 1
    return base if number == 1 else f"{base}_{number}"


def _is_no(word: str) -> bool:
    return word in {"no", "false", "0", "nein", "-"}


def _date(text: str, today: date) -> str | None:
    days = {"today": 0, "heute": 0, "hoy": 0, "tomorrow": 1, "morgen": 1, "mañana": 1, "yesterday": -1}
    if text.casefold() in days:
        return (today + timedelta(days=days[text.casefold()])).isoformat()
    for pattern, order in ((r"(\d{4})-(\d\d?)-(\d\d?)", (0, 1, 2)), (r"(\d\d?)\.\s?(\d\d?)\.\s?(\d{4})", (2, 1, 0))):
        found = re.fullmatch(pattern, text)
        if found:
            try:
                return date(*(int(found.groups()[at]) for at in order)).isoformat()
            except ValueError:
                return None
    return None
