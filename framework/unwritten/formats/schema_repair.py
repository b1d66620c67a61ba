"""Repair: from what a model wrote for a shape to a value of it, as far as that goes without inventing anything.

What is not quite JSON is read loosely; then the data is fitted to the shape: numbers are brought inside their bounds,
texts that are too long are cut at a word, words that mean a choice become that choice. Every repair is told.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError

from unwritten_engine.errors import RequestRefused
from unwritten_engine.json_grammar import compact_json, number_bounds

from ..core.errors import SchemaMismatch
from .lenient_json import LenientValue, parse_lenient
from .schema import adapter, schema_of

_NO_JSON = "there is no JSON in it that has its fields"


@dataclass(frozen=True, slots=True)
class RepairResult:
    """A value of a shape.

    Attributes:
        value: an instance.
        text: the same as JSON.
        repairs: what had to be repaired, in words; empty if nothing had.
    """

    value: Any
    text: str
    repairs: tuple[str, ...] = ()


def repair(shape: type[Any], text: str) -> RepairResult:
    """The value that a finished text is meant to be.

    Args:
        shape: a pydantic model or a dataclass.
        text: what the model wrote.

    Raises:
        Misshapen: if too much is missing; the message says what.
    """
    try:
        return RepairResult(adapter(shape).validate_json(text), text.strip())
    except ValidationError:
        pass
    schema = schema_of(shape)
    problem = _NO_JSON
    for loose in _likely(text, schema):
        try:
            return _fitted(shape, schema, loose)
        except _Unfit as unfit:
            problem = problem if problem != _NO_JSON else str(unfit)
    raise SchemaMismatch(f"What was written does not fit the shape {shape.__name__}: {problem}.")


class _Unfit(Exception):
    """The data cannot be made to fit."""


def _likely(text: str, schema: Mapping[str, Any]) -> list[LenientValue]:
    """What in a text may be the value, the likeliest first: what has most of the names that the shape has."""
    found = list(parse_lenient(text))
    lines = _lines(text, schema)
    if lines is not None:
        found.append(lines)
    names = {normalize_name(name) for name in schema.get("properties", {})}
    known = [(_known(_unwrapped(loose, names).data, names), loose) for loose in found]
    return [loose for count, loose in sorted(known, key=lambda one: -one[0]) if count or not names]


def _known(data: Any, names: set[str]) -> int:
    return len(names & {normalize_name(name) for name in data}) if isinstance(data, dict) else 0


def _unwrapped(loose: LenientValue, names: set[str]) -> LenientValue:
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


def _lines(text: str, schema: Mapping[str, Any]) -> LenientValue | None:
    """Lines such as ``- **Known for:** fog`` as an object."""
    names = {normalize_name(name): name for name in schema.get("properties", {})}
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, mark, value = line.partition(":") if ":" in line else line.partition("=")
        value = value.strip(" \t*_`\"',")
        if mark and value and normalize_name(name) in names:
            found.setdefault(names[normalize_name(name)], value)
    return LenientValue(found, ["read from lines of prose"]) if found else None


def _fitted(shape: type[Any], schema: Mapping[str, Any], loose: LenientValue) -> RepairResult:
    """The value of loose data.

    Raises:
        _Unfit: if there is none; the message says why.
    """
    while True:
        fitting = Coercion(schema)
        data = fitting.coerce(loose.data)
        try:
            value = adapter(shape).validate_json(compact_json(data))
            return RepairResult(value, compact_json(data), (*loose.notes, *fitting.notes))
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


Schema = Mapping[str, Any]


_NOTHING: Final = {"", "null", "none", "na", "unknown", "nil"}


_YES: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


_DIGITS = re.compile(r"[-+]?\d+(?:[,_ ']\d{3})*(?:\.\d+)?")


_DATES: Final = ("%d %B %Y", "%B %d, %Y", "%B %d %Y", "%d %b %Y", "%b %d, %Y", "%Y/%m/%d", "%d.%m.%Y")


_NEAR: Final = 0.75
"""How like a choice a word must be, from 0 to 1."""


def normalize_name(text: object) -> str:
    """Letters and digits alone, for comparison: "Known for", known_for and knownFor are one."""
    return "".join(char for char in str(text).casefold() if char.isalnum())


class Coercion:
    """Fits data to one schema.

    Args:
        schema: a JSON schema, as pydantic makes them.

    Attributes:
        notes: what was changed, in words, each with its place.
    """

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self.notes: list[str] = []

    def coerce(self, data: Any) -> Any:
        """The data as the schema wants it, as far as that goes."""
        return self._fit(data, self._root, "")

    def _note(self, path: str, what: str) -> None:
        self.notes.append(f"{path.lstrip('.') or 'the value'}: {what}")

    def _became(self, path: str, before: Any, after: Any) -> Any:
        self._note(path, f"{_short(before)} became {_short(after)}")
        return after

    def _resolved(self, schema: Any) -> Schema:
        for _ in range(20):
            if not isinstance(schema, Mapping):
                return {}
            if "$ref" in schema:
                target: Any = self._root
                for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
                    target = target.get(part, {}) if part and isinstance(target, Mapping) else target
                schema = target
            elif len(schema.get("allOf", ())) == 1:
                schema = schema["allOf"][0]
            else:
                return schema
        return {}

    def _fit(self, data: Any, schema: Any, path: str) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return data if data == schema["const"] else self._became(path, data, schema["const"])
        if "enum" in schema:
            return self._choice(data, schema["enum"], path)
        options = schema.get("anyOf") or schema.get("oneOf")
        if options is None and isinstance(schema.get("type"), list):
            options = [{**schema, "type": kind} for kind in schema["type"]]
        if options is not None:
            return self._union(data, [self._resolved(one) for one in options], path)
        match schema.get("type"):
            case "object":
                return self._object(data, schema, path)
            case "array":
                return self._array(data, schema, path)
            case "string":
                return self._text(data, schema, path)
            case "integer" | "number":
                return self._number(data, schema, path)
            case "boolean":
                known = (
                    _YES.get(normalize_name(data))
                    if isinstance(data, str | int) and not isinstance(data, bool)
                    else None
                )
                return data if known is None else self._became(path, data, known)
            case "null":
                return data if data is None or normalize_name(data) not in _NOTHING else self._became(path, data, None)
        return data

    # -- one of several -----------------------------------------------------------------------------------

    def _choice(self, data: Any, choices: Sequence[Any], path: str) -> Any:
        """The choice that is meant: the same but for case and marks, named in the text, or nearly so."""
        if data in choices or data is None:
            return data
        said = normalize_name(data if isinstance(data, str) else json.dumps(data))
        names = {
            normalize_name(choice if isinstance(choice, str) else json.dumps(choice)): choice for choice in choices
        }
        if said in names:
            return self._became(path, data, names[said])
        words = re.findall(r"\w+", str(data).casefold())
        inside = [name for name in names if name in words or (len(name) > 3 and name in said)]
        if len(inside) == 1:
            return self._became(path, data, names[inside[0]])
        near = difflib.get_close_matches(said, names, n=1, cutoff=_NEAR)
        return self._became(path, data, names[near[0]]) if near else data

    def _union(self, data: Any, options: Sequence[Schema], path: str) -> Any:
        null = any(one.get("type") == "null" or ("const" in one and one["const"] is None) for one in options)
        options = [one for one in options if one.get("type") != "null"]
        says_nothing = isinstance(data, str) and normalize_name(data) in _NOTHING
        if null and says_nothing and not any(one.get("type") == "string" for one in options):
            return self._became(path, data, None)
        if null and data is None:
            return None
        if not options:
            return data
        return self._fit(data, max(options, key=lambda one: self._likeness(data, one)), path)

    def _likeness(self, data: Any, schema: Schema) -> float:
        """How much data looks like a value of a schema."""
        kind = schema.get("type")
        if "const" in schema or "enum" in schema:
            return 3 if data in schema.get("enum", [schema.get("const")]) else 0.5
        if isinstance(data, dict):
            properties = schema.get("properties", {})
            fixed = [(n, self._resolved(s)) for n, s in properties.items()]
            meant = sum(2 for name, one in fixed if "const" in one and data.get(name) == one["const"])
            return (kind == "object") + meant + len(set(properties) & set(data)) / (1 + len(properties))
        kinds: list[tuple[type[Any], str]] = [(bool, "boolean"), (int, "integer"), (int, "number"), (float, "number")]
        kinds += [(str, "string"), (list, "array")]
        if isinstance(data, bool):
            return kind == "boolean"
        return any(isinstance(data, type_) and kind == name for type_, name in kinds)

    # -- values of one type -------------------------------------------------------------------------------

    def _object(self, data: Any, schema: Schema, path: str) -> Any:
        if not isinstance(data, dict):
            return data
        properties: Schema = schema.get("properties", {})
        if not properties:
            inner = schema.get("additionalProperties", {})
            return {str(name): self._fit(value, inner, f"{path}.{name}") for name, value in data.items()}
        names = {normalize_name(name): name for name in properties}
        given: dict[str, Any] = {}
        for name, value in data.items():
            meant = name if name in properties else names.get(normalize_name(name))
            if meant is None:
                if schema.get("additionalProperties") is False:
                    self._note(f"{path}.{name}", "is left out: the shape has no such field")
                continue
            if meant != name:
                self._note(f"{path}.{meant}", f"was called {name!r}")
            given.setdefault(meant, value)
        found: dict[str, Any] = {}
        for name, inner in properties.items():
            if name in given:
                found[name] = self._fit(given[name], inner, f"{path}.{name}")
            elif name in schema.get("required", ()):
                self._missing(found, name, self._resolved(inner), f"{path}.{name}")
        return found

    def _missing(self, found: dict[str, Any], name: str, schema: Schema, path: str) -> None:
        options = [self._resolved(one) for one in schema.get("anyOf", ())]
        if schema.get("type") == "null" or any(one.get("type") == "null" for one in options):
            found[name] = self._became(path, "nothing", None)
        elif schema.get("type") == "array" and "items" in schema and not schema.get("minItems"):
            found[name] = self._became(path, "nothing", [])

    def _array(self, data: Any, schema: Schema, path: str) -> Any:
        if first := schema.get("prefixItems"):
            if not isinstance(data, list):
                return data
            return [
                self._fit(item, one, f"{path}[{n}]") for n, (item, one) in enumerate(zip(data, first, strict=False))
            ]
        inner = self._resolved(schema.get("items", {}))
        if isinstance(data, dict) and inner.get("type") != "object":
            data = self._became(path, data, list(data.values()))
        elif isinstance(data, str):
            parts = re.split(r"\s*(?:\n|;|,)\s*", data.strip(" []")) if inner.get("type") != "object" else [data]
            data = self._became(path, data, [part for part in parts if part])
        elif not isinstance(data, list) and data is not None:
            data = self._became(path, data, [data])
        if not isinstance(data, list):
            return data
        items = [item for item in data if item is not None or "type" not in inner or inner["type"] == "null"]
        most = schema.get("maxItems")
        if most is not None and len(items) > most:
            self._note(path, f"{len(items)} entries were cut to {most}")
            items = items[:most]
        return [self._fit(item, inner, f"{path}[{n}]") for n, item in enumerate(items)]

    def _text(self, data: Any, schema: Schema, path: str) -> Any:
        if isinstance(data, list) and data and all(isinstance(one, str) for one in data):
            data = self._became(path, data, ", ".join(data))
        elif isinstance(data, bool | int | float):
            data = self._became(path, data, json.dumps(data))
        if not isinstance(data, str):
            return data
        if schema.get("format") == "date":
            return self._date(data, path)
        most = schema.get("maxLength")
        if most is not None and len(data) > most:
            shorter = cut_at_a_word(data, most)
            self._note(path, f"{len(data)} characters were cut to {len(shorter)}")
            return shorter
        return data

    def _date(self, data: str, path: str) -> str:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", data):
            return data
        if found := re.search(r"\b\d{4}-\d{2}-\d{2}\b", data):
            return str(self._became(path, data, found[0]))
        plain = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", data.strip(" ."))
        for form in _DATES:
            try:
                found_date = datetime.strptime(plain, form).date()
            except ValueError:
                continue
            return str(self._became(path, data, found_date.isoformat()))
        return data

    def _number(self, data: Any, schema: Schema, path: str) -> Any:
        whole = schema.get("type") == "integer"
        if isinstance(data, str):
            found = _DIGITS.search(data)
            if found is None:
                return data
            digits = re.sub(r"[,_ ']", "", found[0])
            data = self._became(path, data, float(digits) if "." in digits else int(digits))
        if not isinstance(data, int | float) or isinstance(data, bool):
            return data
        if whole and isinstance(data, float):
            data = self._became(path, data, round(data)) if data != int(data) else int(data)
        if (step := schema.get("multipleOf")) and data % step:
            data = self._became(path, data, round(data / step) * step)
        try:
            least, most, places = number_bounds(schema, path or "the value", whole=whole)
        except RequestRefused:
            return data
        scale = Decimal(10) ** places
        value = Decimal(str(data)) * scale
        low = {"minimum", "exclusiveMinimum"} & schema.keys()
        high = {"maximum", "exclusiveMaximum"} & schema.keys()
        inside = least if low and value < least else most if high and value > most else None
        if inside is None:
            return data
        return self._became(path, data, int(inside / scale) if whole else float(inside / scale))


def cut_at_a_word(text: str, most: int) -> str:
    """The beginning of a text, with at most so many characters, cut after a word if there is one in its second half."""
    text = text.strip()
    if len(text) <= most:
        return text
    found = re.match(r".*\S(?=\s)", text[: most + 1], re.DOTALL)
    cut = found[0] if found and found.end() >= most // 2 else text[:most]
    return cut.rstrip().rstrip(",;:–—-") or cut


def _short(value: Any) -> str:
    text = value if value == "nothing" else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:39]}…"
