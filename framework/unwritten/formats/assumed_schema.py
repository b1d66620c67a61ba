"""Assumed bounds: what a schema leaves open, filled in from the names, descriptions and types of its fields.

A small model that is only held to a schema writes "serves 491509420". ``assume`` returns the schema with the range,
length and form that such fields usually have, for the engine's grammar. They are assumptions: a value is checked
against the author's schema alone, a bound that the author sets is never changed, and the default and the examples of a
field are always possible. An empty default only means that a value may be missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeGuard

from unwritten_engine.json_grammar import DEFAULT_MAX_ITEMS, DEFAULT_MAX_LENGTH

from ..core.errors import PageFailed
from .field_kinds import (
    DATE_PATTERNS,
    UNKNOWN_TEXT,
    NumberKind,
    TextKind,
    number_kind,
    singular,
    text_kind,
    words_of,
)
from .schema import json_schema_of, parse_value, resolve_reference

JSONSchema: TypeAlias = Mapping[str, Any]

ASSUMED_MINIMUM: Final = "The minimum is assumed."
"""Marks lists that may have fewer entries than the engine is asked for. Grammars ignore it."""
ASSUMED_FORM: Final = "The pattern is assumed."
"""Marks texts that may have another form. Grammars ignore it."""
_SCALES: Final = (1.0, 0.8, 0.6, 0.45, 0.3)
"""By how much assumed lengths are shortened, until a value of this length fits into its canvas."""
_CHARS_PER_TOKEN: Final = 4
_MIN_LENGTH: Final = 20
_MAX_NUMBER: Final = 1e15
_TEXT_BOUNDS: Final = ("minLength", "maxLength", "pattern")
_SUBJECTS: Final = ("Green Umbrella", "Marden Quay")
"""Subjects of the derived examples."""


@dataclass(frozen=True, slots=True)
class AssumedSchema:
    """A schema with assumed bounds.

    Attributes:
        json_schema: The JSON schema, for the engine. Do not change it.
        bounds: The assumptions, in words: "servings: 1 to 10". Empty if the author left nothing open.
    """

    json_schema: JSONSchema
    bounds: tuple[str, ...]


def assume(schema: Any, tokens: int) -> AssumedSchema:
    """Return the JSON schema of a type with assumed bounds where its author set none.

    Args:
        schema: A pydantic model or a dataclass.
        tokens: The length of the canvas. Assumed lengths are shortened until values fit.
    """
    return _assume(schema, tokens)  # mypy rejects type[Any] as an argument of a cached function


@lru_cache(512)
def _assume(schema: Any, tokens: int) -> AssumedSchema:
    root = json_schema_of(schema)
    found = _Assumptions(root, _SCALES[0])
    json_schema = found.schema()
    for scale in _SCALES[1:]:
        if _estimate_tokens(json_schema, json_schema) <= tokens:
            break
        found = _Assumptions(root, scale)
        json_schema = found.schema()
    return AssumedSchema(json_schema, tuple(found.bounds))


class _Assumptions:
    """One pass over a JSON schema.

    Args:
        root: The JSON schema.
        scale: By how much to shorten texts and lists.
    """

    def __init__(self, root: JSONSchema, scale: float) -> None:
        self._root = root
        self._scale = scale
        self.bounds: list[str] = []

    def schema(self) -> JSONSchema:
        """Return the root with its definitions."""
        root = self._root
        whole = dict(self._field(root, str(root.get("title", "")), ""))
        if definitions := root.get("$defs"):
            whole["$defs"] = {name: self._field(inner, name, "") for name, inner in definitions.items()}
        return whole

    def _field(self, schema: Any, name: str, place: str, parent: str = "", named: Sequence[Any] = ()) -> Any:
        """Return the schema of a field.

        Args:
            schema: Its schema.
            name: Its name; for the entries of a list, the list's name.
            place: Its path, for ``bounds``.
            parent: The name of the model that has the field.
            named: The values that the author names: its default and its examples.
        """
        if not isinstance(schema, Mapping) or {"$ref", "const", "enum"} & schema.keys():
            return schema
        named = (*named, *schema.get("examples", ()), schema.get("default"))
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                options = [option for option in schema[key] if not _is_decimal_text(option, schema[key])]
                inner = [self._field(option, name, place, parent, named) for option in options]
                return {**schema, key: inner}
        match schema.get("type"):
            case "object":
                return self._object(schema, name, place)
            case "array":
                return self._array(schema, name, place, [value for value in named if isinstance(value, list)])
            case "integer" | "number":
                return self._number(schema, name, place, parent, [value for value in named if _is_number(value)])
            case "string":
                return self._text(schema, name, place, parent, [value for value in named if isinstance(value, str)])
        return schema

    def _object(self, schema: JSONSchema, name: str, place: str) -> JSONSchema:
        if properties := schema.get("properties"):
            title = str(schema.get("title", name))
            prefix = f"{place}." if place else f"{title}." if schema is not self._root else ""
            fields = {key: self._field(inner, key, f"{prefix}{key}", title) for key, inner in properties.items()}
            return {**schema, "properties": fields}
        inner = schema.get("additionalProperties")
        if not isinstance(inner, Mapping):
            return schema
        bounded = {**schema, "additionalProperties": self._field(inner, name, f"{place}.*")}
        if not {"minProperties", "maxProperties"} & schema.keys():
            bounded |= {"minProperties": 1, "maxProperties": 4}
            self.bounds.append(f"{place}: 1 to 4 entries")
        return bounded

    def _array(self, schema: JSONSchema, name: str, place: str, named: Sequence[list[Any]]) -> JSONSchema:
        if prefix := schema.get("prefixItems"):
            return {**schema, "prefixItems": [self._field(inner, name, f"{place}[]") for inner in prefix]}
        items = schema.get("items")
        if not isinstance(items, Mapping):
            return schema
        entries = [entry for value in named for entry in value]
        bounded = {**schema, "items": self._field(items, name, f"{place}[]", named=entries)}
        has_minimum, has_maximum = schema.get("minItems") is not None, schema.get("maxItems") is not None
        target = resolve_reference(items, self._root) if "$ref" in items else items
        if (has_minimum and has_maximum) or self._is_recursive(items):
            return bounded
        most = 4 if target.get("type") == "object" else 5
        low, high = 2, max(2, round(most * self._scale))
        if choices := target.get("enum"):
            low, high = 1, min(high, len(choices))
        lengths = [len(value) for value in named if value]
        low, high = min([low, *lengths]), max([high, *lengths])
        if has_maximum:  # a shorter list is possible, an empty one is not plausible
            low, high = min(1, schema["maxItems"]), schema["maxItems"]
        elif has_minimum:
            low, high = schema["minItems"], max(high, schema["minItems"])
        self.bounds.append(f"{place}: {low} to {high} entries")
        own = {} if has_minimum else {"$comment": ASSUMED_MINIMUM}
        return {**bounded, **own, "minItems": low, "maxItems": high}

    def _is_recursive(self, items: JSONSchema) -> bool:
        """True if an entry may contain entries like itself, which a minimum would make endless."""
        ref = items.get("$ref")
        seen: set[str] = set()
        waiting = list(_refs(resolve_reference(items, self._root))) if ref else []
        while waiting:
            inner = waiting.pop()
            if inner == ref:
                return True
            if inner not in seen:
                seen.add(inner)
                waiting += _refs(resolve_reference({"$ref": inner}, self._root))
        return False

    def _number(self, schema: JSONSchema, name: str, place: str, parent: str, named: Sequence[float]) -> JSONSchema:
        low, high = _author_bounds(schema)
        if (low is not None and high is not None) or "multipleOf" in schema:
            return schema
        whole = schema["type"] == "integer"
        kind = number_kind(name, str(schema.get("description", "")), whole=whole, parent=parent)
        bounded = dict(schema)
        if low is None:
            usual = kind.low if high is None or kind.low < high else min(0, high - 100)
            bounded["minimum"] = min([usual, *named])
        if high is None:
            usual = kind.high if low is None or kind.high > low else low + max(100, abs(low))
            bounded["maximum"] = max([usual, *named])
        if whole:
            bounded |= {
                key: int(bounded[key]) for key in ("minimum", "maximum") if key in bounded and key not in schema
            }
        least, most = bounded.get("minimum", low), bounded.get("maximum", high)
        self.bounds.append(f"{place}: {least:.10g} to {most:.10g}")
        return bounded

    def _text(self, schema: JSONSchema, name: str, place: str, parent: str, named: Sequence[str]) -> JSONSchema:
        if any(schema.get(key) is not None for key in _TEXT_BOUNDS):
            return schema
        if form := schema.get("format"):
            key = "birth" if form == "date" and {"birth", "born", "birthday"} & set(words_of(name)) else form
            pattern = DATE_PATTERNS.get(key, "")
            return {**schema, "pattern": pattern} if pattern and _match(pattern, named) else schema
        kind = text_kind(name, parent)
        if kind.is_form and not _match(kind.pattern, named):  # the author's values have another form
            kind = UNKNOWN_TEXT
        length = kind.length if kind.is_form else max(_MIN_LENGTH, round(kind.length * self._scale))
        length = max([length, *(min(len(text), DEFAULT_MAX_LENGTH) for text in named)])
        self.bounds.append(f"{place}: up to {length} characters")
        bounded = {**schema, "maxLength": length}
        pattern = kind.pattern_for(length)
        is_usable = pattern and _match(pattern, named)
        return {**bounded, "$comment": ASSUMED_FORM, "pattern": pattern} if is_usable else bounded


def _author_bounds(schema: JSONSchema) -> tuple[float | None, float | None]:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    return low, high


def _is_number(value: Any) -> TypeGuard[float]:
    """True for a number that can be a bound."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER


def _match(pattern: str, texts: Sequence[str]) -> bool:
    """True if all texts match a pattern. Empty ones do not count."""
    return all(re.search(pattern, text) for text in texts if text)


def _is_decimal_text(option: Any, options: Sequence[Any]) -> bool:
    """True for the text that pydantic accepts in place of a ``Decimal``. A number is written instead."""
    is_text = isinstance(option, Mapping) and option.get("type") == "string" and option.keys() <= {"type", "pattern"}
    return is_text and any(isinstance(other, Mapping) and other.get("type") == "number" for other in options)


def _refs(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for inner in schema.values():
            yield from _refs(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _refs(inner)


def _estimate_tokens(schema: Any, root: JSONSchema, depth: int = 0) -> float:
    """Return the tokens of a long value of a schema."""
    if not isinstance(schema, Mapping) or depth > 6:
        return 0
    if "$ref" in schema:
        return _estimate_tokens(resolve_reference(schema, root), root, depth + 1)
    if "enum" in schema or "const" in schema:
        return (
            1 + max(len(json.dumps(choice)) for choice in schema.get("enum", [schema.get("const")])) / _CHARS_PER_TOKEN
        )
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return max(_estimate_tokens(option, root, depth + 1) for option in schema[key])
    match schema.get("type"):
        case "object" if properties := schema.get("properties"):
            names = sum(2 + len(name) / 3 for name in properties)
            return names + sum(_estimate_tokens(inner, root, depth + 1) for inner in properties.values())
        case "object":
            inner = _estimate_tokens(schema.get("additionalProperties"), root, depth + 1)
            return float(schema.get("maxProperties", DEFAULT_MAX_ITEMS)) * (8 + inner)
        case "array" if "items" in schema:
            inner = _estimate_tokens(schema["items"], root, depth + 1)
            return float(schema.get("maxItems", DEFAULT_MAX_ITEMS)) * (1 + inner)
        case "array":
            return sum(_estimate_tokens(inner, root, depth + 1) for inner in schema.get("prefixItems", ()))
        case "string":
            # Most texts are shorter than their limit.
            return (
                2
                + 0.7
                * float(schema.get("maxLength", DEFAULT_MAX_LENGTH if "format" not in schema else 24))
                / _CHARS_PER_TOKEN
            )
        case "integer" | "number":
            return 4
    return 2


# -- examples -----------------------------------------------------------------------------------------------


def example_values(schema: type[Any], tokens: int) -> list[tuple[str, str]]:
    """Return subjects, each with a value of a schema as JSON, from which a base model sees the form of an answer.

    The values are ordinary, and have nothing to do with any page. There are none for a schema with a form that they do
    not have, such as that of a ``pattern``: an example that breaks it would mislead.
    """
    json_schema = assume(schema, tokens).json_schema
    examples = []
    for number, subject in enumerate(_SUBJECTS):
        try:
            value = _compact(_Sample(json_schema, subject, number).value(json_schema, "", 0))
            parse_value(schema, value)
        except (PageFailed, RecursionError):
            continue
        examples.append((subject, value))
    return examples


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Sample:
    """A sample value.

    Args:
        root: The JSON schema.
        subject: What the value is about: its first name or title.
        number: Which of the samples to use.
    """

    def __init__(self, root: JSONSchema, subject: str, number: int) -> None:
        self._root = root
        self._subject = subject
        self._number = number
        self._used_subject = False
        self._open: list[str] = []

    def value(self, schema: Any, name: str, turn: int, depth: int = 0, parent: str = "") -> Any:
        """Return a value of a schema.

        Args:
            schema: The schema.
            name: The field's name.
            turn: Its place in a list.
            depth: How deep it is nested.
            parent: The name of the model that has the field.
        """
        if ref := schema.get("$ref"):
            self._open.append(ref)
            try:
                return self.value(resolve_reference(schema, self._root), name, turn, depth, parent)
            finally:
                self._open.pop()
        if own := schema.get("examples"):
            return own[(self._number + turn) % len(own)]
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            return choices[(self._number + turn) % len(choices)]
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                options = schema[key]
                option = next((option for option in options if not self._repeats(option)), options[0])
                return self.value(option, name, turn, depth, parent)
        match schema.get("type"):
            case "object" if properties := schema.get("properties"):
                title = str(schema.get("title", name))
                return {key: self.value(inner, key, turn, depth + 1, title) for key, inner in properties.items()}
            case "object":
                inner = schema.get("additionalProperties")
                keys = ("first", "second") if inner and not self._repeats(inner) else ()
                return {key: self.value(inner, name, n, depth + 1) for n, key in enumerate(keys)}
            case "array" if prefix := schema.get("prefixItems"):
                return [self.value(inner, name, n, depth + 1) for n, inner in enumerate(prefix)]
            case "array":
                low, high = schema.get("minItems", 0), schema.get("maxItems", DEFAULT_MAX_ITEMS)
                length = 0 if self._repeats(schema["items"]) and not low else min(high, max(low, 2 + self._number % 2))
                return [self.value(schema["items"], name, n, depth + 1) for n in range(length)]
            case "integer" | "number":
                return self._number_value(schema, name, turn, parent)
            case "string":
                return self._text_value(schema, name, turn, parent)
            case "boolean":
                return (self._number + turn) % 2 == 0
        return None

    def _repeats(self, schema: JSONSchema) -> bool:
        """True for a definition inside itself, where the sample ends. It may be there once, to show the form."""
        return self._open.count(schema.get("$ref", "")) > 1

    def _number_value(self, schema: JSONSchema, name: str, turn: int, parent: str) -> float:
        low, high = _author_bounds(schema)
        whole = schema["type"] == "integer"
        kind: NumberKind = number_kind(name, str(schema.get("description", "")), whole=whole, parent=parent)
        chosen = kind.samples[(self._number + turn) % len(kind.samples)]
        if singular(words_of(name)[-1] if words_of(name) else "") in ("number", "no", "index", "step", "order"):
            chosen = turn + 1
        low, high = low if low is not None else chosen, high if high is not None else chosen
        if not low <= chosen <= high:
            chosen = low + (high - low) * (0.3 + 0.2 * self._number)
        return round(chosen) if whole else round(chosen, 2)

    def _text_value(self, schema: JSONSchema, name: str, turn: int, parent: str) -> str:
        kind: TextKind = text_kind(name, parent)
        forms = {"date": "2021-04-17 2023-09-05 2019-11-22", "time": "09:30:00Z 14:15:00Z 19:00:00Z"}
        forms["date-time"] = "2021-04-17T09:30:00Z 2023-09-05T14:15:00Z 2019-11-22T19:00:00Z"
        forms["email"] = "ruth@post.org jonas@lindmail.eu maya@brandt.net"
        forms["duration"] = "PT40M PT2H PT15M"
        forms["uuid"] = (
            "1f0c9b5e-52d7-4c1a-9b3e-7a2d40c8e611 8a3e6d42-0b97-4f5d-8c21-d95b17e0f4a3 "
            "c47d2e90-6a1b-4e83-b05f-3f8819d6ca27"
        )
        forms["uri"] = "https://okafor.org https://lind-works.eu https://brandt.net"
        form = schema.get("format")
        if form in forms:
            return forms[form].split()[(self._number + turn) % 3]
        length = int(schema.get("maxLength") or kind.length)
        samples = kind.samples or UNKNOWN_TEXT.samples
        # Lists have two entries in the first sample: a text in both would look as if it belonged to every answer.
        text = samples[(2 * self._number + turn) % len(samples)]
        if not kind.samples and not self._used_subject:
            self._used_subject = True
            text = self._subject
        return text if len(text) <= length else text[:length].rpartition(" ")[0] or text[:length]
