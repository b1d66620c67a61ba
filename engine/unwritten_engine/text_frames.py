"""Convert a growing text into frames.

Three things are held back or marked until they are certain: a tail that may start a stop string, the last word, which
the next token may continue (unsettled), and trailing white space, which is dropped if nothing follows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from .frames import Frame

_LONGEST_WORD = 64
"""In characters. Longer runs are text of a language without spaces."""
_WHOLE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Chinese and Japanese characters and punctuation, which later tokens never extend."""


def last_word(text: str) -> int:
    """Return where the last word of the text begins; the length of the text if it ends between words."""
    start = len(text)
    while start and len(text) - start < _LONGEST_WORD:
        if text[start - 1].isspace() or _WHOLE.match(text[start - 1]):
            break
        start -= 1
    return start


def num_held_back(text: str, stops: Sequence[str]) -> int:
    """Return how many trailing characters may be the start of a stop string."""
    longest = max(map(len, stops), default=0)
    for size in range(min(longest - 1, len(text)), 0, -1):
        tail = text[-size:]
        if any(stop.startswith(tail) for stop in stops):
            return size
    return 0


class TextFrames:
    """The text of one generation.

    Args:
        opening: text that every frame begins with.
        ends: strings that end the text naturally.
        stops: stop strings of the request.
        canvas_length: tokens per canvas.
        budget: maximum number of tokens.
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
        """A stop string of the request was found."""
        self.ended = False
        """A stop string or an end string was found."""

    @property
    def raw_text(self) -> str:
        """All output of the model so far, including held-back text."""
        return self._text

    def push(self, piece: str) -> bool:
        """Append output of the model. Return True if the text has ended."""
        if not self._text and not self._opening.strip():
            piece = piece.lstrip()  # no leading white space
        searched = max(0, len(self._text) - self._longest + 1)
        self._text += piece
        matches = [(at, wanted) for stop, wanted in self._stops if (at := self._text.find(stop, searched)) >= 0]
        if matches:
            at, self.stopped = min(matches)
            self._text = self._text[:at]
            self.ended = True
        held_back = 0 if self.ended else num_held_back(self._text, [stop for stop, _ in self._stops])
        self._shown = len(self._text) - held_back
        return self.ended

    def frame(self, tokens: int) -> Frame:
        """Return the frame after ``tokens`` tokens."""
        text = self._opening + self._text[: self._shown]
        if text[-1:].isspace():
            return self._with_position(Frame(text, (), len(text.rstrip())), tokens)
        start = max(last_word(text), len(self._opening))  # the opening itself never changes
        spans = ((start, len(text)),) if start < len(text) else ()
        return self._with_position(Frame(text, spans, start), tokens)

    def last(self, tokens: int) -> Frame:
        """Return the last frame, with the whole text fixed. The caller adds the usage."""
        text = self._opening + self._text
        text = text.rstrip() if self._text.strip() else self._opening
        return self._with_position(Frame(text, (), len(text)), tokens)

    def _with_position(self, frame: Frame, tokens: int) -> Frame:
        length, budget = self._canvas_length, self._budget
        canvas = max(0, tokens - 1) // length
        return replace(
            frame,
            canvas=canvas,
            canvases=-(-budget // length),
            step=tokens - canvas * length,
            steps=min(length, budget - canvas * length),
        )
