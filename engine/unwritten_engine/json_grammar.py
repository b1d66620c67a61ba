"""From a JSON schema to a grammar in GBNF that a small model can follow to its end.

The grammar allows less than the schema does, and never more: no white space between tokens (a small model pads
for ever where it may), every property in the schema's order, texts that are not empty, and bounds on everything
that the schema leaves open. What it cannot hold, it refuses, with the place in the schema.

Held: objects, ``$ref`` (recursive too), maps, lists with bounds, tuples, enums, constants, unions, optional
values, booleans, integers and numbers with bounds, texts with bounds, and the formats date, time, date-time and
uuid. Not held but harmless, and so ignored: ``uniqueItems``, ``default``, titles and descriptions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

from .errors import RequestRefused

TEXT_LENGTH: Final = 240
"""Characters of a text whose length the schema leaves open."""
ITEMS: Final = 8
"""Items of a list, and entries of a map, whose number the schema leaves open."""
WHOLE: Final = 10**9 - 1
"""The largest number where the schema leaves it open, and the smallest with the other sign."""
DECIMALS: Final = 2
"""Digits after the point; more if a bound has more."""
LONGEST: Final = 2000
"""The largest repetition that llama.cpp accepts in a grammar."""
Schema = Mapping[str, Any]
_ANNOTATIONS: Final = {
    "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator",
    "$defs", "definitions", "$schema", "$id", "$comment", "uniqueItems",
}  # fmt: skip
KEYS: Final = {
    "object": {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set[str](),
    "null": set[str](),
}
"""What is held of each type."""
_CHAR: Final = r'[^"\\\x00-\x1F\x7F] | "\\" ["\\n]'
_FIRST: Final = r'[^" \\\x00-\x1F\x7F] | "\\" ["\\]'
_DATE: Final = '[12] [0-9]{3} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
_TIME: Final = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]'
_HEX: Final = "[0-9a-f]"
_FORMATS: Final = {
    "date": _DATE,
    "time": f'{_TIME} "Z"',
    "date-time": f'{_DATE} "T" {_TIME} "Z"',
    "uuid": f'{_HEX}{{8}} "-" {_HEX}{{4}} "-4" {_HEX}{{3}} "-" [89ab] {_HEX}{{3}} "-" {_HEX}{{12}}',
}


def grammar_from_schema(schema: Schema) -> str:
    """The grammar of all compact JSON texts that this schema wants.

    Args:
        schema: a JSON schema, as pydantic makes them.

    Raises:
        RequestRefused: a part of the schema that a grammar cannot hold; the message names its place.
    """
    return _Grammar(schema).text()


class _Grammar:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._rules: dict[str, str] = {}
        self._refs: dict[str, str] = {}

    def text(self) -> str:
        root = self._value(self._schema, "$")
        return "\n".join([f"root ::= {root}", *(f"{name} ::= {rule}" for name, rule in self._rules.items()), ""])

    def _value(self, schema: Any, path: str) -> str:
        """An expression for one value; it may stand anywhere in a sequence."""
        if not isinstance(schema, Mapping):
            raise refused(path, f"is {schema!r}", "Give a schema with a type")
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]), path)
        if "const" in schema:
            return _literal(compact(schema["const"]))
        if "enum" in schema:
            return self._enum(schema["enum"], path)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                only(schema, {key}, path)
                return _either([self._value(s, f"{path}.{key}[{n}]") for n, s in enumerate(schema[key])])
        if "allOf" in schema:
            if len(schema["allOf"]) != 1:
                raise refused(path, "joins several schemas (allOf)", "Write them as one")
            only(schema, {"allOf"}, path)
            return self._value(schema["allOf"][0], f"{path}.allOf[0]")
        kind = schema.get("type")
        if isinstance(kind, list):
            return _either([self._typed(str(one), schema, path, shared=True) for one in kind])
        if kind is None:
            raise refused(path, "has no type", "Say what it holds; a field of type Any cannot be held to a shape")
        return self._typed(str(kind), schema, path)

    def _typed(self, kind: str, schema: Schema, path: str, shared: bool = False) -> str:
        if kind not in KEYS:
            raise refused(path, f"has the type {kind!r}", f"Known: {', '.join(KEYS)}")
        only(schema, set().union(*KEYS.values()) if shared else KEYS[kind], path)
        match kind:
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "string":
                return self._string(schema, path)
            case "boolean":
                return '("true" | "false")'
            case "null":
                return '"null"'
            case _:
                return _number(schema, path, whole=kind == "integer")

    def _object(self, schema: Schema, path: str) -> str:
        properties: Schema = schema.get("properties") or {}
        if not properties:
            return self._map(schema, path)
        for name in schema.get("required", ()):
            if name not in properties:
                raise refused(f"{path}.{name}", "is required and not described", "Describe it in properties")
        parts = []
        for number, (name, inner) in enumerate(properties.items()):
            parts.append(_literal(("," if number else "{") + compact(name) + ":"))
            parts.append(self._value(inner, f"{path}.{name}"))
        return " ".join([*parts, '"}"'])

    def _map(self, schema: Schema, path: str) -> str:
        """An object with any keys, all with values of one schema."""
        inner = schema.get("additionalProperties", False)
        if inner is False:
            return '"{}"'
        least, most = bounds(schema, "minProperties", "maxProperties", ITEMS, path)
        entry = f'{self._text(1, 40)} ":" {self._value(inner, f"{path}.*")}'
        return f'"{{" {_series(entry, least, most)} "}}"'

    def _array(self, schema: Schema, path: str) -> str:
        if first := schema.get("prefixItems"):
            parts = [self._value(inner, f"{path}[{n}]") for n, inner in enumerate(first)]
            if schema.get("minItems", len(parts)) != len(parts) or isinstance(schema.get("items"), Mapping):
                raise refused(path, "is a tuple of open length", "Give it as many items as it has types")
            inside = ' "," '.join(parts)
            return f'"[" {inside} "]"'
        if "items" not in schema:
            raise refused(path, "is a list of anything", "Say what its items are, such as list[str]")
        least, most = bounds(schema, "minItems", "maxItems", ITEMS, path)
        return f'"[" {_series(self._value(schema["items"], f"{path}[]"), least, most)} "]"'

    def _string(self, schema: Schema, path: str) -> str:
        if form := schema.get("format"):
            if form not in _FORMATS:
                known = ", ".join(_FORMATS)
                raise refused(path, f"is a text of the format {form!r}", f"Known: {known}. Or leave the format out")
            self._rules.setdefault(form, _FORMATS[form])
            return rf'"\"" {form} "\""'
        least, most = bounds(schema, "minLength", "maxLength", TEXT_LENGTH, path)
        return self._text(least if "minLength" in schema else min(1, most), most)

    def _text(self, least: int, most: int) -> str:
        self._rules.setdefault("char", _CHAR)
        self._rules.setdefault("first", _FIRST)
        if most == 0:
            return r'"\"\""'
        name = f"text-{least}-{most}"
        body = f"first char{{{max(0, least - 1)},{most - 1}}}" if most > 1 else "first"
        self._rules.setdefault(name, rf'"\"" {body} "\""' if least else rf'"\"" ({body})? "\""')
        return name

    def _enum(self, values: Sequence[Any], path: str) -> str:
        if not values:
            raise refused(path, "is an enum without values", "Give it at least one")
        return _either([_literal(compact(value)) for value in values])

    def _reference(self, ref: str, path: str) -> str:
        """A rule of its own for every definition, so that it may refer to itself."""
        if ref not in self._refs:
            target = referred(self._schema, ref, path)
            stem = re.sub(r"[^a-zA-Z0-9]+", "-", ref.rsplit("/", 1)[-1]).strip("-") or "root"
            self._refs[ref] = rule = f"d{len(self._refs)}-{stem}"
            self._rules[rule] = ""  # keeps its place before the rules that it needs
            self._rules[rule] = self._value(target, path)
        return self._refs[ref]


def referred(root: Schema, ref: str, path: str) -> Any:
    """What ``$ref`` refers to in this schema."""
    target: Any = root
    for part in ref.removeprefix("#").strip("/").split("/") if ref != "#" else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if not ref.startswith("#") or not isinstance(target, Mapping) or name not in target:
            raise refused(path, f"refers to {ref!r}, which is not there", "Put it under $defs")
        target = target[name]
    return target


def _number(schema: Schema, path: str, *, whole: bool) -> str:
    """Numbers between the bounds; what has a fraction has a fixed number of digits after the point at most."""
    least, most, places = limits(schema, path, whole=whole)
    parts = []
    if most >= 0:
        parts.append(_digits(max(least, 0), most, places))
    if least < 0:
        parts.append('"-" ' + _digits(max(-most, 1), -least, places))
    return _either(parts)


def limits(schema: Schema, path: str, *, whole: bool) -> tuple[int, int, int]:
    """The smallest and the largest number, both in units of the last digit, and how many digits follow the point."""
    given = {
        key: Decimal(str(schema[key]))
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        if schema.get(key) is not None
    }
    places = 0 if whole else max([DECIMALS, *(-int(bound.as_tuple().exponent) for bound in given.values())])
    scale = Decimal(10) ** places
    # From here on, numbers are whole multiples of the last digit.
    low = given.get("minimum")
    low = None if low is None else (low * scale).to_integral_value(ROUND_CEILING)
    if (above := given.get("exclusiveMinimum")) is not None:
        low = max(Decimal("-Infinity") if low is None else low, (above * scale).to_integral_value(ROUND_FLOOR) + 1)
    high = given.get("maximum")
    high = None if high is None else (high * scale).to_integral_value(ROUND_FLOOR)
    if (below := given.get("exclusiveMaximum")) is not None:
        high = min(Decimal("Infinity") if high is None else high, (below * scale).to_integral_value(ROUND_CEILING) - 1)
    widest = WHOLE * int(scale)
    least = int(low) if low is not None else min(-widest, int(high or 0) - widest)
    most = int(high) if high is not None else max(widest, least + widest)
    if least > most:
        raise refused(path, "is a number with bounds that leave none", "Give a minimum below the maximum")
    return least, most, places


def _digits(low: int, high: int, places: int) -> str:
    """Numbers from 0 up, as multiples of the last digit after the point."""
    if places == 0:
        return _either(list(_ranges(low, high)))
    scale = 10**places
    first, last = low // scale, high // scale
    fraction = f'("." [0-9]{{1,{places}}})?'
    parts = []
    if first == last:
        return f'"{first}." {_range(f"{low % scale:0{places}}", f"{high % scale:0{places}}")}'
    if low % scale:
        parts.append(f'"{first}." {_range(f"{low % scale:0{places}}", "9" * places)}')
        first += 1
    if high % scale != scale - 1:
        ending = "" if high % scale == 0 else f' ("." {_range("0" * places, f"{high % scale:0{places}}")})?'
        parts.append(f'"{last}"{ending}')
        last -= 1
    if first <= last:
        parts.insert(0, f"{_either(list(_ranges(first, last)))} {fraction}")
    return _either(parts)


def _ranges(low: int, high: int) -> Iterator[str]:
    """Whole numbers from ``low`` to ``high``: the lengths that are not full, and all full ones together."""
    full = []
    for width in range(len(str(low)), len(str(high)) + 1):
        first, last = max(low, 10 ** (width - 1) if width > 1 else 0), min(high, 10**width - 1)
        if width > 1 and last - first == 9 * 10 ** (width - 1) - 1:
            full.append(width - 1)
        else:
            yield _range(str(first), str(last))
    if full:
        yield f"[1-9] {_some(full[0], full[-1])}"


def _some(least: int, most: int) -> str:
    """So many digits."""
    return "[0-9]" if least == most == 1 else f"[0-9]{{{least},{most}}}"


def _range(low: str, high: str) -> str:
    """Digits from ``low`` to ``high``, which have the same length."""
    if low == high:
        return f'"{low}"'
    at = next(n for n, (a, b) in enumerate(zip(low, high, strict=True)) if a != b)
    head, rest = f'"{low[:at]}" ' if at else "", len(low) - at - 1
    if rest == 0:
        return f"{head}[{low[at]}-{high[at]}]"
    parts, first, last = [], int(low[at]), int(high[at])
    if low[at + 1 :] != "0" * rest:
        parts.append(f'"{first}" {_range(low[at + 1 :], "9" * rest)}')
        first += 1
    tail = []
    if high[at + 1 :] != "9" * rest:
        tail.append(f'"{last}" {_range("0" * rest, high[at + 1 :])}')
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}] {_some(rest, rest)}")
    return head + _either(parts + tail)


def _series(item: str, least: int, most: int) -> str:
    """Items with commas between them."""
    if most == 0:
        return '""'
    if most == 1:
        return f"({item})" if least else f"({item})?"
    more = f'{item} ("," {item}){{{max(0, least - 1)},{most - 1}}}'
    return more if least else f"({more})?"


def bounds(schema: Schema, low: str, high: str, default: int, path: str) -> tuple[int, int]:
    """The least and the most of a length or a count."""
    least = int(schema.get(low) or 0)
    most = int(schema[high]) if schema.get(high) is not None else max(default, least)
    if least > most or most > LONGEST:
        raise refused(path, f"has {low} {least} and {high} {most}", f"Give bounds in order, up to {LONGEST}")
    return least, most


def only(schema: Schema, known: set[str], path: str) -> None:
    """Refuses keys that are not known."""
    for key in schema:
        if key not in known and key != "type" and key not in _ANNOTATIONS:
            raise refused(path, f"has {key!r}, which a shape cannot be held to", "Leave it out and check it afterwards")


def refused(path: str, what: str, advice: str) -> RequestRefused:
    """The refusal of a part of a schema."""
    return RequestRefused(f"The shape at {path} {what}. {advice}.")


def _either(parts: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(parts))
    return distinct[0] if len(distinct) == 1 else f"({' | '.join(distinct)})"


def compact(value: Any) -> str:
    """JSON without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\x7f", "\\x7F")
    return f'"{escaped}"'
