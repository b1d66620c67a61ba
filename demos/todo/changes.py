"""Parses commands such as "add a priority", and plans what they change in the fields and values of a list.

No model is involved. What a change would lose is counted before anything is done, so that it can be confirmed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias

from . import fields, lexicon, named
from .fields import Column, Kind, Values
from .lexicon import WORDS

_ARTICLE, _COLUMN = WORDS["article"][0], WORDS["column"][0]
_VERBS = ("add", "remove", "rename", "turn", "split")
_VERB = {name: rf"(?:(?:please|bitte|por favor) )?{WORDS[name][0]}" for name in _VERBS}
_KINDS: dict[str, Kind] = {word: kind for kind in fields.KINDS for word in WORDS[kind][0].split(", ")}
_VIEWS = {"open": "what is not done", "done": "what is done", "soon": "what is due soon", "all": "everything"}
_SHOWN = {word: view for view in _VIEWS for word in WORDS[view][0].split(", ")}
_QUOTES = " .!\"'“”"

Items: TypeAlias = Sequence[tuple[int, Values]]
"""The numbers of items with their values."""


@dataclass
class Change:
    """What a command changes.

    Attributes:
        columns: All fields of the list afterwards.
        news: What changes, as pairs of a verb ("added", "removed", "renamed", "changed", "shown") and a description.
        losses: What would be lost, in sentences. They are confirmed first.
        values: The new values of items, by number.
        title: A new name of the list, or "".
        view: A new default view, or "".
        asks: The label of a field whose choices the model must write, or "".
        problem: Why nothing can be changed, or "".
    """

    columns: list[Column]
    news: list[tuple[str, str]] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    values: dict[int, Values] = field(default_factory=dict)
    title: str = ""
    view: str = ""
    asks: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Order:
    """A parsed command: its object, what that becomes, and the list."""

    what: str
    to: str
    items: Items
    language: str
    today: date


def plan(order: str, columns: Sequence[Column], items: Items, language: str, today: date) -> Change:
    """Return what a command would change.

    Args:
        order: The command, such as "add a priority" or "rename who to owner".
        columns: The current fields.
        items: The current items.
        language: The language of labels.
        today: The current date.
    """
    change = Change([column.model_copy() for column in columns])
    text = " ".join(order.split()).strip(_QUOTES)[:200]
    for pattern, act in (
        (rf"{_VERB['split']} {_ARTICLE}(?P<what>.+)", _split),
        (rf"{_VERB['rename']} (?:it|(?:the|this) list|die liste|la lista) (?:(?:to|as|in|a) )?(?P<what>.+)", _name),
        (rf"{_VERB['rename']} {_ARTICLE}{_COLUMN}(?P<what>.+?) (?:to|into|as|in|zu|a|en) (?P<to>.+)", _rename),
        (
            rf"{_VERB['turn']} {_ARTICLE}(?P<what>.+?) (?:(?:in)?to |zu |en )?(?:an? |eine?m?r? |una? )(?P<to>.+)",
            _turn,
        ),
        (rf"{WORDS['only'][0]}(?P<what>.+)", _show),
        (rf"{_VERB['remove']} {_ARTICLE}{_COLUMN}(?P<what>.+)", _remove),
        (rf"{_VERB['add']} {_ARTICLE}{_COLUMN}(?P<what>.+?)(?: hinzu)?", _add),
    ):
        found = re.fullmatch(pattern, text, flags=re.IGNORECASE)
        if found:
            words = found.groupdict()
            act(change, Order(words["what"].strip(_QUOTES), words.get("to", "").strip(_QUOTES), items, language, today))
            return change
    change.problem = (
        "That was not understood, and nothing was changed. Try: add a priority; rename who to owner; remove the due "
        "date; make cost a number; split by room; only show what is open."
    )
    return change


def find(words: str, columns: Sequence[Column]) -> Column | None:
    """Return the column that a few words refer to, or None."""
    word = re.sub(rf"^{_ARTICLE}|\s+(column|field|spalte|feld|campo)s?$", "", words.strip().casefold())
    known = lexicon.known(word)
    for column in columns:
        names = {column.label.casefold(), column.id, column.id.replace("_", " ")}
        if {word, word.removesuffix("s"), f"{word}s"} & names or (known is not None and known.id == column.id):
            return column
    return next((column for column in columns if word and column.label.casefold().startswith(word)), None)


def add(change: Change, column: Column) -> None:
    """Add a column to a change."""
    taken = {other.id for other in change.columns}
    if not column.id or column.id in taken:
        column.id = fields.name_of(column.label, change.columns)
    change.columns.append(column)
    change.news.append(("added", str(column)))


def _add(change: Change, order: Order) -> None:
    """Add one field with listed choices, or several by name: "add year and stars"."""
    what, _, listed = re.sub(WORDS["choices"][0], "|", order.what, count=1).partition("|")
    choices = [choice[:24] for choice in _listed(listed.rstrip(")"))][:8]
    names = [what.strip()] if len(choices) > 1 else _listed(what)
    for name in names:
        label = re.sub(rf"^{_ARTICLE}", "", name, flags=re.IGNORECASE)
        label = label[:1].upper() + label[1:]
        if not _is_free(change, label):
            return
        named_kinds: list[Kind] = [kind for word, kind in _KINDS.items() if label.casefold().endswith(f" {word}")]
        kind: Kind = named_kinds[0] if named_kinds else "text"
        if len(choices) > 1:
            add(change, Column(id="", label=label, kind="choice", choices=choices))
        elif (known := named.field(label, order.language)) is not None:
            add(change, known)
        elif kind == "choice" and len(names) == 1:
            change.asks = label
        else:
            add(change, Column(id="", label=label, kind=kind if kind != "choice" else "text"))


def _is_free(change: Change, label: str) -> bool:
    """True if a field with this name can be added. Otherwise set the change's problem."""
    there = find(label, change.columns)
    if there is not None:
        change.problem = f"There is already a field “{there.label}”. Nothing was changed."
    elif len(change.columns) >= 8:
        change.problem = "A list can have up to eight fields. Remove one first."
    elif not 1 < len(label) <= 30:
        change.problem = "The name of a field must have 2 to 30 characters."
    return not change.problem


def _listed(text: str) -> list[str]:
    """Return the parts of an enumeration, without duplicates."""
    parts = [part.strip(_QUOTES) for part in re.split(r",| or | and | oder | und | y | o ", text)]
    return [part for part in dict.fromkeys(parts) if part]


def _remove(change: Change, order: Order) -> None:
    column = find(order.what, change.columns)
    if column is None:
        change.problem = _no_such(order.what, change.columns)
        return
    filled = [values[column.id] for _, values in order.items if values.get(column.id)]
    if filled:
        shown = list(dict.fromkeys(fields.show(value, column, order.today)[0].split(",")[0] for value in filled))
        count = f"{len(filled)} item{'s have' if len(filled) > 1 else ' has'} a value under {column.label}"
        change.losses.append(f"{count}: {_some(shown)}.")
    change.columns = [other for other in change.columns if other.id != column.id]
    change.news.append(("removed", str(column)))


def _rename(change: Change, order: Order) -> None:
    column = find(order.what, change.columns)
    label = order.to[:1].upper() + order.to[1:30]
    if column is None or not label:
        change.problem = _no_such(order.what, change.columns)
    elif any(other.label.casefold() == label.casefold() for other in change.columns if other is not column):
        change.problem = f"There is already a field “{label}”. Nothing was renamed."
    else:
        change.news.append(("renamed", f"{column.label} → {label}"))
        column.label = label


def _name(change: Change, order: Order) -> None:
    change.title = order.what[:60]
    change.news.append(("renamed", f"the list → {change.title}"))


def _turn(change: Change, order: Order) -> None:
    column, kind = find(order.what, change.columns), _KINDS.get(order.to.casefold())
    if column is None:
        change.problem = _no_such(order.what, change.columns)
        return
    if kind is None:
        change.problem = f"“{order.to[:30]}” is not a kind of field. Kinds: {', '.join(fields.KINDS.values())}."
        return
    before, lost = str(column), []
    there = [values[column.id] for _, values in order.items if values.get(column.id)]
    column.kind, column.choices = kind, list(dict.fromkeys(there))[:12] if kind == "choice" else []
    for id, values in order.items:
        old = values.get(column.id, "")
        new = fields.read(old, column, order.today)
        if new is None:
            lost.append(old)
        if new != old:
            change.values[id] = {**values, column.id: new or ""}
    if lost:
        count = f"{len(lost)} value{'s' if len(lost) > 1 else ''} of {column.label}"
        change.losses.append(f"{count} cannot become {fields.KINDS[kind]}: {_some(lost)}.")
    change.news.append(("changed", f"{before} → {column}"))


def _split(change: Change, order: Order) -> None:
    """Sort by a field. One that does not exist is added with a few choices, so that it forms groups."""
    column = find(order.what, change.columns)
    known = named.field(order.what, order.language)
    if column is not None:
        change.view = f"by:{column.id}"
        change.news.append(("shown", f"sorted by {column.label}"))
    elif (known is not None and known.kind != "text") or re.search(WORDS["choices"][0], order.what):
        _add(change, order)
    elif _is_free(change, order.what):
        change.asks = order.what[:1].upper() + order.what[1:]


def _show(change: Change, order: Order) -> None:
    word = order.what.casefold()
    view = next((view for words, view in _SHOWN.items() if word.startswith(words)), "")
    people = {
        values[column.id].casefold(): values[column.id]
        for column in change.columns
        if column.kind in {"person", "choice"}
        for _, values in order.items
        if values.get(column.id)
    }
    name = re.sub(r"'s( (items|things|tasks))?$|^for ", "", word)
    if view or name in people:
        change.view = view or f"only:{people[name]}"
        change.news.append(("shown", _VIEWS[view] if view else people[name]))
    elif word in {"mine", "my things", "my own", "meins", "mío"} and people:
        change.problem = f"There are no accounts here, so use a name: “only show {next(iter(people.values()))}”."
    else:
        change.problem = (
            f"“{order.what[:40]}” cannot be shown alone. Try: only show what is open, done or due, or a name."
        )


def _no_such(words: str, columns: Sequence[Column]) -> str:
    known = ", ".join(column.label for column in columns)
    existing = f"Fields: {known}." if known else "There are no fields yet."
    return f"There is no field “{words[:40]}”. Nothing was changed. {existing}"


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:4]) + (", …" if len(words) > 4 else "")
