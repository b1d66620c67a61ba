"""Fix typical faults of small models in values that match a schema.

A text that reached the length that the grammar allows is cut where it ends well. A comma at the end of a text, which
belongs between two values, is removed. Repeated entries of a list are removed, and so are those that stand in the
prompt's example, and the steps of a list are numbered in order. Nothing is invented.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .assumed_schema import ASSUMED_FORM, ASSUMED_MINIMUM
from .field_kinds import singular, text_kind, words_of
from .schema import resolve_reference
from .text_ends import settled_text

JSONSchema: TypeAlias = Mapping[str, Any]

_NUMBERED: Final = frozenset("number no nr index order position".split())
_ORDERED: Final = frozenset(
    "step instruction direction chapter section part stage track stop lesson rule verse phase task question".split()
)
"""Lists whose entries are numbered from 1. The number of a player or of a house is not such a number."""
_REPEATED: Final = frozenset("line verse lyric word note beat roll throw score value result reading".split())
"""Lists in which an entry may occur twice."""
_ENDS_IN_COMMA: Final = frozenset("greeting salutation closing opening code snippet pattern".split()) | _REPEATED
"""Fields whose texts may end in a comma: "Dear Ann,", a line of a poem, code."""
_OPEN_ENDS: Final = frozenset(
    "a an and are as at be but by for from had has have her his in into is it its of on or so such than that the their "
    "then they this to was were when where which while who whose will with und der die das mit von zu ein eine".split()
)
_MIN_LENGTH: Final = 3
_MIN_COPY: Final = 12
"""The length from which a single word that stands in the example was copied. A shorter one may be a coincidence."""


@dataclass(frozen=True, slots=True)
class Tidied:
    """A value without the faults of small models.

    Attributes:
        value: The value, as JSON data.
        notes: What was changed, in words.
        copied: The places of texts that were copied from an example of the prompt, and cannot be left out.
    """

    value: Any
    notes: tuple[str, ...]
    copied: tuple[str, ...]


def tidy(data: Any, json_schema: JSONSchema, samples: Collection[str] = ()) -> Tidied:
    """Remove the faults of small models from a value.

    Args:
        data: The value, as JSON data that matches the schema.
        json_schema: The schema that the engine was held to.
        samples: The texts in the prompt's examples; see ``sample_texts``.
    """
    tidier = _Tidier(json_schema, samples)
    value = tidier.value(data, json_schema, "", "")
    return Tidied(value, tuple(tidier.notes), tuple(tidier.copied))


def sample_texts(answers: Iterable[str]) -> frozenset[str]:
    """Return the texts in values that are given as JSON, for ``tidy``. Other answers have none."""
    found: set[str] = set()
    for answer in answers:
        with suppress(ValueError):
            found.update(text.casefold() for text in _texts(json.loads(answer)))
    return frozenset(found)


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, dict | list):
        for inner in data.values() if isinstance(data, dict) else data:
            yield from _texts(inner)
    elif isinstance(data, str):
        yield data


class _Tidier:
    def __init__(self, root: JSONSchema, samples: Collection[str]) -> None:
        self._root = root
        self._samples = samples
        self.notes: list[str] = []
        self.copied: list[str] = []

    def value(self, data: Any, schema: Any, name: str, place: str) -> Any:
        """Return one value. ``name`` is its field's name, ``place`` its path."""
        schema = self._resolve(schema, data)
        if isinstance(data, dict):
            fields = schema.get("properties") or dict.fromkeys(data, schema.get("additionalProperties"))
            return {key: self.value(inner, fields.get(key), key, f"{place}.{key}") for key, inner in data.items()}
        if isinstance(data, list):
            return self._list(data, schema, name, place)
        if not isinstance(data, str) or {"enum", "const", "format"} & schema.keys():
            return data
        if self._is_copied(data):
            self.copied.append(_named(place))
        return self._text(data, schema, name, place)

    def _resolve(self, schema: Any, data: Any) -> JSONSchema:
        """Return a schema without references, and of a union the member for the data."""
        for _ in range(20):
            if not isinstance(schema, Mapping):
                return {}
            if "$ref" in schema:
                schema = resolve_reference(schema, self._root)
                continue
            options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
            if not options:
                return schema
            kinds: dict[type[Any], str] = {dict: "object", list: "array", str: "string"}
            inner = [option if "$ref" not in option else resolve_reference(option, self._root) for option in options]
            schema = next((option for option in inner if option.get("type") == kinds.get(type(data))), {})
        return {}

    def _list(self, data: list[Any], schema: JSONSchema, name: str, place: str) -> list[Any]:
        inner = schema.get("items")
        if inner is None:
            return data
        is_compared = self._is_compared(data, inner)
        is_copy = is_compared and len(data) > 1 and all(entry.casefold() in self._samples for entry in data)
        own = [entry for entry in data if not self._is_copied(entry)] if is_compared and not is_copy else data
        if own and _least(schema) <= len(own) < len(data):
            surplus = len(data) - len(own)
            self._note(place, f"removed {surplus} {'entry' if surplus == 1 else 'entries'} of the example")
            data = own
        before = len(self.copied)
        found = [self.value(entry, inner, name, f"{place}[{number}]") for number, entry in enumerate(data)]
        if is_copy:
            self.copied[before:] = [_named(place)]
        words = {singular(word) for word in words_of(name)[-1:]}
        if words & _REPEATED or not all(isinstance(entry, str | dict) for entry in found):
            return self._numbered(found, words, place)
        distinct: dict[str, Any] = {}
        for entry in found:
            distinct.setdefault(_key(entry), entry)
        surplus = len(found) - len(distinct)
        if surplus and len(distinct) >= _least(schema):
            self._note(place, f"removed {surplus} repeated {'entry' if surplus == 1 else 'entries'}")
            found = list(distinct.values())
        return self._numbered(found, words, place)

    def _is_compared(self, entries: list[Any], schema: Any) -> bool:
        """True if the entries of a list are compared with the example: texts that are no choices."""
        is_choice = {"enum", "const"} & self._resolve(schema, "").keys()
        return not is_choice and all(isinstance(entry, str) for entry in entries)

    def _is_copied(self, text: str) -> bool:
        """True if a text stands in the example, and not by coincidence, as the name of a country might."""
        return text.casefold() in self._samples and (" " in text or len(text) >= _MIN_COPY)

    def _numbered(self, entries: list[Any], words: set[str], place: str) -> list[Any]:
        """Number the entries of a list from 1 if they are steps and their numbers are not in order."""
        if len(entries) < 2 or not all(isinstance(entry, dict) for entry in entries):
            return entries
        for field in entries[0]:
            if field.casefold() not in (_NUMBERED if words & _ORDERED else words):
                continue
            numbers = [entry.get(field) for entry in entries]
            if not all(type(number) is int for number in numbers):
                continue
            if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
                self._note(place, "numbered in order")
                return [{**entry, field: number} for number, entry in enumerate(entries, 1)]
        return entries

    def _text(self, data: str, schema: JSONSchema, name: str, place: str) -> str:
        length = schema.get("maxLength")
        text = data.strip()
        shorter = text.rstrip(" ,")
        has_form = "pattern" in schema and schema.get("$comment") != ASSUMED_FORM
        may_end_in_comma = has_form or "\n" in text or _ENDS_IN_COMMA & {singular(word) for word in words_of(name)}
        if shorter != text and not may_end_in_comma and len(shorter) >= max(1, int(schema.get("minLength") or 0)):
            self._note(place, "removed the comma at the end")
            text = shorter
        if length is None or len(data) < length or " " not in text:
            return text
        shorter = _cut(text, is_prose=text_kind(name).is_prose)
        if len(shorter) < max(_MIN_LENGTH, int(schema.get("minLength") or 0)):
            return text
        self._note(place, f"shortened from {len(data)} characters to {len(shorter)}")
        return shorter

    def _note(self, place: str, change: str) -> None:
        self.notes.append(f"{_named(place)}: {change}")


def _named(place: str) -> str:
    return place.lstrip(".") or "value"


def _least(schema: JSONSchema) -> int:
    """Return how many entries a list must have by its author's schema."""
    return 1 if schema.get("$comment") == ASSUMED_MINIMUM else int(schema.get("minItems") or 0)


def _key(entry: Any) -> str:
    """Return what makes an entry different from others: its texts, or all of it if it has none."""
    if isinstance(entry, dict):
        return "\n".join(_key(inner) for inner in entry.values() if isinstance(inner, str)) or repr(entry)
    return str(entry).casefold().strip(" .,;:!")


def _cut(text: str, *, is_prose: bool) -> str:
    """Return a text that stopped at its limit, up to its last sentence, or up to a word that it may end in."""
    end = settled_text(f"{text[:-1].rstrip()} ") if is_prose else 0
    if end > len(text) // 4:
        return text[:end].rstrip()
    words = text.split()[:-1]
    while len(words) > 1 and words[-1].casefold().strip(",;:.–—-(") in _OPEN_ENDS:
        words.pop()
    shorter = " ".join(words).rstrip(" ,;:–—-(/&.…")
    return f"{shorter}." if is_prose and shorter else shorter
