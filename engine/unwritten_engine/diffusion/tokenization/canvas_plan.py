"""The plan of a request's canvases: initial tokens, pinned tokens, and how to decode them.

Free text may have a pinned opening; an edit starts from a text with pinned spans; a schema is a skeleton of pinned
tokens. For the loop these are all the same: pins, initial tokens and token masks by position, split into blocks. A
*block* is what a model denoises together: a whole canvas, or a part of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ...errors import RequestRefused
from ...frames import Draft, Request, Span
from .detokenizer import DecodedText, Detokenizer, cut_at_stop, find_unshowable
from .schema_skeleton import Skeleton, build_skeleton

_RAISE_BUDGET: Final = "Ask for more canvases, and for more max_tokens if they are set"


@dataclass(frozen=True, slots=True)
class BlockInit:
    """Initial state of one block.

    Attributes:
        number: index of the block.
        pins: for each position the fixed token or -1; empty for none.
        initial: for each position the initial token or -1 for a random one; empty for none.
        strength: share of the initial tokens that are replaced by random ones.
        mask_ids: for each position a row of ``TokenMasks``, 0 for any token; empty for none.
    """

    number: int
    pins: Sequence[int] = ()
    initial: Sequence[int] = ()
    strength: float = 1.0
    mask_ids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class CanvasPlan:
    """Initial state of all blocks of a request, and how to decode them.

    Attributes:
        num_blocks: maximum number of blocks.
        block_length: tokens in a block.
        canvas_length: tokens in a canvas, a multiple of ``block_length``.
        max_tokens: tokens after this number are dropped.
        detokenizer: of the model.
        pins: fixed token or -1 for the first positions; the others are free.
        initial: initial token or -1 for the first positions.
        mask_ids: row of ``TokenMasks`` or 0 for the first positions.
        strength: share of the initial tokens that are replaced by random ones.
        kept_span: from the first kept position to the end of the last.
        skeleton: set if the request has a schema.
        stop: strings that end the text.
    """

    num_blocks: int
    block_length: int
    canvas_length: int
    max_tokens: int
    detokenizer: Detokenizer
    pins: tuple[int, ...] = ()
    initial: tuple[int, ...] = ()
    mask_ids: tuple[int, ...] = ()
    strength: float = 1.0
    kept_span: Span | None = None
    skeleton: Skeleton | None = None
    stop: tuple[str, ...] = ()

    @property
    def canvases(self) -> int:
        """Maximum number of canvases."""
        return self.num_canvases(self.num_blocks)

    def num_canvases(self, num_blocks: int) -> int:
        """Return how many canvases are started with a number of blocks."""
        return -(-num_blocks * self.block_length // self.canvas_length)

    def place_in_canvas(self, block: int) -> tuple[int, int, int]:
        """Return the canvas of a block, the block's index in it, and the number of blocks of this canvas."""
        per_canvas = self.canvas_length // self.block_length
        canvas, index = divmod(block, per_canvas)
        return canvas, index, min(per_canvas, self.num_blocks - canvas * per_canvas)

    def init_block(self, number: int) -> BlockInit:
        """Return the initial state of a block."""
        size = self.block_length

        def part(values: tuple[int, ...], filler: int) -> tuple[int, ...]:
            found = values[number * size : (number + 1) * size]
            return (*found, *[filler] * (size - len(found))) if found else ()

        return BlockInit(number, part(self.pins, -1), part(self.initial, -1), self.strength, part(self.mask_ids, 0))

    def given_after(self, block: int) -> tuple[tuple[int, ...], list[bool]]:
        """Return the tokens that a request gives for the blocks after this one, and whether each may still change.

        They are the rest of an opening, or of a text to edit, so that every frame has all of it. A skeleton completes
        its text by itself.
        """
        if self.skeleton is not None:
            return (), []
        start = (block + 1) * self.block_length
        return (self.initial or self.pins)[start:], [id < 0 for id in _filled(self.pins, len(self.initial))[start:]]

    def decode(self, ids: Sequence[int], unsettled: Sequence[bool], before: DecodedText | None = None) -> DecodedText:
        """Return the text of all blocks so far. ``before`` is the text of the finished ones."""
        if self.skeleton is not None:
            return self.skeleton.decode(ids, unsettled)
        decoded = self.detokenizer.decode(ids[: self.max_tokens], unsettled, kept_span=self.kept_span, before=before)
        decoded = cut_at_stop(decoded, self.stop, self._free(decoded))
        end = len(decoded.text.rstrip())
        if self.kept_span is not None or end == len(decoded.text):
            return decoded
        spans = tuple((a, min(b, end)) for a, b in decoded.unsettled if a < end)
        return replace(decoded, text=decoded.text[:end], unsettled=spans, resumable=False)

    def ends_with_stop(self, ids: Sequence[int]) -> bool:
        """True if the text of these settled tokens ends with a stop string."""
        decoded = self.detokenizer.decode(ids[: self.max_tokens], [False] * len(ids), kept_span=self.kept_span)
        return cut_at_stop(decoded, self.stop, self._free(decoded)) is not decoded

    def is_judged(self, ids: Sequence[int]) -> bool:
        """True if these finished blocks show whether there is text: its first canvas is full, or the text has ended."""
        if self.skeleton is not None or (len(ids) - 1) // self.canvas_length != self._first_free // self.canvas_length:
            return False
        full = len(ids) % self.canvas_length == 0 or len(ids) == self.num_blocks * self.block_length
        return full or self.decode(ids, [False] * len(ids)).ended

    def is_padding(self, ids: Sequence[int]) -> bool:
        """True if all free positions so far are padding, without an end token."""
        free = [id for at, id in enumerate(ids) if at >= len(self.pins) or self.pins[at] < 0]
        return bool(free) and free.count(self.detokenizer.pad_id) == len(free)

    def is_empty(self, ids: Sequence[int]) -> bool:
        """True if there is no text so far besides the opening."""
        decoded = self.decode(ids, [False] * len(ids))
        return not decoded.text[0 if self.initial else self._free(decoded) :].strip()

    def require_text(self, block: int, register_mask: Callable[[bytes], int]) -> CanvasPlan:
        """Return this plan with visible text at a block's first free position: no end token, padding, thought or blank.

        Short prompts can make the model end at once. This is not the default, because masks slow down every step.
        """
        mask = self.detokenizer.token_mask(pattern=r"(?s)\s*\S.*")
        first = max(self._first_free, block * self.block_length)
        return replace(self, mask_ids=(*[0] * first, register_mask(mask)))

    @property
    def _first_free(self) -> int:
        return next((at for at, id in enumerate(self.pins) if id < 0), len(self.pins))

    def num_fixed_chars(self, before: DecodedText) -> int:
        """Return how many characters of finished blocks are fixed: all but a partial stop string."""
        text, first = before.text, self._free(before)
        for end in range(max(first, len(text) - max(map(len, self.stop), default=0) + 1), len(text)):
            if any(stop.startswith(text[end:]) for stop in self.stop):
                return end if self.kept_span is not None else len(text[:end].rstrip())
        return len(text)

    def _free(self, decoded: DecodedText) -> int:
        """Return where stop strings start to count: after the kept span."""
        if self.kept_span is None:
            return 0
        return decoded.starts[self.kept_span[1]] if self.kept_span[1] < len(decoded.starts) else len(decoded.text)


def plan_canvases(
    request: Request,
    detokenizer: Detokenizer,
    canvas_length: int,
    register_mask: Callable[[bytes], int],
    *,
    block_length: int | None = None,
) -> CanvasPlan:
    """Plan the canvases of a request.

    Args:
        request: the request.
        detokenizer: of the model.
        canvas_length: tokens in a canvas.
        register_mask: returns the row, from 1, of a mask with one byte per token.
        block_length: tokens that are denoised together; None for a whole canvas.

    Raises:
        RequestRefused: a schema that is unsupported or does not fit, a text to edit that is too long, or parts of a
            request that exclude each other.
    """
    limit = request.budget(canvas_length)
    block_length = canvas_length if block_length is None else block_length
    num_blocks = -(-limit // block_length)
    opening = request.prompt.opening
    if request.schema is not None:
        if opening.strip() or request.draft is not None:
            other = "a draft" if request.draft is not None else "an opening"
            raise RequestRefused(f"A request with a schema cannot have {other}. Leave it out.")
        skeleton = build_skeleton(
            request.schema, detokenizer, canvases=request.canvases, canvas_length=canvas_length, max_tokens=limit
        )
        rows = [0, *(register_mask(mask) for mask in skeleton.masks)]
        return CanvasPlan(
            num_blocks=-(-(skeleton.length + 1) // block_length),
            block_length=block_length,
            canvas_length=canvas_length,
            max_tokens=limit,
            detokenizer=detokenizer,
            pins=skeleton.pins,
            mask_ids=tuple(rows[number] for number in skeleton.mask_ids),
            skeleton=skeleton,
        )
    if request.draft is not None:
        if not request.draft.text.startswith(opening):
            raise RequestRefused(
                f"The draft does not begin with the opening {opening[:40]!r}. Leave one of them out, or start the "
                f"draft with the opening."
            )
        edit = init_edit(request.draft, detokenizer, budget=limit)
        return CanvasPlan(
            num_blocks=num_blocks,
            block_length=block_length,
            canvas_length=canvas_length,
            max_tokens=limit,
            detokenizer=detokenizer,
            pins=edit.pins,
            initial=_ended(edit.tokens, detokenizer, block_length, limit),
            strength=request.draft.strength,
            kept_span=edit.kept_span,
            stop=request.stop,
        )
    if (char := find_unshowable(opening)) is not None:
        raise RequestRefused(f"The opening has the unsupported character {char!r}. Remove it.")
    pins = detokenizer.encode(detokenizer.protect_leading_space(opening)) if opening else ()
    if len(pins) >= limit:
        raise RequestRefused(f"The opening has {len(pins)} tokens, and the budget is {limit}. {_RAISE_BUDGET}.")
    kept = (0, len(pins)) if pins else None
    return CanvasPlan(
        num_blocks=num_blocks,
        block_length=block_length,
        canvas_length=canvas_length,
        max_tokens=limit,
        detokenizer=detokenizer,
        pins=pins,
        kept_span=kept,
        stop=request.stop,
    )


def _filled(pins: tuple[int, ...], length: int) -> tuple[int, ...]:
    """Append free positions up to a length."""
    return (*pins, *[-1] * (length - len(pins)))


def _ended(tokens: tuple[int, ...], detokenizer: Detokenizer, size: int, limit: int) -> tuple[int, ...]:
    """Append an end token and padding up to the end of the block to the initial tokens.

    With random tokens there, a light edit would continue the text.
    """
    rest = min(-len(tokens) % size or size, limit - len(tokens))
    return (*tokens, *[detokenizer.end_id, *[detokenizer.pad_id] * (rest - 1)][:rest])


@dataclass(frozen=True, slots=True)
class EditInit:
    """Initial state of an edit.

    Attributes:
        tokens: initial tokens of the first positions.
        pins: for each of these positions the fixed token, or -1 if it is free.
        kept_span: from the first kept position to the end of the last, for ``Detokenizer.decode``; None if nothing is
            kept.
    """

    tokens: tuple[int, ...]
    pins: tuple[int, ...]
    kept_span: Span | None


def init_edit(draft: Draft, detokenizer: Detokenizer, *, budget: int, end: int | None = None) -> EditInit:
    """Tokenize a text to edit.

    Args:
        draft: the text and its kept spans.
        detokenizer: of the model.
        budget: maximum number of tokens.
        end: end token that is pinned after a kept span at the text's end; None for the model's own.

    Raises:
        RequestRefused: the text has more tokens than the budget, or a kept span has an unsupported character.
    """
    end = detokenizer.end_id if end is None else end
    tokens: list[int] = []
    pins: list[int] = []
    kept: Span | None = None
    for (a, b), keep in _stretches(draft):
        text = draft.text[a:b]
        if keep and (char := find_unshowable(text)) is not None:
            raise RequestRefused(
                f"Draft.keep has the span {(a, b)} with the unsupported character {char!r}. "
                "Remove it from the text, or keep the spans before and after it."
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
            f"{_RAISE_BUDGET}, or edit a part of the text."
        )
    return EditInit(tuple(tokens), tuple(pins), kept)


def _stretches(draft: Draft) -> list[tuple[Span, bool]]:
    """Split the text into kept and free spans."""
    pieces, done = [], 0
    for a, b in draft.keep:
        pieces += [((done, a), False), ((a, b), True)]
        done = b
    pieces.append(((done, len(draft.text)), False))
    return [((a, b), keep) for (a, b), keep in pieces if a < b]
