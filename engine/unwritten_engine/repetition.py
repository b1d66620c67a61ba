"""Detect text that repeats itself without end.

Small models fall into loops: a sentence, a row of a table, two paragraphs or one word again and again, or a numbered
list whose items say the same. A loop is text with a period: every character equals the one a fixed distance before it.
Refrains, litanies, similar rows and lists of records do not have a period, because something changes in each round. How
many rounds make a loop depends on what is repeated: four long paragraphs, but sixteen short words.

The text is compared without what changes although it says nothing new: the amount of white space, and numbers that
count. Candidates for the period come from a table of the last position of every window of a few characters. Each
character is looked at once, so a text costs linear time however it is divided into frames.
"""

from __future__ import annotations

import re
from typing import Final

from .engine import About
from .frames import Frame, Request, StopReason

_WINDOW: Final = 12
"""Characters that must occur again to suggest a period."""
_HINT: Final = 4
"""Characters that must occur again to hold back what may be the start of a repetition."""
_MAX_PERIOD: Final = 4000
_COUNTER: Final = "\0"
"""Stands for a number that counts."""
_TOKEN = re.compile(r"\s+|\d{1,9}|[^\s\d]+")
_ITEM_MARKS = frozenset("#*_>(-+ \t")
"""Characters that may stand before the number of an item."""
_BOUNDARY = re.compile(r"(?<!\0)[.!?…。！？।؟۔።։][\"'”’»)\]*_」』]*(?=\s|$)|[。！？]|\n")
_MARKUP = re.compile(r"\s*(?:<|\{|\[(?!\[)|```|~~~)")


class RepetitionGuard:
    """Ends a text that repeats itself without end. What has been repeated stays once.

    Edits are not judged: they repeat what the old text has.
    """

    reason: StopReason = "repetition"

    def __init__(self, request: Request, about: About) -> None:
        self._judges = request.draft is None
        self._drafts = about.abilities.drafts
        self._skipped = len(request.prompt.opening)
        self._is_data = request.schema is not None
        self._detector: RepetitionDetector | None = None
        self._seen = ""
        self.fixed = 0
        """Leading characters of the last frame that are not part of a possible repetition."""

    def check(self, frame: Frame) -> int | None:
        """Return the length that the text is cut to, or None if it does not repeat itself."""
        settled = frame.text if frame.done or not self._drafts else frame.text[: frame.fixed]
        self.fixed = len(frame.text)
        if not self._judges or len(settled) <= self._skipped:
            return None
        if self._detector is None or not settled.startswith(self._seen):
            is_markup = self._is_data or _MARKUP.match(settled) is not None
            self._detector = RepetitionDetector(is_markup=is_markup)
            self._seen = settled[: self._skipped]
        end = self._detector.push(settled[len(self._seen) :], final=frame.done)
        self._seen = settled
        if end is None and frame.done:
            return None
        self.fixed = self._skipped + self._detector.kept
        return None if end is None else self._skipped + end


class RepetitionDetector:
    """Finds the first loop in a text that grows.

    Args:
        is_markup: the text is markup, data or code, which repeats itself more than prose does.

    Attributes:
        kept: leading characters that stay whatever follows. It only rises.
    """

    def __init__(self, *, is_markup: bool = False) -> None:
        self.kept = 0
        self._is_markup = is_markup
        self._pending = ""  # white space or a number that may go on
        self._length = 0  # of the text that has been compared
        self._text = ""  # as it is compared
        self._positions: list[int] = []  # of its characters in the original text
        self._last: dict[str, int] = {}  # the end of the last occurrence of each window
        self._first: dict[str, int] = {}  # the end of the first occurrence of each short piece
        self._start = self._period = 0  # of the current repetition; a period of 0 is none
        self._in_code = False
        self._count = -1  # the last number that may count
        self._line_marks_only = True

    def push(self, piece: str, *, final: bool = False) -> int | None:
        """Add text; return the length that the whole text is to be cut to if it has a loop.

        Args:
            piece: the text that follows.
            final: nothing follows it.
        """
        compared = self._compare_form(piece, final=final)
        begin = len(self._text)
        self._text += compared
        text, last, first = self._text, self._last, self._first
        for at in range(begin, len(text)):
            if self._period and text[at] != text[at - self._period]:
                if (end := self._judge(at)) is not None:
                    return end
                self._period = 0
            if text[at] in "`~" and text[at - 2 : at] == text[at] * 2 and text[max(0, at - 3) : at - 2] in {"", "\n"}:
                self._in_code = not self._in_code
            first.setdefault(text[at - _HINT + 1 : at + 1], at)
            if at < _WINDOW - 1:
                continue
            window = text[at - _WINDOW + 1 : at + 1]
            if not self._period:
                before = last.get(window)
                if before is not None and at - before <= _MAX_PERIOD:
                    self._period = at - before
                    self._start = self._first_of_run(before - _WINDOW + 1)
            last[window] = at
        end = self._judge(len(text)) if self._period else None
        if end is None:
            certain = self._start + self._period if self._period else len(text) - self._num_repeated()
            spaces = len(self._pending) if self._pending.isspace() else 0
            self.kept = max(self.kept, self._positions[certain] if certain < len(text) else self._length + spaces)
        return end

    def _num_repeated(self) -> int:
        """Return how many of the last characters may be the start of a repetition, because they occurred before.

        The last ones, fewer than ``_HINT``, always may, unless the text has only begun.
        """
        text, end = self._text, len(self._text)
        if end < 2 * _HINT:
            while end and text.index(text[end - 1]) < end - 1:
                end -= 1
            return len(text) - end
        while len(text) - end < _WINDOW and end >= _HINT and self._first[text[end - _HINT : end]] < end - 1:
            end -= 1
        return len(text) - end + _HINT - 1

    # -- the form in which text is compared ---------------------------------------------------------------

    def _compare_form(self, piece: str, *, final: bool) -> str:
        """Return new text without differences in white space and counting numbers."""
        piece = self._pending + piece
        compared: list[str] = []
        end = 0
        for match in _TOKEN.finditer(piece):
            token, end = match[0], match.end()
            following = piece[end : end + 2]
            is_number = token.isdecimal()
            if not final and ((token.isspace() and not following) or (is_number and len(following) < 2)):
                end = match.start()
                break
            if token.isspace():
                form = "\n" if "\n" in token else " "
                if form == "\n":
                    self._line_marks_only = True
            elif is_number:
                form = self._number_form(token, following, (compared[-1] if compared else self._text)[-1:])
                self._line_marks_only = False
            else:
                form = token
                self._line_marks_only = self._line_marks_only and not set(token) - _ITEM_MARKS
            compared.append(form)
            if len(form) == len(token):
                self._positions.extend(range(self._length, self._length + len(token)))
            else:
                self._positions.append(self._length)
            self._length += len(token)
        self._pending = piece[end:]
        return "".join(compared)

    def _number_form(self, digits: str, following: str, before: str) -> str:
        """Return a number, or the sign for one that counts: the last number or the next, or the first of a list."""
        if self._is_markup or self._in_code:
            return digits
        number = int(digits)
        starts_item = following[:1] in {".", ")", ":"} and (not following[1:] or following[1:].isspace())
        is_ordinal = (starts_item and (self._line_marks_only or before.isspace())) or following[:1] in {"\n", ""}
        if number == self._count:
            return _COUNTER
        counts = (number == self._count + 1 and not before.isalpha()) or (is_ordinal and number in {0, 1})
        self._count = number
        return _COUNTER if counts else digits

    # -- loops --------------------------------------------------------------------------------------------

    def _first_of_run(self, start: int) -> int:
        """Return where the text begins to have the current period, at or before ``start``."""
        text, period = self._text, self._period
        lowest = max(0, start - _MAX_PERIOD)
        for step in (256, 16, 1):
            while start - step >= lowest and (
                text[start - step : start] == text[start - step + period : start + period]
            ):
                start -= step
        return start

    def _judge(self, end: int) -> int | None:
        """Return the length of the text without the repetition that ends at ``end``, or None if it is not a loop."""
        start, period = self._start, self._period
        if not self._is_loop(self._text[end - period : end], end - start):
            return None
        # What is repeated stays once, and then up to the end of its sentence or line.
        first = cut = start + period
        for boundary in _BOUNDARY.finditer(self._text, max(start, first - 4), min(end, first + period)):
            if boundary.end() >= first - 1:
                cut = max(first - 1, boundary.end())
                break
        position = self._positions[cut] if cut < len(self._positions) else self._length
        return max(position, self.kept)

    def _is_loop(self, unit: str, length: int) -> bool:
        """True if a unit that is repeated over a length is a loop, and not a rhythm or an ornament."""
        rounds = length / len(unit)
        if self._is_markup or self._in_code:
            return rounds >= 12 and length >= 1200
        num_letters = sum(char.isalpha() for char in unit)
        if _COUNTER in unit and num_letters:
            # A table of contents, or the states of forty rooms. Tables may be longer.
            is_row = "|" in unit
            return (rounds > 40 and length >= 400 and not is_row) or (
                rounds >= 8 and length >= (3000 if is_row else 1000)
            )
        if num_letters * 3 < len(unit) - unit.count(" "):  # rules, boxes and tables without content
            return length >= 400 and rounds >= 16
        if len(unit) < 4:
            return length >= 200
        if len(unit) <= 12:
            return rounds >= 16
        if len(unit) <= 60:
            return rounds >= 12 and length >= 250
        return rounds >= (5 if len(unit) <= 200 else 4)
