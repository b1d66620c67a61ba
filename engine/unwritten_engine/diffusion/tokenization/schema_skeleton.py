"""Convert a JSON schema to a skeleton: pinned tokens with slots between them that the model fills.

Names, brackets and quotes are pinned from the first step. A text has a slot of free tokens and ends at the first quote
or padding in it; slots of enums, numbers and dates only allow matching tokens. Whatever the slots contain at any step,
``decode`` returns JSON that parses and satisfies the schema. Unsupported parts are refused, with their path in the
schema.

Texts and lists without a fixed length share the budget: all slots shrink by the same factor until they fit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from ...errors import RequestRefused
from ...frames import Span
from ...json_grammar import (
    DEFAULT_MAX_ITEMS,
    DEFAULT_MAX_LENGTH,
    SUPPORTED_KEYS,
    Schema,
    check_keys,
    compact_json,
    length_bounds,
    number_bounds,
    resolve_ref,
    unsupported,
)
from .detokenizer import DecodedText, Detokenizer
from .skeleton_values import (
    DIGIT_FORMATS,
    CanvasView,
    Constant,
    Container,
    DigitsSlot,
    EnumSlot,
    Leaf,
    MapSlot,
    NumberSlot,
    OneOf,
    OptionalSlot,
    ScalarUnion,
    TextSlot,
    Value,
)

CHARS_PER_TOKEN: Final = 3.5
"""Average characters per token."""
MIN_TEXT_TOKENS: Final = 3
"""Tokens of the smallest slot for a text, if the text may be that long."""
NAME_LENGTH: Final = 40
"""Maximum characters of a name in a map."""
MAX_DEPTH: Final = 3
"""Maximum nesting of a recursive schema; less if the budget is small."""
MAX_CANVASES: Final = 1024
"""Limit of the search for the number of canvases that a schema needs, for the error message."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Pinned tokens and slots for the canvases of one request.

    Attributes:
        pins: for every position of the budget the fixed token, or -1 if it is free. The JSON is followed by an end
            token and padding.
        mask_ids: 0 for any token, or k for the tokens of ``masks[k - 1]``.
        masks: masks of the vocabulary, one byte per token, 1 for allowed tokens; for ``torch.frombuffer``.
        length: number of positions before the end token.
        detokenizer: of the model.
        value: the root value.
    """

    pins: tuple[int, ...]
    mask_ids: tuple[int, ...]
    masks: tuple[bytes, ...]
    length: int
    detokenizer: Detokenizer
    value: Value

    def decode(self, ids: Sequence[int], unsettled: Sequence[bool]) -> DecodedText:
        """Return the JSON in these canvases. Positions that do not exist yet count as empty and unsettled."""
        pieces = self.value.read(CanvasView(self.detokenizer, ids, unsettled), True) or []
        spans: list[Span] = []
        at = 0
        for text, unsettled_text in pieces:
            if unsettled_text and text:
                if spans and spans[-1][1] == at:
                    spans[-1] = (spans[-1][0], at + len(text))
                else:
                    spans.append((at, at + len(text)))
            at += len(text)
        special = self.detokenizer.special_ids
        tokens = sum(id not in special for id in ids[: self.length])
        return DecodedText("".join(text for text, _ in pieces), tuple(spans), len(ids) > self.length, tokens)


def build_skeleton(
    schema: Schema, detokenizer: Detokenizer, *, canvases: int, canvas_length: int, max_tokens: int | None = None
) -> Skeleton:
    """Convert a schema to a skeleton.

    Args:
        schema: a JSON schema as pydantic generates it.
        detokenizer: of the model.
        canvases: maximum number of canvases.
        canvas_length: tokens per canvas.
        max_tokens: maximum number of tokens, if it is less.

    Raises:
        RequestRefused: an unsupported part of the schema (the message has its path), or a schema that does not fit even
            with the smallest slots (the message has the number of canvases that it needs).
    """
    budget = min(canvases * canvas_length, max_tokens or canvases * canvas_length)
    depth = MAX_DEPTH
    while (skeleton := _Layout(schema, detokenizer, 0.0, depth, budget - 1).build()) is None and depth > 1:
        depth -= 1
    if skeleton is None:
        enough = _Layout(schema, detokenizer, 0.0, 1, MAX_CANVASES * canvas_length - 1).build()
        need = f"{math.ceil((len(enough.pins) + 1) / canvas_length)}" if enough else f"more than {MAX_CANVASES}"
        if enough and len(enough.pins) + 1 <= canvases * canvas_length:
            raise RequestRefused(
                f"The schema needs {len(enough.pins) + 1} tokens with the shortest texts and lists, and max_tokens is "
                f"{budget}. Ask for more, or make the schema smaller."
            )
        raise RequestRefused(
            f"The schema needs {need} canvases of {canvas_length} tokens with the shortest texts and lists, and the "
            f"request has {canvases}. Ask for more canvases, or make the schema smaller."
        )
    low, high = 0.0, 1.0
    for share in (1.0, *[None] * 7):
        share = (low + high) / 2 if share is None else share
        larger = _Layout(schema, detokenizer, share, depth, budget - 1).build()
        if larger is None:
            high = share
        else:
            skeleton, low = larger, share
            if share == 1.0:
                break
    rest = budget - len(skeleton.pins)
    return Skeleton(
        pins=(*skeleton.pins, detokenizer.end_id, *[detokenizer.pad_id] * (rest - 1)),
        mask_ids=(*skeleton.mask_ids, *[0] * rest),
        masks=tuple(skeleton.masks),
        length=len(skeleton.pins),
        detokenizer=detokenizer,
        value=skeleton.value,
    )


class _OverLimit(Exception):
    """The layout exceeds its limit."""


class _TooDeep(Exception):
    """A recursive schema is nested too deeply."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass
class _Layout:
    """Lays out a schema, with texts and lists at a share of their full length."""

    schema: Schema
    detokenizer: Detokenizer
    share: float
    depth: int
    limit: int
    pins: list[int] = field(default_factory=list)
    mask_ids: list[int] = field(default_factory=list)
    masks: list[bytes] = field(default_factory=list)
    value: Value = field(default_factory=lambda: Constant("null"))

    def __post_init__(self) -> None:
        self._pending = ""
        self._ref_depths: dict[str, int] = {}
        self._mask_numbers: dict[bytes, int] = {}

    def build(self) -> _Layout | None:
        """Lay out the schema. Return self, or None if it does not fit."""
        try:
            self.value = self._value(self.schema, "$", False)
            self._flush()
        except _OverLimit:
            return None
        except _TooDeep as deep:
            raise unsupported(
                deep.path, "contains itself without an end", "Make the inner one optional, or a list"
            ) from None
        return self

    def _flush(self) -> None:
        if self._pending:
            ids = self.detokenizer.encode(self._pending)
            self._pending = ""
            self.pins.extend(ids)
            self.mask_ids.extend([0] * len(ids))
        if len(self.pins) > self.limit:
            raise _OverLimit

    def _slot(self, size: int, *masks: bytes) -> int:
        """Add free positions after the pending text. Give one mask for all, or one per position."""
        self._flush()
        start = len(self.pins)
        if start + size > self.limit:
            raise _OverLimit
        self.pins.extend([-1] * size)
        for at in range(size):
            mask = masks[at if len(masks) > 1 else 0]
            if mask not in self._mask_numbers:
                self.masks.append(mask)
                self._mask_numbers[mask] = len(self.masks)
            self.mask_ids.append(self._mask_numbers[mask])
        return start

    @contextmanager
    def _enter_ref(self, ref: str, path: str) -> Iterator[None]:
        if self._ref_depths.get(ref, 0) >= self.depth:
            raise _TooDeep(path)
        self._ref_depths[ref] = self._ref_depths.get(ref, 0) + 1
        try:
            yield
        finally:
            self._ref_depths[ref] -= 1

    def _try_value(self, schema: Any, path: str, optional: bool, before: str = "") -> Value | None:
        """Lay out a value with the text before it. If the schema is nested too deeply, undo it and return None."""
        mark = len(self.pins), self._pending
        self._pending += before
        try:
            return self._value(schema, path, optional)
        except _TooDeep:
            del self.pins[mark[0] :], self.mask_ids[mark[0] :]
            self._pending = mark[1]
            return None

    def _value(self, schema: Any, path: str, optional: bool) -> Value:
        """Lay out one value. The slots of an optional value may stay empty."""
        if not isinstance(schema, Mapping):
            raise unsupported(path, f"is {schema!r}", "Give a schema with a type")
        if "$ref" in schema:
            ref = str(schema["$ref"])
            with self._enter_ref(ref, path):
                return self._value(resolve_ref(self.schema, ref, path), path, optional)
        if "const" in schema:
            return self._enum([schema["const"]], path, optional)
        if "enum" in schema:
            return self._enum(schema["enum"], path, optional)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                check_keys(schema, {key}, path)
                return self._union([(one, f"{path}.{key}[{n}]") for n, one in enumerate(schema[key])], path, optional)
        if "allOf" in schema:
            if len(schema["allOf"]) != 1:
                raise unsupported(path, "joins several schemas (allOf)", "Write them as one")
            check_keys(schema, {"allOf"}, path)
            return self._value(schema["allOf"][0], f"{path}.allOf[0]", optional)
        kind = schema.get("type")
        if isinstance(kind, list):
            check_keys(schema, set().union(*SUPPORTED_KEYS.values()), path)
            return self._union([({**_keys(schema, str(one)), "type": str(one)}, path) for one in kind], path, optional)
        if kind is None:
            raise unsupported(path, "has no type", "Give it a type; fields of type Any are not supported")
        if kind not in SUPPORTED_KEYS:
            raise unsupported(path, f"has the type {kind!r}", f"Known: {', '.join(SUPPORTED_KEYS)}")
        check_keys(schema, SUPPORTED_KEYS[kind], path)
        match kind:
            case "object":
                return self._object(schema, path, optional)
            case "array":
                return self._array(schema, path, optional)
            case "string":
                return self._string(schema, path, optional)
            case "boolean":
                return self._enum([False, True], path, optional)
            case "null":
                return self._enum([None], path, optional)
            case _:
                minimum, maximum, decimals = number_bounds(schema, path, whole=kind == "integer")
                size = max(len(str(minimum)), len(str(maximum))) + (1 if decimals else 0)
                start = self._slot(
                    size, self.detokenizer.token_mask(pattern=r"[-.0-9]+", ids=(self.detokenizer.pad_id,))
                )
                return NumberSlot(start, size, minimum, maximum, decimals)

    def _union(self, options: list[tuple[Any, str]], path: str, optional: bool) -> Value:
        flat = [one for option, place in options for one in self._flat(option, place, 0)]
        null = any(one.get("type") == "null" or ("const" in one and one["const"] is None) for one, _ in flat)
        flat = [(one, place) for one, place in flat if one.get("type") != "null"]
        if all("const" in one or "enum" in one for one, _ in flat):
            values = [value for one, _ in flat for value in ([one["const"]] if "const" in one else one["enum"])]
            return self._enum([*values, *([None] if null else [])], path, optional)
        start = len(self.pins)
        if len(flat) == 1:
            inner = self._try_value(*flat[0], optional or null)
            if inner is None:
                if not null:
                    raise _TooDeep(path)
                return self._enum([None], path, optional)
        elif any("$ref" in one or one.get("type") in ("object", "array") for one, _ in flat):
            inner = self._one_of(flat, path)
        else:
            inner = self._scalar_union(flat, path)
        return OptionalSlot(inner, start, len(self.pins) - start) if null else inner

    def _flat(self, schema: Any, path: str, level: int) -> Iterator[tuple[Schema, str]]:
        """Yield the options of a union, including nested unions. References to objects are kept."""
        if not isinstance(schema, Mapping) or level > 20:
            raise unsupported(path, f"is {schema!r}" if level <= 20 else "contains itself", "Give a schema with a type")
        if "$ref" in schema:
            target = resolve_ref(self.schema, str(schema["$ref"]), path)
            is_scalar = isinstance(target, Mapping) and target.get("type", "object") not in ("object", "array")
            union = isinstance(target, Mapping) and any(
                key in target for key in ("const", "enum", "anyOf", "oneOf", "$ref")
            )
            if is_scalar or union:
                yield from self._flat(target, path, level + 1)
            else:
                yield schema, path
        elif options := schema.get("anyOf") or schema.get("oneOf"):
            check_keys(schema, {"anyOf", "oneOf"}, path)
            for n, option in enumerate(options):
                yield from self._flat(option, f"{path}[{n}]", level + 1)
        elif isinstance(schema.get("type"), list) and "enum" not in schema and "const" not in schema:
            check_keys(schema, set().union(*SUPPORTED_KEYS.values()), path)
            for kind in schema["type"]:
                yield {**_keys(schema, str(kind)), "type": str(kind)}, path
        elif "allOf" in schema and len(schema["allOf"]) == 1:
            yield from self._flat(schema["allOf"][0], path, level + 1)
        else:
            yield schema, path

    def _scalar_union(self, flat: list[tuple[Schema, str]], path: str) -> Value:
        """Add one slot for several scalar types. Each is laid out separately first, to get its size."""
        leaves: list[Leaf] = []
        size = 1
        for schema, place in flat:
            aside = _Layout(self.schema, self.detokenizer, self.share, self.depth, self.limit)
            value: Any = aside._value(schema, place, False)
            aside._flush()
            leaves.append(value)
            size = max(size, len(aside.pins), *(len(ids) for ids in getattr(value, "tokens", ())))
        return ScalarUnion(self._slot(size, self._text_mask()), size, tuple(leaves))

    def _one_of(self, flat: list[tuple[Schema, str]], path: str) -> Value:
        """Add a selector slot and then all schemas, of which only the selected one is read."""
        named = [self._name(schema, place) for schema, place in flat]
        names = [f"{name} {n}" if name in named[:n] else name for n, name in enumerate(named)]
        choice = self._enum(names, path, False)
        values = [
            self._try_value(schema, place, True, ":" if n == 0 else "|") for n, (schema, place) in enumerate(flat)
        ]
        if all(one is None for one in values):
            raise _TooDeep(path)
        return OneOf(choice, tuple(compact_json(name) for name in names), tuple(values))

    def _name(self, schema: Schema, path: str) -> str:
        """Return the name that identifies a schema in a union: its constant, title or type."""
        target = resolve_ref(self.schema, str(schema["$ref"]), path) if "$ref" in schema else schema
        fixed = [one["const"] for one in target.get("properties", {}).values() if isinstance(one.get("const"), str)]
        return str(next(iter(fixed), target.get("title") or target.get("type")))

    def _text_mask(self) -> bytes:
        return self.detokenizer.token_mask(pattern=r"(?s).*", parts=True, ids=(self.detokenizer.pad_id,))

    def _object(self, schema: Schema, path: str, optional: bool) -> Value:
        properties: Schema = schema.get("properties") or {}
        required = schema.get("required", ())
        for name in required:
            if name not in properties:
                raise unsupported(f"{path}.{name}", "is required but not defined", "Define it in properties")
        if not properties:
            return self._map(schema, path, optional)
        items: list[tuple[str, Value]] = []
        self._pending += "{"
        for name, inner in properties.items():
            label = compact_json(name) + ":"
            item = self._try_value(inner, f"{path}.{name}", optional, ("," if items else "") + label)
            if item is not None:
                items.append((label, item))
            elif name in required:
                raise _TooDeep(f"{path}.{name}")
        self._pending += "}"
        return Container("{}", tuple(items), len(items))

    def _map(self, schema: Schema, path: str, optional: bool) -> Value:
        inner = schema.get("additionalProperties", False)
        if inner is False:
            self._pending += "{}"
            return Constant("{}")
        minimum, maximum = length_bounds(schema, "minProperties", "maxProperties", DEFAULT_MAX_ITEMS, path)
        items: list[tuple[TextSlot, Value]] = []
        self._pending += "{"
        for n in range(self._count(minimum, maximum)):
            mark = len(self.pins), self._pending
            self._pending += "," if n else ""
            key = self._text(1, NAME_LENGTH)
            item = self._try_value(inner, f"{path}.*", True, ":")
            if item is None or not isinstance(key, TextSlot):
                del self.pins[mark[0] :], self.mask_ids[mark[0] :]
                self._pending = mark[1]
                if n < minimum:
                    raise _TooDeep(path)
                break
            items.append((key, item))
        self._pending += "}"
        return MapSlot(tuple(items), minimum)

    def _array(self, schema: Schema, path: str, optional: bool) -> Value:
        items: list[tuple[str, Value]] = []
        self._pending += "["
        if first := schema.get("prefixItems"):
            if schema.get("minItems", len(first)) != len(first) or isinstance(schema.get("items"), Mapping):
                raise unsupported(path, "is a tuple of open length", "Give it as many items as it has types")
            for n, inner in enumerate(first):
                self._pending += "," if n else ""
                items.append(("", self._value(inner, f"{path}[{n}]", optional)))
            self._pending += "]"
            return Container("[]", tuple(items), len(items))
        if "items" not in schema:
            raise unsupported(path, "is a list without an item type", "Give the type of its items, such as list[str]")
        minimum, maximum = length_bounds(schema, "minItems", "maxItems", DEFAULT_MAX_ITEMS, path)
        for n in range(self._count(minimum, maximum)):
            before = "," if n else ""
            item = self._try_value(schema["items"], f"{path}[]", optional or n >= minimum, before)
            if item is None:
                if n < minimum:
                    raise _TooDeep(path)
                break
            items.append(("", item))
        self._pending += "]"
        return Container("[]", tuple(items), minimum)

    def _count(self, minimum: int, maximum: int) -> int:
        return max(minimum, min(maximum, 1), round(self.share * maximum))

    def _string(self, schema: Schema, path: str, optional: bool) -> Value:
        if form := schema.get("format"):
            if form not in DIGIT_FORMATS:
                known = ", ".join(DIGIT_FORMATS)
                raise unsupported(path, f"is a text of the format {form!r}", f"Known: {known}. Or leave the format out")
            return self._digits(DIGIT_FORMATS[form], optional)
        minimum, maximum = length_bounds(schema, "minLength", "maxLength", DEFAULT_MAX_LENGTH, path)
        return self._text(minimum, maximum)

    def _text(self, minimum: int, maximum: int) -> Value:
        if maximum == 0:
            self._pending += '""'
            return Constant('""')
        full = math.ceil(maximum / CHARS_PER_TOKEN)
        size = max(math.ceil(minimum / CHARS_PER_TOKEN), min(MIN_TEXT_TOKENS, full), round(self.share * full))
        self._pending += '"'
        start = self._slot(size, self._text_mask())
        self._pending += '"'
        return TextSlot(start, size, minimum, maximum)

    def _digits(self, parts: list[Any], optional: bool) -> Value:
        slots: list[Span] = []
        separators, digits, ranges = [""], [], []
        self._pending += '"'
        for part in parts:
            if isinstance(part, str):
                self._pending += part
                separators[-1] += part
                continue
            size, chars, between = part
            mask = self.detokenizer.token_mask(
                pattern=f"[{re.escape(chars)}]", ids=(self.detokenizer.pad_id,) if optional else ()
            )
            slots.append((self._slot(size, mask), size))
            digits.append(chars)
            ranges.append(between)
            separators.append("")
        self._pending += '"'
        return DigitsSlot(tuple(slots), tuple(separators), tuple(digits), tuple(ranges))

    def _enum(self, values: Sequence[Any], path: str, optional: bool) -> Value:
        if not values:
            raise unsupported(path, "is an enum without values", "Give it at least one")
        json = tuple(dict.fromkeys(compact_json(value) for value in values))
        if len(json) == 1:
            self._pending += json[0]
            return Constant(json[0])
        quoted = all(isinstance(value, str) for value in values)
        self._pending += '"' if quoted else ""
        ids = [self.detokenizer.encode(text[1:-1] if quoted else text) for text in json]
        size, pad = max(map(len, ids)), self.detokenizer.pad_id
        tokens = [(*one, *[pad] * (size - len(one))) for one in [*ids, *([()] if optional else [])]]
        start = self._slot(
            size, *[self.detokenizer.token_mask(ids=tuple(sorted({one[at] for one in tokens}))) for at in range(size)]
        )
        self._pending += '"' if quoted else ""
        return EnumSlot(start, size, json, tuple(tokens))


def _keys(schema: Schema, kind: str) -> dict[str, Any]:
    """Return the keywords of a schema that belong to one of its types."""
    return {key: value for key, value in schema.items() if key in SUPPORTED_KEYS.get(kind, ())}
