"""An edit as starting tokens: what is kept is pinned, what is free begins with the old text.

Kept and free stretches are tokenised each for itself, so that no token reaches from one into the other, and kept text
comes back exactly, whatever the model writes beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import RequestRefused
from ...frames import Draft, Span
from .text import Detokenizer, unshowable


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
