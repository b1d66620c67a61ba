"""The values of a skeleton: each knows its slot in the canvas, and reads whatever stands there as JSON that is valid.

A value is read as pieces of JSON with the mark whether they may still change. A value that says nothing (an empty
slot, a constant) is read as None, unless it must be there.
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
"""The formats of texts that are fields of digits: size, digits and bounds of each, and what stands between them."""


@dataclass(frozen=True, slots=True)
class CanvasView:
    """What stands in the canvases at this moment. Where they have not come to yet, there is padding in flux."""

    detokenizer: Detokenizer
    ids: Sequence[int]
    unsettled: Sequence[bool]

    def token_at(self, at: int) -> int:
        """The token at a position."""
        return self.ids[at] if at < len(self.ids) else self.detokenizer.pad_id

    def is_unsettled(self, start: int, size: int) -> bool:
        """Whether a token of this slot may still change."""
        return start + size > len(self.ids) or any(self.unsettled[start : start + size])

    def decode_slot(self, start: int, size: int) -> DecodedText:
        """What stands before the first special token of a slot."""
        end = min(start + size, len(self.ids))
        special = self.detokenizer.special_ids
        stop = next((at for at in range(start, end) if self.ids[at] in special), end)
        return self.detokenizer.decode(self.ids[start:stop], self.unsettled[start:stop])

    def slot_text(self, start: int, size: int) -> str:
        """The same as a plain text."""
        return self.decode_slot(start, size).text


class Value(Protocol):
    """A part of a skeleton."""

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """The value as pieces of JSON; None if it says nothing and need not be there."""
        ...


class Leaf(Value, Protocol):
    """A value that can be read from a text of its own."""

    def parse(self, text: str) -> str | None:
        """The JSON of a text that is such a value."""
        ...

    def blank(self) -> str:
        """The JSON of a value of which nothing is known."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that can only be one."""

    json: str

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """Itself; it says nothing."""
        return [(self.json, False)] if must else None

    def parse(self, text: str) -> str | None:
        """Itself, with or without quotes."""
        return self.json if text in (self.json, self.json.strip('"')) else None

    def blank(self) -> str:
        """Itself."""
        return self.json


@dataclass(frozen=True, slots=True)
class EnumSlot:
    """One of several values: the one whose tokens are nearest to those in the slot."""

    start: int
    size: int
    values: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    """The tokens of each option, filled up with padding; one more of padding alone if there may be no value."""

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """The nearest option; the first of several that are equally near."""
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
            return [(self.blank(), view.is_unsettled(self.start, self.size))] if must else None
        return [(self.values[best], view.is_unsettled(self.start, self.size))]

    def parse(self, text: str) -> str | None:
        """The option of this text."""
        return next((json for json in self.values if text in (json, json.strip('"'))), None)

    def blank(self) -> str:
        """The first."""
        return self.values[0]


@dataclass(frozen=True, slots=True)
class NumberSlot:
    """A number between bounds, which are in units of the last digit after the point."""

    start: int
    size: int
    minimum: int
    maximum: int
    decimals: int

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """The first number in the slot, put between the bounds."""
        found = _NUMBER.search(view.slot_text(self.start, self.size))
        if found is None and not must:
            return None
        return [(self._json(found[0]) if found else self.blank(), view.is_unsettled(self.start, self.size))]

    def parse(self, text: str) -> str | None:
        """The number of this text."""
        return self._json(text) if _NUMBER.fullmatch(text) else None

    def blank(self) -> str:
        """The number nearest to 0."""
        return self._json("0")

    def _json(self, text: str) -> str:
        units = int((Decimal(text) * 10**self.decimals).to_integral_value(ROUND_HALF_EVEN))
        value = Decimal(min(max(units, self.minimum), self.maximum)).scaleb(-self.decimals)
        plain = f"{value:f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain


@dataclass(frozen=True, slots=True)
class DigitsSlot:
    """A date, a time or an id: separators that stand, and fields of digits, each with its bounds."""

    slots: tuple[tuple[int, int], ...]
    """Start and size of the slot of each field."""
    separators: tuple[str, ...]
    """One more than there are fields."""
    digits: tuple[str, ...]
    """The digits that may stand in each field, in their order."""
    bounds: tuple[tuple[int, int] | None, ...]

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """Every field, put between its bounds; a digit that is none counts as the first."""
        texts = [view.slot_text(start, size) for start, size in self.slots]
        if not must and not any(text.strip() for text in texts):
            return None
        pieces: JSONPieces = [(f'"{self.separators[0]}', False)]
        for at, (start, size) in enumerate(self.slots):
            pieces.append((self._field(at, texts[at]), view.is_unsettled(start, size)))
            pieces.append((self.separators[at + 1], False))
        return [*pieces, ('"', False)]

    def _field(self, at: int, text: str) -> str:
        size, digits, bounds = self.slots[at][1], self.digits[at], self.bounds[at]
        kept = "".join(char if char in digits else digits[0] for char in text[:size]).ljust(size, digits[0])
        return kept if bounds is None else f"{min(max(int(kept), bounds[0]), bounds[1]):0{size}}"

    def parse(self, text: str) -> str | None:
        """The value of this text."""
        text = text.strip('"')
        pattern = re.escape(self.separators[0])
        for at, (_, size) in enumerate(self.slots):
            pattern += f"([{self.digits[at]}]{{{size}}}){re.escape(self.separators[at + 1])}"
        found = re.fullmatch(pattern, text)
        return self._join([found[at + 1] for at in range(len(self.slots))]) if found else None

    def blank(self) -> str:
        """The first of all."""
        return self._join(["" for _ in self.slots])

    def _join(self, texts: list[str]) -> str:
        fields = (self._field(at, text) + self.separators[at + 1] for at, text in enumerate(texts))
        return f'"{self.separators[0]}{"".join(fields)}"'


@dataclass(frozen=True, slots=True)
class TextSlot:
    """A text: what stands in the slot before the first quote or special token."""

    start: int
    size: int
    min_length: int
    max_length: int

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """The text without space around it, cut or filled up to the length that it must have."""
        reading = view.decode_slot(self.start, self.size)
        text, spans = reading.text, reading.unsettled
        if '"' in text or "\\" in text:
            text, spans = _unescaped(text, spans)
        start = len(text) - len(text.lstrip())
        text = text[start:].rstrip()[: self.max_length].rstrip()
        if not text and not must:
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
        """The text itself, at the right length."""
        if not text:
            return None
        return compact_json(text.strip()[: self.max_length].strip().ljust(self.min_length, "."))

    def blank(self) -> str:
        """A text that is as long as it must be."""
        return compact_json("." * self.min_length)


@dataclass(frozen=True, slots=True)
class ScalarUnion:
    """One of several kinds of leaves, decided by what stands in the slot."""

    start: int
    size: int
    options: tuple[Leaf, ...]

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """The first kind that the text in the slot is; texts come last."""
        raw = view.slot_text(self.start, self.size).strip()
        quoted = raw.startswith('"')
        inner = _unescaped(raw[quoted:], ())[0].strip()
        flux = view.is_unsettled(self.start, self.size)
        if not inner and not must:
            return None
        texts = [option for option in self.options if isinstance(option, TextSlot)]
        for option in texts if quoted and texts else sorted(self.options, key=lambda one: isinstance(one, TextSlot)):
            if (json := option.parse(inner)) is not None:
                return [(json, flux)]
        return [(self.options[0].blank(), flux)]


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several shapes, which all have their places; the one is read that its slot names."""

    selector: Value
    names: tuple[str, ...]
    """The JSON of the names."""
    options: tuple[Value | None, ...]
    """None where there was no room: the shape would stand inside itself too often."""

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """The shape that is named, or the first that is there. While the name is in flux, all of it is."""
        ((name, flux),) = self.selector.read(view, True) or [("", False)]
        option = self.options[self.names.index(name)] or next(one for one in self.options if one is not None)
        pieces = option.read(view, must)
        return [(text, flux or soft) for text, soft in pieces] if pieces is not None else None


@dataclass(frozen=True, slots=True)
class OptionalSlot:
    """A value, or null where it says nothing."""

    inner: Value
    start: int
    size: int

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """The value or null."""
        found = self.inner.read(view, False)
        return found if found is not None or not must else [("null", view.is_unsettled(self.start, self.size))]


@dataclass(frozen=True, slots=True)
class Container:
    """A list, an object or a map: values with what stands before each."""

    brackets: str
    """The brackets."""
    items: tuple[tuple[str, Value], ...]
    """Each with the name before it, quotes and colon included; empty in lists."""
    min_items: int
    """So many are always there; of the others those that say something."""

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """All values; None if none of them says anything."""
        found = [item.read(view, False) for _, item in self.items]
        if all(one is None for one in found) and not must:
            return None
        missing = self.min_items - sum(one is not None for one in found)
        pieces: JSONPieces = [(self.brackets[0], False)]
        for (name, item), said in zip(self.items, found, strict=True):
            one = said
            if one is None and missing > 0:
                missing -= 1
                one = item.read(view, True)
            if one is not None:
                pieces.append((("," if len(pieces) > 1 else "") + name, False))
                pieces += one
        return [*pieces, (self.brackets[1], False)]


@dataclass(frozen=True, slots=True)
class MapSlot:
    """A map with names of its own."""

    items: tuple[tuple[TextSlot, Value], ...]
    min_items: int

    def read(self, view: CanvasView, must: bool) -> JSONPieces | None:
        """The entries that have a name; no name comes twice."""
        taken: set[str] = set()
        pieces: JSONPieces = [("{", False)]
        for key, item in self.items:
            name = key.read(view, False)
            if name is None or "".join(text for text, _ in name) in taken:
                continue
            taken.add("".join(text for text, _ in name))
            pieces += [("," if len(pieces) > 1 else "", False), *name, (":", False), *(item.read(view, True) or [])]
        spare = (f'"{n}"' for n in range(1, 2 * len(self.items) + 2))
        for key, item in self.items[len(taken) :]:
            if len(taken) >= self.min_items:
                break
            name_json = next(one for one in spare if one not in taken)
            taken.add(name_json)
            flux = view.is_unsettled(key.start, key.size)
            pieces += [("," if len(pieces) > 1 else "", False), (f"{name_json}:", flux), *(item.read(view, True) or [])]
        return [*pieces, ("}", False)] if taken or must else None


def _inside(text: str) -> str:
    """The text as it stands between the quotes of JSON."""
    return compact_json(text)[1:-1]


def _unescaped(text: str, spans: Sequence[Span]) -> tuple[str, tuple[Span, ...]]:
    """What stands before the first quote. The model may write the escapes of JSON; half ones are left out."""
    flags = bytearray(len(text))
    for a, b in spans:
        flags[a:b] = b"\1" * (b - a)
    out, marks, at = "", bytearray(), 0
    while at < len(text) and text[at] != '"':
        begun, char = at, text[at]
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
            marks.append(any(flags[begun:at]))
    return out, tuple(match.span() for match in re.finditer(b"\1+", marks))
