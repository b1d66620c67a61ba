"""Schema repair: turns what a model wrote for a schema into an instance of it, without inventing anything.

Text that is not quite JSON is parsed leniently. Then the data is coerced to the schema: numbers are moved inside their
bounds, long texts are cut at a word, words that name a choice become that choice. Every repair is reported.
"""

# Why not pydantic alone: its lax mode converts types, but does not correct values. Of 4,000 texts of the schema
# benchmark's engine "prose", 15 % are valid after lenient parsing and lax mode, and 90 % with the coercions below.
# Its errors cannot drive the repair either, because their locations mix keys with the names of union members.

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from unwritten_engine.errors import RequestRefused
from unwritten_engine.json_grammar import compact_json, number_bounds

from ..core.errors import SchemaMismatch
from .assumed_schema import AssumedSchema
from .lenient_json import MISSING, LenientValue, parse_lenient, to_number
from .schema import json_schema_of, limit_entries, read_finite, resolve_reference
from .schema_tidy import tidy

JSONSchema: TypeAlias = Mapping[str, Any]

_NO_JSON = "it contains no JSON with its fields"


@dataclass(frozen=True, slots=True)
class RepairResult:
    """A repaired value.

    Attributes:
        value: An instance of the schema.
        text: The value as JSON.
        repairs: The repairs, in words: "founded: changed 3000 to 1999". Empty if the text was valid.
        copied: The places of texts that were copied from an example of the prompt.
    """

    value: Any
    text: str
    repairs: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()


def repair(
    schema: type[Any], text: str, assumed: AssumedSchema | None = None, samples: Collection[str] = ()
) -> RepairResult:
    """Return the value that a finished text is meant to be.

    Args:
        schema: The author's schema, which decides what is valid.
        text: The text.
        assumed: The bounds that the engine was held to, if any: the value is tidied. See ``schema_tidy``.
        samples: The texts in the prompt's examples, which no value should have; see ``schema_tidy.sample_texts``.

    Raises:
        SchemaMismatch: If too much is missing. The message says what.
    """
    result = _repair(schema, limit_entries(text))
    return _tidied(schema, result, assumed, samples) if assumed else result


def _tidied(schema: type[Any], result: RepairResult, assumed: AssumedSchema, samples: Collection[str]) -> RepairResult:
    tidied = tidy(json.loads(result.text), assumed.json_schema, samples)
    result = replace(result, copied=tidied.copied)
    if not tidied.notes:
        return result
    text = compact_json(tidied.value)
    try:
        return replace(result, value=read_finite(schema, text), text=text, repairs=(*result.repairs, *tidied.notes))
    except ValueError:  # the author's schema has checks that the tidy value fails
        return result


def _repair(schema: type[Any], text: str) -> RepairResult:
    try:
        return RepairResult(read_finite(schema, text), text.strip())
    except ValueError:
        pass
    json_schema = json_schema_of(schema)
    problem = _NO_JSON
    for candidate in _candidates(text, json_schema):
        try:
            return _coerce(schema, json_schema, candidate)
        except _Mismatch as error:
            problem = problem if problem != _NO_JSON else str(error)
    raise SchemaMismatch(f"The generated text does not match the schema {schema.__name__}: {problem}.")


# -- candidates ---------------------------------------------------------------------------------------------


def _candidates(text: str, json_schema: JSONSchema) -> list[LenientValue]:
    """Return what in a text may be the value, sorted by how many of the schema's fields it has."""
    found = list(parse_lenient(text))
    from_lines = _parse_lines(text, json_schema)
    if from_lines is not None:
        found.append(from_lines)
    names = {normalize_name(name) for name in json_schema.get("properties", {})}
    counted = [(_count_fields(_unwrap(candidate, names).data, names), candidate) for candidate in found]
    return [candidate for count, candidate in sorted(counted, key=lambda pair: -pair[0]) if count or not names]


def _count_fields(data: Any, names: set[str]) -> int:
    return len(names & {normalize_name(name) for name in data}) if isinstance(data, dict) else 0


def _unwrap(candidate: LenientValue, names: set[str]) -> LenientValue:
    """Replace a list of one object, or an object with one unknown field, by the object inside."""
    data = candidate.data
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    elif isinstance(data, dict) and len(data) == 1 and not _count_fields(data, names):
        data = next(iter(data.values()))
    if data is candidate.data or not isinstance(data, dict):
        return candidate
    candidate.data = data
    candidate.notes.append("removed brackets around the value")
    return candidate


def _parse_lines(text: str, json_schema: JSONSchema) -> LenientValue | None:
    """Return lines such as ``- **Known for:** fog`` as an object, or None if no line names a field."""
    names = {normalize_name(name): name for name in json_schema.get("properties", {})}
    data: dict[str, Any] = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":") if ":" in line else line.partition("=")
        value = value.strip(" \t*_`\"',")
        if separator and value and normalize_name(name) in names:
            data.setdefault(names[normalize_name(name)], value)
    return LenientValue(data, ["read fields from lines of text"]) if data else None


def normalize_name(text: object) -> str:
    """Return only the letters and digits, in lower case: "Known for", known_for and knownFor are equal."""
    return "".join(char for char in str(text).casefold() if char.isalnum())


# -- coercion -----------------------------------------------------------------------------------------------


class _Mismatch(Exception):
    """The data cannot be made to match the schema."""


def _coerce(schema: type[Any], json_schema: JSONSchema, candidate: LenientValue) -> RepairResult:
    """Return the value of a candidate.

    Raises:
        _Mismatch: If it cannot be made to match. The message says why.
    """
    while True:
        coercion = Coercion(json_schema)
        try:
            text = compact_json(coercion.coerce(candidate.data))
            value = read_finite(schema, text)
            return RepairResult(value, text, (*candidate.notes, *coercion.notes))
        except (ValueError, ArithmeticError) as error:
            # Retry without the last entry of the innermost unclosed list: it may be incomplete.
            lists = [n for n, data in enumerate(candidate.unclosed) if isinstance(data, list) and data]
            if not lists:
                raise _Mismatch(_describe(error)) from None
        candidate.unclosed[lists[-1]].pop()
        candidate.unclosed = candidate.unclosed[: lists[-1]]
        candidate.notes.append("removed an incomplete entry")


def _describe(error: Exception) -> str:
    """Return the first problem with its place."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = re.sub(r"^(Input|Value|Field) ", lambda found: found[0].lower(), first["msg"])
    return f"{place}: {message}" if place else message


_NULL_WORDS: Final = {"", "null", "none", "na", "unknown", "nil"}
_BOOLEANS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_NUMBER = re.compile(r"[-+]?\d+(?:[,_ ']\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_DATE_FORMATS: Final = ("%d %B %Y", "%B %d, %Y", "%B %d %Y", "%d %b %Y", "%b %d, %Y", "%Y/%m/%d", "%d.%m.%Y")
_MIN_SIMILARITY: Final = 0.75
"""How similar a word must be to a choice, from 0 to 1."""


class Coercion:
    """Coerces data to a JSON schema.

    Args:
        json_schema: A JSON schema as pydantic generates it.

    Attributes:
        notes: The changes, in words, each with its place.
    """

    def __init__(self, json_schema: JSONSchema) -> None:
        self._root = json_schema
        self.notes: list[str] = []

    def coerce(self, data: Any) -> Any:
        """Return the data with everything changed that can be made to match the schema."""
        return self._value(data, self._root, "")

    def _note(self, path: str, change: str) -> None:
        self.notes.append(f"{path.lstrip('.') or 'value'}: {change}")

    def _changed(self, path: str, before: Any, after: Any) -> Any:
        self._note(path, f"changed {_shorten(before)} to {_shorten(after)}")
        return after

    def _added(self, path: str, value: Any) -> Any:
        self._note(path, f"added {_shorten(value)}")
        return value

    def _resolve(self, json_schema: Any) -> JSONSchema:
        """Return a schema without references and single-member ``allOf``."""
        for _ in range(20):
            if not isinstance(json_schema, Mapping):
                return {}
            if "$ref" in json_schema:
                json_schema = resolve_reference(json_schema, self._root)
            elif len(json_schema.get("allOf", ())) == 1:
                json_schema = json_schema["allOf"][0]
            else:
                return json_schema
        return {}

    def _value(self, data: Any, json_schema: Any, path: str) -> Any:
        schema = self._resolve(json_schema)
        if "const" in schema:
            return data if data == schema["const"] else self._changed(path, data, schema["const"])
        if "enum" in schema:
            return self._choice(data, schema["enum"], path)
        options = schema.get("anyOf") or schema.get("oneOf")
        if options is None and isinstance(schema.get("type"), list):
            options = [{**schema, "type": kind} for kind in schema["type"]]
        if options is not None:
            return self._union(data, [self._resolve(option) for option in options], path)
        match schema.get("type"):
            case "object":
                return self._object(data, schema, path)
            case "array":
                return self._array(data, schema, path)
            case "string":
                return self._string(data, schema, path)
            case "integer" | "number":
                return self._number(data, schema, path)
            case "boolean":
                return self._boolean(data, path)
            case "null":
                is_null_word = data is not None and normalize_name(data) in _NULL_WORDS
                return self._changed(path, data, None) if is_null_word else data
        return data

    # -- choices and unions -------------------------------------------------------------------------------

    def _choice(self, data: Any, choices: Sequence[Any], path: str) -> Any:
        """Return the choice that is equal apart from case and punctuation, named in the text, or similar."""
        if data in choices or data is None:
            return data
        given = normalize_name(data if isinstance(data, str) else json.dumps(data))
        names = {
            normalize_name(choice if isinstance(choice, str) else json.dumps(choice)): choice for choice in choices
        }
        if given in names:
            return self._changed(path, data, names[given])
        words = re.findall(r"\w+", str(data).casefold())
        named = [name for name in names if name in words or (len(name) > 3 and name in given)]
        if len(named) == 1:
            return self._changed(path, data, names[named[0]])
        similar = difflib.get_close_matches(given, names, n=1, cutoff=_MIN_SIMILARITY)
        return self._changed(path, data, names[similar[0]]) if similar else data

    def _union(self, data: Any, options: Sequence[JSONSchema], path: str) -> Any:
        nullable = any(
            option.get("type") == "null" or ("const" in option and option["const"] is None) for option in options
        )
        options = [option for option in options if option.get("type") != "null"]
        is_null_word = isinstance(data, str) and normalize_name(data) in _NULL_WORDS
        if nullable and is_null_word and not any(option.get("type") == "string" for option in options):
            return self._changed(path, data, None)
        if nullable and data is None:
            return None
        if not options:
            return data
        return self._value(data, max(options, key=lambda option: self._similarity(data, option)), path)

    def _similarity(self, data: Any, schema: JSONSchema) -> float:
        """Return how well data matches a member of a union. Higher is better."""
        kind = schema.get("type")
        if "const" in schema or "enum" in schema:
            return 3 if data in schema.get("enum", [schema.get("const")]) else 0.5
        if isinstance(data, dict):
            properties = schema.get("properties", {})
            fields = [(name, self._resolve(field)) for name, field in properties.items()]
            tags = sum(2 for name, field in fields if "const" in field and data.get(name) == field["const"])
            return (kind == "object") + tags + len(set(properties) & set(data)) / (1 + len(properties))
        if isinstance(data, bool):
            return kind == "boolean"
        kinds: list[tuple[type[Any], str]] = [(int, "integer"), (int, "number"), (float, "number")]
        kinds += [(str, "string"), (list, "array")]
        return any(isinstance(data, type_) and kind == name for type_, name in kinds)

    # -- values of one type -------------------------------------------------------------------------------

    def _object(self, data: Any, schema: JSONSchema, path: str) -> Any:
        if not isinstance(data, dict):
            return data
        properties: JSONSchema = schema.get("properties", {})
        if not properties:
            inner = schema.get("additionalProperties", {})
            return {str(name): self._value(value, inner, f"{path}.{name}") for name, value in data.items()}
        names = {normalize_name(name): name for name in properties}
        given: dict[str, Any] = {}
        for name, value in data.items():
            field = name if name in properties else names.get(normalize_name(name))
            if field is None:
                if schema.get("additionalProperties") is False:
                    self._note(f"{path}.{name}", "removed an unknown field")
                continue
            if field != name:
                self._note(f"{path}.{field}", f"renamed from {name!r}")
            given.setdefault(field, value)
        result: dict[str, Any] = {}
        for name, inner in properties.items():
            if name in given:
                result[name] = self._value(given[name], inner, f"{path}.{name}")
            elif name in schema.get("required", ()):
                self._missing(result, name, self._resolve(inner), f"{path}.{name}")
        return result

    def _missing(self, result: dict[str, Any], name: str, schema: JSONSchema, path: str) -> None:
        """Add null or an empty list for a missing field, if the schema allows it."""
        options = [self._resolve(option) for option in schema.get("anyOf", ())]
        if schema.get("type") == "null" or any(option.get("type") == "null" for option in options):
            result[name] = self._added(path, None)
        elif schema.get("type") == "array" and "items" in schema and not schema.get("minItems"):
            result[name] = self._added(path, [])

    def _array(self, data: Any, schema: JSONSchema, path: str) -> Any:
        if prefix := schema.get("prefixItems"):
            if not isinstance(data, list):
                return data
            pairs = zip(data, prefix, strict=False)
            return [self._value(item, inner, f"{path}[{n}]") for n, (item, inner) in enumerate(pairs)]
        inner = self._resolve(schema.get("items", {}))
        if isinstance(data, dict) and inner.get("type") != "object":
            data = self._changed(path, data, list(data.values()))
        elif isinstance(data, str):
            parts = re.split(r"[\n;,]", data.strip(" []")) if inner.get("type") != "object" else [data]
            data = self._changed(path, data, [part.strip() for part in parts if part.strip()])
        elif not isinstance(data, list) and data is not None:
            data = self._changed(path, data, [data])
        if not isinstance(data, list):
            return data
        items = [item for item in data if item is not None or "type" not in inner or inner["type"] == "null"]
        maximum = schema.get("maxItems")
        if maximum is not None and len(items) > maximum:
            self._note(path, f"shortened from {len(items)} entries to {maximum}")
            items = items[:maximum]
        return [self._value(item, inner, f"{path}[{n}]") for n, item in enumerate(items)]

    def _string(self, data: Any, schema: JSONSchema, path: str) -> Any:
        if isinstance(data, list) and data and all(isinstance(item, str) for item in data):
            data = self._changed(path, data, ", ".join(data))
        elif isinstance(data, bool | int | float):
            data = self._changed(path, data, json.dumps(data))
        if not isinstance(data, str):
            return data
        if schema.get("format") == "date":
            return self._date(data, path)
        maximum = schema.get("maxLength")
        if maximum is not None and len(data) > maximum:
            shorter = truncate_at_word(data, maximum)
            self._note(path, f"shortened from {len(data)} characters to {len(shorter)}")
            return shorter
        return data

    def _date(self, data: str, path: str) -> str:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", data):
            return data
        if found := re.search(r"\b\d{4}-\d{2}-\d{2}\b", data):
            return str(self._changed(path, data, found[0]))
        text = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", data.strip(" ."))
        for date_format in _DATE_FORMATS:
            try:
                date = datetime.strptime(text, date_format).date()
            except ValueError:
                continue
            return str(self._changed(path, data, date.isoformat()))
        return data

    def _boolean(self, data: Any, path: str) -> Any:
        if isinstance(data, bool) or not isinstance(data, str | int):
            return data
        value = _BOOLEANS.get(normalize_name(data))
        return data if value is None else self._changed(path, data, value)

    def _number(self, data: Any, schema: JSONSchema, path: str) -> Any:
        whole = schema.get("type") == "integer"
        if isinstance(data, str):
            found = _NUMBER.search(data)
            if found is None:
                return data
            number = to_number(re.sub(r"[,_ ']", "", found[0]))
            if number is MISSING:
                return data
            data = self._changed(path, data, number)
        if not isinstance(data, int | float) or isinstance(data, bool):
            return data
        if whole and isinstance(data, float):
            data = self._changed(path, data, round(data)) if data != int(data) else int(data)
        if (step := schema.get("multipleOf")) and data % step:
            data = self._changed(path, data, round(data / step) * step)
        try:
            minimum, maximum, places = number_bounds(schema, path or "the value", whole=whole)
        except RequestRefused:
            return data
        scale = Decimal(10) ** places
        scaled = Decimal(str(data)) * scale
        has_minimum = {"minimum", "exclusiveMinimum"} & schema.keys()
        has_maximum = {"maximum", "exclusiveMaximum"} & schema.keys()
        bound = minimum if has_minimum and scaled < minimum else maximum if has_maximum and scaled > maximum else None
        if bound is None:
            return data
        return self._changed(path, data, int(bound / scale) if whole else float(bound / scale))


def truncate_at_word(text: str, length: int) -> str:
    """Return at most ``length`` characters of a text, cut after a word if one ends in the second half."""
    text = text.strip()
    if len(text) <= length:
        return text
    found = re.match(r".*\S(?=\s)", text[: length + 1], re.DOTALL)
    cut = found[0] if found and found.end() >= length // 2 else text[:length]
    return cut.rstrip().rstrip(",;:–—-") or cut


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:39]}…"
