"""The outline of a request: what stands on its canvases before the first step, and how they are read.

Plain text may have a pinned opening, an edit begins with a text of which parts are pinned, and a shape is a skeleton of
pinned tokens. For the loop they are all the same: pins, starting tokens and classes by position, cut into canvases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...errors import RequestRefused
from ...frames import Draft, Request, Span
from .detokenizer import DecodedText, Detokenizer, cut, unshowable
from .schema_skeleton import Skeleton, build_skeleton


@dataclass(frozen=True, slots=True)
class CanvasInit:
    """How a canvas begins.

    Attributes:
        number: of the canvas in its request.
        pins: for each position the token that must stay, or -1; empty for none.
        start: for each position the token to start from, or -1 for a random one; empty for none.
        strength: the share of the starting tokens that is drawn anew.
        classes: for each position a row of masks, 0 where anything may stand; empty for none.
    """

    number: int
    pins: Sequence[int] = ()
    start: Sequence[int] = ()
    strength: float = 1.0
    classes: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class CanvasPlan:
    """How the canvases of one request begin.

    Attributes:
        canvases: how many may be written.
        limit: tokens that count; what comes after them is cut off.
        pins: token or -1 for the first positions; the others are free.
        start: starting token or -1 for the first positions.
        classes: a row of masks or 0 for the first positions.
        strength: the share of the starting tokens that is drawn anew.
        kept: from the first kept position to the one after the last.
        reader: of the model.
        skeleton: if the request has a shape.
        stops: strings that end the text.
    """

    canvases: int
    limit: int
    reader: Detokenizer
    pins: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    classes: tuple[int, ...] = ()
    strength: float = 1.0
    kept: Span | None = None
    skeleton: Skeleton | None = None
    stops: tuple[str, ...] = ()

    def canvas(self, number: int, size: int) -> CanvasInit:
        """How this canvas begins."""

        def part(values: tuple[int, ...], filler: int) -> tuple[int, ...]:
            here = values[number * size : (number + 1) * size]
            return (*here, *[filler] * (size - len(here))) if here else ()

        return CanvasInit(number, part(self.pins, -1), part(self.start, -1), self.strength, part(self.classes, 0))

    def read(self, ids: Sequence[int], unsettled: Sequence[bool], before: DecodedText | None = None) -> DecodedText:
        """The text of all canvases so far; ``before`` is that of the finished ones."""
        if self.skeleton is not None:
            return self.skeleton.read(ids, unsettled)
        found = self.reader.read(ids[: self.limit], unsettled, kept=self.kept, before=before)
        found = cut(found, self.stops, self._free(found))
        end = len(found.text.rstrip())
        if self.kept is not None or end == len(found.text):
            return found
        spans = tuple((a, min(b, end)) for a, b in found.unsettled if a < end)
        return replace(found, text=found.text[:end], unsettled=spans, whole=False)

    def stopped(self, ids: Sequence[int]) -> bool:
        """Whether the text of these settled tokens ends with a stop string, and not before."""
        found = self.reader.read(ids[: self.limit], [False] * len(ids), kept=self.kept)
        return cut(found, self.stops, self._free(found)) is not found

    def certain(self, before: DecodedText) -> int:
        """How many characters of finished canvases stay whatever follows: half a stop string may take the last away."""
        text, first = before.text, self._free(before)
        for end in range(max(first, len(text) - max(map(len, self.stops), default=0) + 1), len(text)):
            if any(stop.startswith(text[end:]) for stop in self.stops):
                return end if self.kept is not None else len(text[:end].rstrip())
        return len(text)

    def _free(self, found: DecodedText) -> int:
        """Where stop strings begin to count: after all that is kept."""
        if self.kept is None:
            return 0
        return found.starts[self.kept[1]] if self.kept[1] < len(found.starts) else len(found.text)


def plan_canvases(request: Request, reader: Detokenizer, size: int, place: Callable[[bytes], int]) -> CanvasPlan:
    """The outline of a request.

    Args:
        request: what is asked for.
        reader: of the model.
        size: tokens in a canvas.
        place: gives a mask of the vocabulary, one byte per token, its row, counted from 1.

    Raises:
        RequestRefused: a shape that cannot be held or does not fit, a text to edit that is too long, or parts of a
            request that exclude each other.
    """
    limit = request.budget(size)
    canvases = -(-limit // size)
    opening = request.prompt.opening
    if request.schema is not None:
        if opening.strip() or request.draft is not None:
            other = "a draft" if request.draft is not None else "an opening"
            raise RequestRefused(f"A request with a shape cannot have {other}. Leave it out.")
        made = build_skeleton(request.schema, reader, canvases=request.canvases, canvas_length=size, most=limit)
        rows = [0, *(place(mask) for mask in made.allowed)]
        return CanvasPlan(
            canvases=-(-(made.length + 1) // size),
            limit=limit,
            reader=reader,
            pins=made.pins,
            classes=tuple(rows[number] for number in made.classes),
            skeleton=made,
        )
    if request.draft is not None:
        if not request.draft.text.startswith(opening):
            raise RequestRefused(
                f"The draft does not begin with the opening {opening[:40]!r}. Leave one of them out, or begin the "
                f"draft with it."
            )
        begun = init_edit(request.draft, reader, budget=limit)
        return CanvasPlan(
            canvases=canvases,
            limit=limit,
            reader=reader,
            pins=begun.pins,
            start=_ended(begun.tokens, reader, size, limit),
            strength=request.draft.strength,
            kept=begun.kept,
            stops=request.stop,
        )
    if (char := unshowable(opening)) is not None:
        raise RequestRefused(f"The opening has the character {char!r}, which cannot be shown. Take it out.")
    pins = reader.encode(reader.shield(opening)) if opening else ()
    if len(pins) >= limit:
        raise RequestRefused(f"The opening has {len(pins)} tokens, and the budget is {limit}. Ask for more canvases.")
    kept = (0, len(pins)) if pins else None
    return CanvasPlan(canvases=canvases, limit=limit, reader=reader, pins=pins, kept=kept, stops=request.stop)


def _ended(tokens: tuple[int, ...], reader: Detokenizer, size: int, limit: int) -> tuple[int, ...]:
    """The starting tokens with an end and padding up to the end of their canvas, as the model knows texts to end.

    With noise there, a light touch would write on behind the text.
    """
    rest = min(-len(tokens) % size or size, limit - len(tokens))
    return (*tokens, *[reader.end, *[reader.pad] * (rest - 1)][:rest])


@dataclass(frozen=True, slots=True)
class EditInit:
    """How an edit begins.

    Attributes:
        tokens: starting tokens of the first positions.
        pins: for each of these positions the token that must stay, or -1 where it is free.
        kept: from the first kept position to the one after the last, for ``Reader.read``; None if nothing is kept.
    """

    tokens: tuple[int, ...]
    pins: tuple[int, ...]
    kept: Span | None


def init_edit(draft: Draft, reader: Detokenizer, *, budget: int, end: int | None = None) -> EditInit:
    """The starting tokens of an edit.

    Args:
        draft: the text, and what to keep of it.
        reader: of the model.
        budget: tokens that may be written.
        end: the end token, pinned after a kept span at the text's end; None for the model's own.

    Raises:
        RequestRefused: the text has more tokens than the budget, or a kept span holds what cannot be shown.
    """
    end = reader.end if end is None else end
    tokens: list[int] = []
    pins: list[int] = []
    kept: Span | None = None
    for (a, b), keep in _stretches(draft):
        text = draft.text[a:b]
        if keep and (char := unshowable(text)) is not None:
            raise RequestRefused(
                f"Draft.keep has the span {(a, b)} with the character {char!r}, which cannot be shown. "
                "Take it out of the text, or keep the stretches before and after it."
            )
        if keep and not tokens:
            text = reader.shield(text)
        ids = reader.encode("".join(char for char in text if keep or unshowable(char) is None))
        if keep:
            kept = (len(tokens) if kept is None else kept[0], len(tokens) + len(ids))
        tokens.extend(ids)
        pins.extend(ids if keep else [-1] * len(ids))
    if kept is not None and kept[1] == len(tokens) and draft.keep[-1][1] == len(draft.text):
        tokens.append(end)
        pins.append(end)
    if len(tokens) > budget:
        raise RequestRefused(
            f"The text to edit has {len(tokens)} tokens, and the budget is {budget}. "
            "Ask for more canvases, or edit a part of the text."
        )
    return EditInit(tuple(tokens), tuple(pins), kept)


def _stretches(draft: Draft) -> list[tuple[Span, bool]]:
    """The text in pieces, each kept or free."""
    pieces, done = [], 0
    for a, b in draft.keep:
        pieces += [((done, a), False), ((a, b), True)]
        done = b
    pieces.append(((done, len(draft.text)), False))
    return [((a, b), keep) for (a, b), keep in pieces if a < b]
