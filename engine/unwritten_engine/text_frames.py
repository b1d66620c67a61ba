"""Pieces of text in, frames out: what may be shown of a text that grows at its end.

Three things are held back or marked until they are certain: a tail that may be the beginning of a stop string
(it must never flash on the screen), the last word, which the next token may continue (unsettled), and white space
at the end, which is dropped if nothing follows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from .frames import Frame

_LONGEST_WORD = 64
"""Characters; what is longer is no word, but a language without spaces."""
_WHOLE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Chinese and Japanese characters and marks: no token continues one of them."""


def _last_word(text: str) -> int:
    """Where the word begins that the text ends with; its length if it ends with a whole one."""
    start = len(text)
    while start and len(text) - start < _LONGEST_WORD:
        if text[start - 1].isspace() or _WHOLE.match(text[start - 1]):
            break
        start -= 1
    return start


class TextFrames:
    """The text of one generation.

    Args:
        opening: text that every frame begins with.
        ends: strings that end the text and are its natural end.
        stops: strings that end the text because the request said so.
        canvas_length: tokens per canvas.
        budget: the largest number of tokens.
    """

    def __init__(
        self, opening: str, ends: Sequence[str], stops: Sequence[str], canvas_length: int, budget: int
    ) -> None:
        self._opening = opening
        self._stops = [(stop, True) for stop in stops if stop] + [(end, False) for end in ends if end]
        self._longest = max((len(stop) for stop, _ in self._stops), default=0)
        self._text = ""
        self._shown = 0
        self._canvas_length = canvas_length
        self._budget = budget
        self.stopped = False
        """A stop string of the request came."""
        self.ended = False
        """A stop string of either kind came."""

    @property
    def written(self) -> str:
        """All that the model wrote, what is held back included."""
        return self._text

    def push(self, piece: str) -> bool:
        """Add what the model wrote next. True if the text has come to its end with it."""
        if not self._text and not self._opening.strip():
            piece = piece.lstrip()  # an answer does not begin with white space
        searched = max(0, len(self._text) - self._longest + 1)
        self._text += piece
        found = [(at, wanted) for stop, wanted in self._stops if (at := self._text.find(stop, searched)) >= 0]
        if found:
            at, self.stopped = min(found)
            self._text = self._text[:at]
            self.ended = True
        self._shown = len(self._text) - (0 if self.ended else self._held())
        return self.ended

    def _held(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        for size in range(min(self._longest - 1, len(self._text)), 0, -1):
            tail = self._text[-size:]
            if any(stop.startswith(tail) for stop, _ in self._stops):
                return size
        return 0

    def frame(self, tokens: int) -> Frame:
        """What may be shown after so many tokens."""
        text = self._opening + self._text[: self._shown]
        if text[-1:].isspace():
            return self._placed(Frame(text, (), len(text.rstrip())), tokens)
        start = max(_last_word(text), len(self._opening))  # the opening itself never changes
        spans = ((start, len(text)),) if start < len(text) else ()
        return self._placed(Frame(text, spans, start), tokens)

    def last(self, tokens: int) -> Frame:
        """The whole text, all of it fixed. The usage is still to be added."""
        text = self._opening + self._text
        text = text.rstrip() if self._text.strip() else self._opening
        return self._placed(Frame(text, (), len(text)), tokens)

    def _placed(self, frame: Frame, tokens: int) -> Frame:
        length, budget = self._canvas_length, self._budget
        canvas = max(0, tokens - 1) // length
        return replace(
            frame,
            canvas=canvas,
            canvases=-(-budget // length),
            step=tokens - canvas * length,
            steps=min(length, budget - canvas * length),
        )
