"""The outline of a request: what stands on its canvases before the first step, and how they are read.

Plain text may have a pinned opening, an edit begins with a text of which parts are pinned, and a shape is a skeleton of
pinned tokens. For the loop they are all the same: pins, starting tokens and classes by position, cut into canvases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...errors import RequestRefused
from ...frames import Draft, Request, Span
from .detokenizer import DecodedText, Detokenizer, cut_at_stop, find_unshowable
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
    initial: Sequence[int] = ()
    strength: float = 1.0
    mask_ids: Sequence[int] = ()


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
    max_tokens: int
    detokenizer: Detokenizer
    pins: tuple[int, ...] = ()
    initial: tuple[int, ...] = ()
    mask_ids: tuple[int, ...] = ()
    strength: float = 1.0
    kept_span: Span | None = None
    skeleton: Skeleton | None = None
    stop: tuple[str, ...] = ()

    def init_canvas(self, number: int, size: int) -> CanvasInit:
        """How this canvas begins."""

        def part(values: tuple[int, ...], filler: int) -> tuple[int, ...]:
            here = values[number * size : (number + 1) * size]
            return (*here, *[filler] * (size - len(here))) if here else ()

        return CanvasInit(number, part(self.pins, -1), part(self.initial, -1), self.strength, part(self.mask_ids, 0))

    def decode(self, ids: Sequence[int], unsettled: Sequence[bool], before: DecodedText | None = None) -> DecodedText:
        """The text of all canvases so far; ``before`` is that of the finished ones."""
        if self.skeleton is not None:
            return self.skeleton.decode(ids, unsettled)
        found = self.detokenizer.decode(ids[: self.max_tokens], unsettled, kept_span=self.kept_span, before=before)
        found = cut_at_stop(found, self.stop, self._free(found))
        end = len(found.text.rstrip())
        if self.kept_span is not None or end == len(found.text):
            return found
        spans = tuple((a, min(b, end)) for a, b in found.unsettled if a < end)
        return replace(found, text=found.text[:end], unsettled=spans, resumable=False)

    def ends_with_stop(self, ids: Sequence[int]) -> bool:
        """Whether the text of these settled tokens ends with a stop string, and not before."""
        found = self.detokenizer.decode(ids[: self.max_tokens], [False] * len(ids), kept_span=self.kept_span)
        return cut_at_stop(found, self.stop, self._free(found)) is not found

    def num_fixed_chars(self, before: DecodedText) -> int:
        """How many characters of finished canvases stay whatever follows: half a stop string may take the last away."""
        text, first = before.text, self._free(before)
        for end in range(max(first, len(text) - max(map(len, self.stop), default=0) + 1), len(text)):
            if any(stop.startswith(text[end:]) for stop in self.stop):
                return end if self.kept_span is not None else len(text[:end].rstrip())
        return len(text)

    def _free(self, found: DecodedText) -> int:
        """Where stop strings begin to count: after all that is kept."""
        if self.kept_span is None:
            return 0
        return found.starts[self.kept_span[1]] if self.kept_span[1] < len(found.starts) else len(found.text)


def plan_canvases(
    request: Request, detokenizer: Detokenizer, canvas_length: int, register_mask: Callable[[bytes], int]
) -> CanvasPlan:
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
    limit = request.budget(canvas_length)
    canvases = -(-limit // canvas_length)
    opening = request.prompt.opening
    if request.schema is not None:
        if opening.strip() or request.draft is not None:
            other = "a draft" if request.draft is not None else "an opening"
            raise RequestRefused(f"A request with a shape cannot have {other}. Leave it out.")
        made = build_skeleton(
            request.schema, detokenizer, canvases=request.canvases, canvas_length=canvas_length, max_tokens=limit
        )
        rows = [0, *(register_mask(mask) for mask in made.masks)]
        return CanvasPlan(
            canvases=-(-(made.length + 1) // canvas_length),
            max_tokens=limit,
            detokenizer=detokenizer,
            pins=made.pins,
            mask_ids=tuple(rows[number] for number in made.mask_ids),
            skeleton=made,
        )
    if request.draft is not None:
        if not request.draft.text.startswith(opening):
            raise RequestRefused(
                f"The draft does not begin with the opening {opening[:40]!r}. Leave one of them out, or begin the "
                f"draft with it."
            )
        begun = init_edit(request.draft, detokenizer, budget=limit)
        return CanvasPlan(
            canvases=canvases,
            max_tokens=limit,
            detokenizer=detokenizer,
            pins=begun.pins,
            initial=_ended(begun.tokens, detokenizer, canvas_length, limit),
            strength=request.draft.strength,
            kept_span=begun.kept_span,
            stop=request.stop,
        )
    if (char := find_unshowable(opening)) is not None:
        raise RequestRefused(f"The opening has the character {char!r}, which cannot be shown. Take it out.")
    pins = detokenizer.encode(detokenizer.protect_leading_space(opening)) if opening else ()
    if len(pins) >= limit:
        raise RequestRefused(f"The opening has {len(pins)} tokens, and the budget is {limit}. Ask for more canvases.")
    kept = (0, len(pins)) if pins else None
    return CanvasPlan(
        canvases=canvases, max_tokens=limit, detokenizer=detokenizer, pins=pins, kept_span=kept, stop=request.stop
    )


def _ended(tokens: tuple[int, ...], reader: Detokenizer, size: int, limit: int) -> tuple[int, ...]:
    """The starting tokens with an end and padding up to the end of their canvas, as the model knows texts to end.

    With noise there, a light touch would write on behind the text.
    """
    rest = min(-len(tokens) % size or size, limit - len(tokens))
    return (*tokens, *[reader.end_id, *[reader.pad_id] * (rest - 1)][:rest])


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
    kept_span: Span | None


def init_edit(draft: Draft, detokenizer: Detokenizer, *, budget: int, end: int | None = None) -> EditInit:
    """The starting tokens of an edit.

    Args:
        draft: the text, and what to keep of it.
        reader: of the model.
        budget: tokens that may be written.
        end: the end token, pinned after a kept span at the text's end; None for the model's own.

    Raises:
        RequestRefused: the text has more tokens than the budget, or a kept span holds what cannot be shown.
    """
    end = detokenizer.end_id if end is None else end
    tokens: list[int] = []
    pins: list[int] = []
    kept: Span | None = None
    for (a, b), keep in _stretches(draft):
        text = draft.text[a:b]
        if keep and (char := find_unshowable(text)) is not None:
            raise RequestRefused(
                f"Draft.keep has the span {(a, b)} with the character {char!r}, which cannot be shown. "
                "Take it out of the text, or keep the stretches before and after it."
            )
        if keep and not tokens:
            text = detokenizer.protect_leading_space(text)
        ids = detokenizer.encode("".join(char for char in text if keep or find_unshowable(char) is None))
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
