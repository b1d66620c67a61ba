"""The values of a skeleton. Each has slots in the canvas and converts any contents to valid JSON.

A value is read as pieces of JSON, each with a flag whether it may still change. A value without contents (an empty
slot, a constant) is read as None, unless it is required.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, Protocol, TypeAlias

from ...frames import Span
from ...json_grammar import compact_json
from .detokenizer import DecodedText, Detokenizer

JSONPieces: TypeAlias = list[tuple[str, bool]]
_ESCAPES = {"n": "\n", "t": "\t", "r": "\n", "b": "", "f": ""}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_D, _H = "0123456789", "0123456789abcdef"
_DATE: Final = [(4, _D, (1000, 2999)), "-", (2, _D, (1, 12)), "-", (2, _D, (1, 28))]
_TIME: Final = [(2, _D, (0, 23)), ":", (2, _D, (0, 59)), ":", (2, _D, (0, 59)), "Z"]
_UUID: Final = [
    (8, _H, None),
    "-",
    (4, _H, None),
    "-4",
    (3, _H, None),
    "-",
    (1, "89ab", None),
    (3, _H, None),
    "-",
    (12, _H, None),
]
DIGIT_FORMATS: Final[dict[str, list[Any]]] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": [*_DATE, "T", *_TIME],
    "uuid": _UUID,
}
"""Text formats of digit fields: size, digits and bounds of each field, and the separators."""


@dataclass(frozen=True, slots=True)
class CanvasView:
    """The tokens of all canvases at one moment. Positions that do not exist yet are unsettled padding."""

    detokenizer: Detokenizer
    ids: Sequence[int]
    unsettled: Sequence[bool]

    def token_at(self, at: int) -> int:
        """Return the token at a position."""
        return self.ids[at] if at < len(self.ids) else self.detokenizer.pad_id

    def is_unsettled(self, start: int, size: int) -> bool:
        """True if a token of this slot may still change."""
        return start + size > len(self.ids) or any(self.unsettled[start : start + size])

    def decode_slot(self, start: int, size: int) -> DecodedText:
        """Return the text before the first special token of a slot."""
        end = min(start + size, len(self.ids))
        special = self.detokenizer.special_ids
        stop = next((at for at in range(start, end) if self.ids[at] in special), end)
        return self.detokenizer.decode(self.ids[start:stop], self.unsettled[start:stop])

    def slot_text(self, start: int, size: int) -> str:
        """Return the same as a string."""
        return self.decode_slot(start, size).text


class Value(Protocol):
    """A part of a skeleton."""

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the value as pieces of JSON, or None if it has no contents and is not required."""
        ...


class Leaf(Value, Protocol):
    """A value that can be parsed from text."""

    def parse(self, text: str) -> str | None:
        """Return the JSON of a text that is such a value, else None."""
        ...

    def blank(self) -> str:
        """Return the JSON of a default value."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant."""

    json: str

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the constant, if required."""
        return [(self.json, False)] if required else None

    def parse(self, text: str) -> str | None:
        """Accept the constant, with or without quotes."""
        return self.json if text in (self.json, self.json.strip('"')) else None

    def blank(self) -> str:
        """Return the constant."""
        return self.json


@dataclass(frozen=True, slots=True)
class EnumSlot:
    """One of several values: the one whose tokens are nearest to those in the slot."""

    start: int
    size: int
    values: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    """The padded tokens of each value; if the value is optional, the last entry is only padding."""

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the nearest value; the first of equals."""
        pad = view.detokenizer.pad_id
        ids = [view.token_at(self.start + at) for at in range(self.size)]
        scores = []
        for option in self.tokens:
            same = [a for a, b in zip(ids, option, strict=True) if a == b]
            scores.append((len(same) - same.count(pad), len(same)))  # padding decides between equals only
        best = scores.index(max(scores))
        if len(self.tokens) == len(self.values) and not scores[best][0]:
            best = 0
        if best >= len(self.values):
            return [(self.blank(), view.is_unsettled(self.start, self.size))] if required else None
        return [(self.values[best], view.is_unsettled(self.start, self.size))]

    def parse(self, text: str) -> str | None:
        """Return the value with this text."""
        return next((json for json in self.values if text in (json, json.strip('"'))), None)

    def blank(self) -> str:
        """Return the first value."""
        return self.values[0]


@dataclass(frozen=True, slots=True)
class NumberSlot:
    """A number with bounds, which are in units of the last decimal."""

    start: int
    size: int
    minimum: int
    maximum: int
    decimals: int

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the first number in the slot, clamped to the bounds."""
        match = _NUMBER.search(view.slot_text(self.start, self.size))
        if match is None and not required:
            return None
        return [(self._json(match[0]) if match else self.blank(), view.is_unsettled(self.start, self.size))]

    def parse(self, text: str) -> str | None:
        """Accept a number."""
        return self._json(text) if _NUMBER.fullmatch(text) else None

    def blank(self) -> str:
        """Return the number nearest to 0."""
        return self._json("0")

    def _json(self, text: str) -> str:
        units = int((Decimal(text) * 10**self.decimals).to_integral_value(ROUND_HALF_EVEN))
        value = Decimal(min(max(units, self.minimum), self.maximum)).scaleb(-self.decimals)
        plain = f"{value:f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain


@dataclass(frozen=True, slots=True)
class DigitsSlot:
    """A date, a time or an id: fields of digits with bounds, and fixed separators."""

    slots: tuple[tuple[int, int], ...]
    """Start and size of each field."""
    separators: tuple[str, ...]
    """One more than there are fields."""
    digits: tuple[str, ...]
    """Allowed digits of each field, in order."""
    bounds: tuple[tuple[int, int] | None, ...]

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return every field, clamped to its bounds. Invalid digits count as the first allowed digit."""
        texts = [view.slot_text(start, size) for start, size in self.slots]
        if not required and not any(text.strip() for text in texts):
            return None
        pieces: JSONPieces = [(f'"{self.separators[0]}', False)]
        for at, (start, size) in enumerate(self.slots):
            pieces.append((self._field(at, texts[at]), view.is_unsettled(start, size)))
            pieces.append((self.separators[at + 1], False))
        return [*pieces, ('"', False)]

    def _field(self, at: int, text: str) -> str:
        size, digits, bounds = self.slots[at][1], self.digits[at], self.bounds[at]
        digits_only = "".join(char if char in digits else digits[0] for char in text[:size]).ljust(size, digits[0])
        return digits_only if bounds is None else f"{min(max(int(digits_only), bounds[0]), bounds[1]):0{size}}"

    def parse(self, text: str) -> str | None:
        """Accept a text of this format."""
        text = text.strip('"')
        pattern = re.escape(self.separators[0])
        for at, (_, size) in enumerate(self.slots):
            pattern += f"([{self.digits[at]}]{{{size}}}){re.escape(self.separators[at + 1])}"
        match = re.fullmatch(pattern, text)
        return self._join([match[at + 1] for at in range(len(self.slots))]) if match else None

    def blank(self) -> str:
        """Return the smallest value."""
        return self._join(["" for _ in self.slots])

    def _join(self, texts: list[str]) -> str:
        fields = (self._field(at, text) + self.separators[at + 1] for at, text in enumerate(texts))
        return f'"{self.separators[0]}{"".join(fields)}"'


@dataclass(frozen=True, slots=True)
class TextSlot:
    """A text: the contents of the slot before the first quote or special token."""

    start: int
    size: int
    min_length: int
    max_length: int

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the stripped text, cut or filled to its length limits."""
        reading = view.decode_slot(self.start, self.size)
        text, spans = reading.text, reading.unsettled
        if '"' in text or "\\" in text:
            text, spans = _unescaped(text, spans)
        start = len(text) - len(text.lstrip())
        text = text[start:].rstrip()[: self.max_length].rstrip()
        if not text and not required:
            return None
        pieces: JSONPieces = [('"', False)]
        done = 0
        for a, b in spans:
            a, b = max(a - start, 0), min(b - start, len(text))
            if a < b:
                pieces += [(_inside(text[done:a]), False), (_inside(text[a:b]), True)]
                done = b
        pieces.append((_inside(text[done:]), False))
        if len(text) < self.min_length:
            pieces.append(("." * (self.min_length - len(text)), view.is_unsettled(self.start, self.size)))
        return [*pieces, ('"', False)]

    def parse(self, text: str) -> str | None:
        """Accept any text, with its length adjusted."""
        if not text:
            return None
        return compact_json(text.strip()[: self.max_length].strip().ljust(self.min_length, "."))

    def blank(self) -> str:
        """Return a text of the minimum length."""
        return compact_json("." * self.min_length)


@dataclass(frozen=True, slots=True)
class ScalarUnion:
    """One of several scalar types, decided by the contents of the slot."""

    start: int
    size: int
    options: tuple[Leaf, ...]

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the first type that the text matches; text types come last."""
        raw = view.slot_text(self.start, self.size).strip()
        quoted = raw.startswith('"')
        inner = _unescaped(raw[quoted:], ())[0].strip()
        is_unsettled = view.is_unsettled(self.start, self.size)
        if not inner and not required:
            return None
        texts = [option for option in self.options if isinstance(option, TextSlot)]
        for option in texts if quoted and texts else sorted(self.options, key=lambda one: isinstance(one, TextSlot)):
            if (json := option.parse(inner)) is not None:
                return [(json, is_unsettled)]
        return [(self.options[0].blank(), is_unsettled)]


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several schemas, which all have slots. The selector names the one that is read."""

    selector: Value
    names: tuple[str, ...]
    """JSON of the names."""
    options: tuple[Value | None, ...]
    """None for a schema without room, because it is nested too deeply."""

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the selected value, or the first available. It is unsettled while the selector is."""
        ((name, is_unsettled),) = self.selector.read(view, True) or [("", False)]
        option = self.options[self.names.index(name)] or next(one for one in self.options if one is not None)
        pieces = option.read(view, required)
        return [(text, is_unsettled or soft) for text, soft in pieces] if pieces is not None else None


@dataclass(frozen=True, slots=True)
class OptionalSlot:
    """A value, or null without contents."""

    inner: Value
    start: int
    size: int

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the value or null."""
        pieces = self.inner.read(view, False)
        return pieces if pieces is not None or not required else [("null", view.is_unsettled(self.start, self.size))]


@dataclass(frozen=True, slots=True)
class Container:
    """A list, an object or a tuple."""

    brackets: str
    """The opening and the closing bracket."""
    items: tuple[tuple[str, Value], ...]
    """Each value with the name before it, including quotes and colon; "" in lists."""
    min_items: int
    """Number of items that are always present; others only with contents."""

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return all values, or None if none has contents."""
        values = [item.read(view, False) for _, item in self.items]
        if all(one is None for one in values) and not required:
            return None
        missing = self.min_items - sum(one is not None for one in values)
        pieces: JSONPieces = [(self.brackets[0], False)]
        for (name, item), item_pieces in zip(self.items, values, strict=True):
            one = item_pieces
            if one is None and missing > 0:
                missing -= 1
                one = item.read(view, True)
            if one is not None:
                pieces.append((("," if len(pieces) > 1 else "") + name, False))
                pieces += one
        return [*pieces, (self.brackets[1], False)]


@dataclass(frozen=True, slots=True)
class MapSlot:
    """A map with free names."""

    items: tuple[tuple[TextSlot, Value], ...]
    min_items: int

    def read(self, view: CanvasView, required: bool) -> JSONPieces | None:
        """Return the entries that have a name, without duplicates."""
        taken: set[str] = set()
        pieces: JSONPieces = [("{", False)]
        for key, item in self.items:
            name = key.read(view, False)
            if name is None or "".join(text for text, _ in name) in taken:
                continue
            taken.add("".join(text for text, _ in name))
            pieces += [("," if len(pieces) > 1 else "", False), *name, (":", False), *(item.read(view, True) or [])]
        free_names = (f'"{n}"' for n in range(1, 2 * len(self.items) + 2))
        for key, item in self.items[len(taken) :]:
            if len(taken) >= self.min_items:
                break
            name_json = next(one for one in free_names if one not in taken)
            taken.add(name_json)
            is_unsettled = view.is_unsettled(key.start, key.size)
            pieces += [
                ("," if len(pieces) > 1 else "", False),
                (f"{name_json}:", is_unsettled),
                *(item.read(view, True) or []),
            ]
        return [*pieces, ("}", False)] if taken or required else None


def _inside(text: str) -> str:
    """Escape a text for a JSON string."""
    return compact_json(text)[1:-1]


def _unescaped(text: str, spans: Sequence[Span]) -> tuple[str, tuple[Span, ...]]:
    """Return the text before the first quote, with JSON escapes resolved. Incomplete escapes are dropped."""
    flags = bytearray(len(text))
    for a, b in spans:
        flags[a:b] = b"\1" * (b - a)
    out, marks, at = "", bytearray(), 0
    while at < len(text) and text[at] != '"':
        start, char = at, text[at]
        at += 1
        if char == "\\":
            if at == len(text):
                break
            char = text[at]
            at += 1
            if char == "u":
                code = text[at : at + 4]
                char = chr(int(code, 16)) if re.fullmatch("[0-9a-fA-F]{4}", code) else ""
                at += 4 if char else 0
                char = char if char.isprintable() else ""
            else:
                char = _ESCAPES.get(char, char)
        out += char
        if char:
            marks.append(any(flags[start:at]))
    return out, tuple(match.span() for match in re.finditer(b"\1+", marks))
