"""Convert a JSON schema into a GBNF grammar that a small model can complete.

The grammar allows a subset of the schema: no white space between tokens (small models pad without end), every property
in the schema's order, non-empty texts, and limits where the schema has none. Unsupported parts are refused, with their
path in the schema.

Supported: objects, ``$ref`` (also recursive), maps, bounded lists, tuples, enums, constants, unions, optional values,
booleans, integers and numbers with bounds, texts with bounds or a pattern (see ``pattern_grammar``), and the formats
date, time, date-time, duration, uuid, email and uri. Ignored: ``uniqueItems``, ``default``, titles and descriptions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

from .errors import RequestRefused
from .pattern_grammar import UnsupportedPattern, grammar_from_pattern

DEFAULT_MAX_LENGTH: Final = 240
"""Characters of a text without a maximum length."""
DEFAULT_MAX_ITEMS: Final = 8
"""Items of a list, or entries of a map, without a maximum."""
MAX_INTEGER: Final = 10**9 - 1
"""Largest absolute value of a number without bounds."""
DECIMALS: Final = 2
"""Digits after the decimal point, unless a bound has more."""
MAX_REPETITIONS: Final = 2000
"""The largest repetition that llama.cpp accepts in a grammar."""
Schema = Mapping[str, Any]
_ANNOTATIONS: Final = {
    "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator",
    "$defs", "definitions", "$schema", "$id", "$comment", "uniqueItems",
}  # fmt: skip
SUPPORTED_KEYS: Final = {
    "object": {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set[str](),
    "null": set[str](),
}
"""Supported keywords by type."""
_CHAR: Final = r'[^"\\\x00-\x1F\x7F] | "\\" ["\\n]'
_FIRST: Final = r'[^" \\\x00-\x1F\x7F] | "\\" ["\\]'
_DATE: Final = '[12] [0-9]{3} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
_TIME: Final = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]'
_HEX: Final = "[0-9a-f]"
_HOST: Final = '[a-z] [a-z0-9]{1,14} ("-" [a-z0-9]{2,10})? "." ("com" | "org" | "net" | "eu" | "de" | "info")'
_FORMATS: Final = {
    "date": _DATE,
    "time": f'{_TIME} "Z"',
    "date-time": f'{_DATE} "T" {_TIME} "Z"',
    "duration": '"PT" ([1-9] "H")? [1-5]? [0-9] "M"',
    "email": f'[a-z] [a-z0-9]{{1,14}} ([._] [a-z0-9]{{2,14}})? "@" {_HOST}',
    "uri": f'"https://" ("www.")? {_HOST} ("/" [a-z0-9] [a-z0-9-]{{1,18}}){{0,2}}',
    "uuid": f'{_HEX}{{8}} "-" {_HEX}{{4}} "-4" {_HEX}{{3}} "-" [89ab] {_HEX}{{3}} "-" {_HEX}{{12}}',
}


def grammar_from_schema(schema: Schema) -> str:
    """Return the grammar of compact JSON texts that satisfy the schema.

    Args:
        schema: a JSON schema as pydantic generates it.

    Raises:
        RequestRefused: an unsupported part of the schema. The message has its path.
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
        """Return an expression for one value, usable anywhere in a sequence."""
        if not isinstance(schema, Mapping):
            raise unsupported(path, f"is {schema!r}", "Give a schema with a type")
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]), path)
        if "const" in schema:
            return _literal(compact_json(schema["const"]))
        if "enum" in schema:
            return self._enum(schema["enum"], path)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                check_keys(schema, {key}, path)
                return _alternatives([self._value(s, f"{path}.{key}[{n}]") for n, s in enumerate(schema[key])])
        if "allOf" in schema:
            if len(schema["allOf"]) != 1:
                raise unsupported(path, "joins several schemas (allOf)", "Write them as one")
            check_keys(schema, {"allOf"}, path)
            return self._value(schema["allOf"][0], f"{path}.allOf[0]")
        kind = schema.get("type")
        if isinstance(kind, list):
            return _alternatives([self._typed(str(one), schema, path, shared=True) for one in kind])
        if kind is None:
            raise unsupported(path, "has no type", "Give it a type; fields of type Any are not supported")
        return self._typed(str(kind), schema, path)

    def _typed(self, kind: str, schema: Schema, path: str, shared: bool = False) -> str:
        if kind not in SUPPORTED_KEYS:
            raise unsupported(path, f"has the type {kind!r}", f"Known: {', '.join(SUPPORTED_KEYS)}")
        known = set().union(*SUPPORTED_KEYS.values()) if shared else SUPPORTED_KEYS[kind]
        check_keys(schema, known | ({"pattern"} if kind == "string" else set()), path)
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
                raise unsupported(f"{path}.{name}", "is required but not defined", "Define it in properties")
        parts = []
        for number, (name, inner) in enumerate(properties.items()):
            parts.append(_literal(("," if number else "{") + compact_json(name) + ":"))
            parts.append(self._value(inner, f"{path}.{name}"))
        return " ".join([*parts, '"}"'])

    def _map(self, schema: Schema, path: str) -> str:
        """Return an expression for an object with free keys and values of one schema."""
        inner = schema.get("additionalProperties", False)
        if inner is False:
            return '"{}"'
        minimum, maximum = length_bounds(schema, "minProperties", "maxProperties", DEFAULT_MAX_ITEMS, path)
        entry = f'{self._text(1, 40)} ":" {self._value(inner, f"{path}.*")}'
        return f'"{{" {_series(entry, minimum, maximum)} "}}"'

    def _array(self, schema: Schema, path: str) -> str:
        if first := schema.get("prefixItems"):
            parts = [self._value(inner, f"{path}[{n}]") for n, inner in enumerate(first)]
            if schema.get("minItems", len(parts)) != len(parts) or isinstance(schema.get("items"), Mapping):
                raise unsupported(path, "is a tuple of open length", "Give it as many items as it has types")
            inside = ' "," '.join(parts)
            return f'"[" {inside} "]"'
        if "items" not in schema:
            raise unsupported(path, "is a list without an item type", "Give the type of its items, such as list[str]")
        minimum, maximum = length_bounds(schema, "minItems", "maxItems", DEFAULT_MAX_ITEMS, path)
        return f'"[" {_series(self._value(schema["items"], f"{path}[]"), minimum, maximum)} "]"'

    def _string(self, schema: Schema, path: str) -> str:
        if "pattern" in schema:
            return self._pattern(schema, path)
        if form := schema.get("format"):
            if form not in _FORMATS:
                known = ", ".join(_FORMATS)
                raise unsupported(path, f"is a text of the format {form!r}", f"Known: {known}. Or leave the format out")
            self._rules.setdefault(form, _FORMATS[form])
            return rf'"\"" {form} "\""'
        minimum, maximum = length_bounds(schema, "minLength", "maxLength", DEFAULT_MAX_LENGTH, path)
        return self._text(minimum if "minLength" in schema else min(1, maximum), maximum)

    def _pattern(self, schema: Schema, path: str) -> str:
        try:
            expression, least, most = grammar_from_pattern(str(schema["pattern"]))
        except UnsupportedPattern as error:
            raise unsupported(
                path, f"has the pattern {schema['pattern']!r}, of which {error} cannot be enforced", "Simplify it"
            ) from None
        if least < schema.get("minLength", 0) or most > schema.get("maxLength", most):
            raise unsupported(
                path, "has a pattern that matches texts of other lengths", "Put the length into the pattern: {1,8}"
            )
        return rf'"\"" {expression} "\""'

    def _text(self, minimum: int, maximum: int) -> str:
        self._rules.setdefault("char", _CHAR)
        self._rules.setdefault("first", _FIRST)
        if maximum == 0:
            return r'"\"\""'
        name = f"text-{minimum}-{maximum}"
        body = f"first char{{{max(0, minimum - 1)},{maximum - 1}}}" if maximum > 1 else "first"
        self._rules.setdefault(name, rf'"\"" {body} "\""' if minimum else rf'"\"" ({body})? "\""')
        return name

    def _enum(self, values: Sequence[Any], path: str) -> str:
        if not values:
            raise unsupported(path, "is an enum without values", "Give it at least one")
        return _alternatives([_literal(compact_json(value)) for value in values])

    def _reference(self, ref: str, path: str) -> str:
        """Create a rule for every definition, so that it may refer to itself."""
        if ref not in self._refs:
            target = resolve_ref(self._schema, ref, path)
            stem = re.sub(r"[^a-zA-Z0-9]+", "-", ref.rsplit("/", 1)[-1]).strip("-") or "root"
            self._refs[ref] = rule = f"d{len(self._refs)}-{stem}"
            self._rules[rule] = ""  # reserves its place before the rules that it uses
            self._rules[rule] = self._value(target, path)
        return self._refs[ref]


def resolve_ref(root: Schema, ref: str, path: str) -> Any:
    """Return the target of a ``$ref``."""
    target: Any = root
    for part in ref.removeprefix("#").strip("/").split("/") if ref != "#" else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if not ref.startswith("#") or not isinstance(target, Mapping) or name not in target:
            raise unsupported(path, f"refers to {ref!r}, which does not exist", "Define it under $defs")
        target = target[name]
    return target


def _number(schema: Schema, path: str, *, whole: bool) -> str:
    """Return an expression for numbers within the bounds, with a limited number of decimals."""
    minimum, maximum, decimals = number_bounds(schema, path, whole=whole)
    parts = []
    if maximum >= 0:
        parts.append(_digits(max(minimum, 0), maximum, decimals))
    if minimum < 0:
        parts.append('"-" ' + _digits(max(-maximum, 1), -minimum, decimals))
    return _alternatives(parts)


def number_bounds(schema: Schema, path: str, *, whole: bool) -> tuple[int, int, int]:
    """Return minimum and maximum in units of the last decimal, and the number of decimals."""
    bounds = {
        key: Decimal(str(schema[key]))
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        if schema.get(key) is not None
    }
    decimals = 0 if whole else max([DECIMALS, *(-int(bound.as_tuple().exponent) for bound in bounds.values())])
    scale = Decimal(10) ** decimals
    # From here on, numbers are in units of the last decimal.
    low = bounds.get("minimum")
    low = None if low is None else (low * scale).to_integral_value(ROUND_CEILING)
    if (above := bounds.get("exclusiveMinimum")) is not None:
        low = max(Decimal("-Infinity") if low is None else low, (above * scale).to_integral_value(ROUND_FLOOR) + 1)
    high = bounds.get("maximum")
    high = None if high is None else (high * scale).to_integral_value(ROUND_FLOOR)
    if (below := bounds.get("exclusiveMaximum")) is not None:
        high = min(Decimal("Infinity") if high is None else high, (below * scale).to_integral_value(ROUND_CEILING) - 1)
    widest = MAX_INTEGER * int(scale)
    minimum = int(low) if low is not None else min(-widest, int(high or 0) - widest)
    maximum = int(high) if high is not None else max(widest, minimum + widest)
    if minimum > maximum:
        raise unsupported(path, "is a number without possible values", "Give a minimum below the maximum")
    return minimum, maximum, decimals


def _digits(low: int, high: int, decimals: int) -> str:
    """Return an expression for non-negative numbers, given in units of the last decimal."""
    if decimals == 0:
        return _alternatives(list(_ranges(low, high)))
    scale = 10**decimals
    first, last = low // scale, high // scale
    fraction = f'("." [0-9]{{1,{decimals}}})?'
    parts = []
    if first == last:
        return f'"{first}." {_range(f"{low % scale:0{decimals}}", f"{high % scale:0{decimals}}")}'
    if low % scale:
        parts.append(f'"{first}." {_range(f"{low % scale:0{decimals}}", "9" * decimals)}')
        first += 1
    if high % scale != scale - 1:
        ending = "" if high % scale == 0 else f' ("." {_range("0" * decimals, f"{high % scale:0{decimals}}")})?'
        parts.append(f'"{last}"{ending}')
        last -= 1
    if first <= last:
        parts.insert(0, f"{_alternatives(list(_ranges(first, last)))} {fraction}")
    return _alternatives(parts)


def _ranges(low: int, high: int) -> Iterator[str]:
    """Yield expressions for integers from ``low`` to ``high``; all complete digit counts share one."""
    full = []
    for width in range(len(str(low)), len(str(high)) + 1):
        first, last = max(low, 10 ** (width - 1) if width > 1 else 0), min(high, 10**width - 1)
        if width > 1 and last - first == 9 * 10 ** (width - 1) - 1:
            full.append(width - 1)
        else:
            yield _range(str(first), str(last))
    if full:
        yield f"[1-9] {_digit_count(full[0], full[-1])}"


def _digit_count(minimum: int, maximum: int) -> str:
    """Return an expression for ``minimum`` to ``maximum`` digits."""
    return "[0-9]" if minimum == maximum == 1 else f"[0-9]{{{minimum},{maximum}}}"


def _range(low: str, high: str) -> str:
    """Return an expression for digit strings from ``low`` to ``high``, which have equal length."""
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
        parts.append(f"[{first}-{last}] {_digit_count(rest, rest)}")
    return head + _alternatives(parts + tail)


def _series(item: str, minimum: int, maximum: int) -> str:
    """Return an expression for items separated by commas."""
    if maximum == 0:
        return '""'
    if maximum == 1:
        return f"({item})" if minimum else f"({item})?"
    more = f'{item} ("," {item}){{{max(0, minimum - 1)},{maximum - 1}}}'
    return more if minimum else f"({more})?"


def length_bounds(schema: Schema, low: str, high: str, default: int, path: str) -> tuple[int, int]:
    """Return minimum and maximum of a length or a count.

    A maximum is at most ``MAX_REPETITIONS``, so what is written satisfies a larger one too.
    """
    minimum = int(schema.get(low) or 0)
    maximum = int(schema[high]) if schema.get(high) is not None else max(default, minimum)
    if minimum > min(maximum, MAX_REPETITIONS):
        raise unsupported(
            path,
            f"has {low} {minimum} and {high} {maximum}",
            f"Give bounds in order, and a minimum up to {MAX_REPETITIONS}",
        )
    return minimum, min(maximum, MAX_REPETITIONS)


def check_keys(schema: Schema, known: set[str], path: str) -> None:
    """Refuse unknown keywords."""
    for key in schema:
        if key not in known and key != "type" and key not in _ANNOTATIONS:
            raise unsupported(path, f"has {key!r}, which cannot be enforced", "Leave it out and check it afterwards")


def unsupported(path: str, problem: str, advice: str) -> RequestRefused:
    """Return the error for an unsupported part of a schema."""
    return RequestRefused(f"The schema at {path} {problem}. {advice}.")


def _alternatives(parts: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(parts))
    return distinct[0] if len(distinct) == 1 else f"({' | '.join(distinct)})"


def compact_json(value: Any) -> str:
    """Return JSON without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\x7f", "\\x7F")
    return f'"{escaped}"'
