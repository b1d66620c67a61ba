"""Characters of generated text: remove those that cannot be stored, sent or shown, and find grapheme boundaries."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

import regex

from .frames import Span

_NONCHARACTERS: Final = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_EDITED: Final = re.compile(
    f"[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\uf8ff\ufdd0-\ufdef\ufeff{_NONCHARACTERS}]"
    "(?:(?<=\r)\n|(?<=[\ud800-\udbff])[\udc00-\udfff])?"
)
"""Control, private-use and noncharacters, and surrogates. Line ends and surrogate pairs match as a whole."""
_HALF: Final = re.compile("[\r\ud800-\udbff]")
"""The first half of a line end or of a surrogate pair."""
_GRAPHEME: Final = regex.compile(r"\X")
_LONGEST_GRAPHEME: Final = 64
"""In code points, twice what Unicode's Stream-Safe Text Format allows. A longer run of marks may be cut."""


class PositionMap:
    """Where the positions of a text are in a copy of it from which parts were removed."""

    def __init__(self) -> None:
        self._starts: list[int] = []  # of the runs that were copied, in the text
        self._targets: list[int] = []  # of the same runs, in the copy
        self.length = 0
        """Length of the copy."""

    def __call__(self, position: int) -> int:
        """Return the position in the copy. A removed position becomes that of what precedes it."""
        run = bisect_right(self._starts, position) - 1
        if run < 0:
            return 0
        end = self._targets[run + 1] if run + 1 < len(self._targets) else self.length
        return min(self._targets[run] + position - self._starts[run], end)

    def spans(self, spans: Iterable[Span]) -> tuple[Span, ...]:
        """Return the spans of the copy, without those of which nothing is left."""
        mapped = ((self(start), self(end)) for start, end in spans)
        return tuple((start, end) for start, end in mapped if start < end)

    def copy(self, start: int, end: int) -> None:
        """Append the part from ``start`` to ``end`` of the text to the copy."""
        if start == end:
            return
        if not self._starts or self._starts[-1] - self._targets[-1] != start - self.length:
            self._starts.append(start)
            self._targets.append(self.length)
        self.length += end - start

    def truncate(self, length: int) -> None:
        """Shorten the copy."""
        while self._targets and self._targets[-1] >= length:
            self._starts.pop()
            self._targets.pop()
        self.length = length


class CharacterCleaner:
    """A growing or changing text without unsafe characters.

    Surrogate pairs become one character, and unpaired surrogates U+FFFD, as do noncharacters and private-use
    characters, which have no common meaning and which programs reserve for themselves. Control characters are removed.

    Attributes:
        text: the clean text. A last character that may be half of a pair is missing until the text is final.
        positions: from positions of the source to positions of the text.
    """

    def __init__(self) -> None:
        self.text = ""
        self.positions = PositionMap()
        self._done = 0

    def update(self, source: str, same: int, *, final: bool) -> int:
        """Replace the source. Return how many leading characters of ``text`` remain the same.

        Args:
            source: the whole new source.
            same: number of its leading characters that are those of the source before.
            final: nothing follows.
        """
        at = min(same, self._done)
        if at and _HALF.match(source[at - 1]):
            at -= 1  # the next character may be another one now
        kept = self.positions(at)
        self.positions.truncate(kept)
        parts = [self.text[:kept]]
        for match in _EDITED.finditer(source, at):
            found = match[0]
            if match.end() == len(source) and not final and _HALF.fullmatch(found):
                break
            parts += [source[at : match.start()], _replacement(found)]
            self.positions.copy(at, match.start() + len(parts[-1]))
            at = match.end()
        end = len(source)
        if end > at and not final and _HALF.match(source[-1]):
            end -= 1
        parts.append(source[at:end])
        self.positions.copy(at, end)
        self._done = end
        self.text = "".join(parts)
        return kept


def clean_characters(text: str) -> str:
    """Return a whole text without unsafe characters, as ``CharacterCleaner`` does."""
    return _EDITED.sub(lambda match: _replacement(match[0]), text)


def _replacement(found: str) -> str:
    if found[0] == "\r":
        return "\n"
    if len(found) == 2:
        return found.encode("utf-16", "surrogatepass").decode("utf-16")
    return "\ufffd" if found >= "\ud800" and found != "\ufeff" else ""


def last_boundary(text: str, at: int) -> int:
    """Return the last position up to ``at`` that no character after ``text`` and no grapheme makes a part of one.

    A grapheme is what readers see as one character: a letter with its accents, an emoji of several code points.
    """
    if at <= 0:
        return 0
    if at < len(text):
        if text[at].isascii():
            return at
        window = text[max(0, at - _LONGEST_GRAPHEME) : at + 1]
    else:
        if text[-1] == "\n":
            return at
        window = text[max(0, at - _LONGEST_GRAPHEME) :]
    start = 0
    for match in _GRAPHEME.finditer(window):
        start = match.start()
    if not start and at > _LONGEST_GRAPHEME:
        return at
    return at - len(window) + start + (at < len(text))
