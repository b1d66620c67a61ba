"""Repair: from what a model wrote for a shape to a value of it, as far as that goes without inventing anything.

What is not quite JSON is read loosely; then the data is fitted to the shape: numbers are brought inside their bounds,
texts that are too long are cut at a word, words that mean a choice become that choice. Every repair is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from unwritten_engine.json_grammar import compact

from ..errors import Misshapen
from .fitting import Fitting, normal
from .loose import Loose, find_json
from .typed import adapter, schema_of

_NO_JSON = "there is no JSON in it that has its fields"


@dataclass(frozen=True, slots=True)
class Repaired:
    """A value of a shape.

    Attributes:
        value: an instance.
        text: the same as JSON.
        repairs: what had to be repaired, in words; empty if nothing had.
    """

    value: Any
    text: str
    repairs: tuple[str, ...] = ()


def repair(shape: type[Any], text: str) -> Repaired:
    """The value that a finished text is meant to be.

    Args:
        shape: a pydantic model or a dataclass.
        text: what the model wrote.

    Raises:
        Misshapen: if too much is missing; the message says what.
    """
    try:
        return Repaired(adapter(shape).validate_json(text), text.strip())
    except ValidationError:
        pass
    schema = schema_of(shape)
    problem = _NO_JSON
    for loose in _likely(text, schema):
        try:
            return _fitted(shape, schema, loose)
        except _Unfit as unfit:
            problem = problem if problem != _NO_JSON else str(unfit)
    raise Misshapen(f"What was written does not fit the shape {shape.__name__}: {problem}.")


class _Unfit(Exception):
    """The data cannot be made to fit."""


def _likely(text: str, schema: Mapping[str, Any]) -> list[Loose]:
    """What in a text may be the value, the likeliest first: what has most of the names that the shape has."""
    found = list(find_json(text))
    lines = _lines(text, schema)
    if lines is not None:
        found.append(lines)
    names = {normal(name) for name in schema.get("properties", {})}
    known = [(_known(_unwrapped(loose, names).data, names), loose) for loose in found]
    return [loose for count, loose in sorted(known, key=lambda one: -one[0]) if count or not names]


def _known(data: Any, names: set[str]) -> int:
    return len(names & {normal(name) for name in data}) if isinstance(data, dict) else 0


def _unwrapped(loose: Loose, names: set[str]) -> Loose:
    """The object that is meant where a model put it into a list, or under a name of its own."""
    data = loose.data
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    elif isinstance(data, dict) and len(data) == 1 and not _known(data, names):
        data = next(iter(data.values()))
    if data is loose.data or not isinstance(data, dict):
        return loose
    loose.data = data
    loose.notes.append("brackets around it")
    return loose


def _lines(text: str, schema: Mapping[str, Any]) -> Loose | None:
    """Lines such as ``- **Known for:** fog`` as an object."""
    names = {normal(name): name for name in schema.get("properties", {})}
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, mark, value = line.partition(":") if ":" in line else line.partition("=")
        value = value.strip(" \t*_`\"',")
        if mark and value and normal(name) in names:
            found.setdefault(names[normal(name)], value)
    return Loose(found, ["read from lines of prose"]) if found else None


def _fitted(shape: type[Any], schema: Mapping[str, Any], loose: Loose) -> Repaired:
    """The value of loose data.

    Raises:
        _Unfit: if there is none; the message says why.
    """
    while True:
        fitting = Fitting(schema)
        data = fitting.fit(loose.data)
        try:
            value = adapter(shape).validate_json(compact(data))
            return Repaired(value, compact(data), (*loose.notes, *fitting.notes))
        except (ValidationError, ValueError) as error:
            # The last entry of the innermost list that was open when the text ended may be too little to be one.
            open_lists = [n for n, one in enumerate(loose.cut) if isinstance(one, list) and one]
            if not open_lists:
                raise _Unfit(_reason(error)) from None
        loose.cut[open_lists[-1]].pop()
        loose.cut = loose.cut[: open_lists[-1]]
        loose.notes.append("an entry that was cut off is left out")


def _reason(error: Exception) -> str:
    """What is wrong, with the place."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = re.sub(r"^(Input|Value|Field) ", lambda found: found[0].lower(), first["msg"])
    return f"{place}: {message}" if place else message
