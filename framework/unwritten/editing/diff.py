"""Differences: what was taken out of a text and what was put in, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["same", "added", "removed", "skipped"]


CONTEXT = 30
"""Words that are shown before and after a difference."""


_MOST = 2_000_000
"""Pairs of words, or of lines, that are compared in all; passages beyond that count as replaced."""


_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


_Op: TypeAlias = tuple[bool, Sequence[str], Sequence[str]]
"""Whether two passages are the same, and both of them in words."""


_Ops: TypeAlias = Iterator[_Op]


_SHRED = 4
"""What two texts share between two changes is shown if it has a quarter of their words."""


@dataclass(frozen=True, slots=True)
class DiffChunk:
    """A passage.

    Attributes:
        kind: in both texts, only in the new one, only in the old one, or in both and not shown.
        text: the passage; "" if it is not shown.
        words: how many words it has.
    """

    kind: Kind
    text: str
    words: int


def word_diff(old: str, new: str, context: int = CONTEXT) -> list[DiffChunk]:
    """The way from one text to another, in the order in which it is read.

    Args:
        old: the old text.
        new: the new one.
        context: words around a difference; what is farther away from any is skipped.

    Returns:
        Pieces. Those that are not "added" make up the old text, and those not "removed" the new one, but for what is
        skipped. Nothing, if the texts are the same.
    """
    if old == new:
        return []
    pieces: list[DiffChunk] = []
    for same, before, after in _whole(_Comparing().by_line(old, new)):
        if same:
            pieces.append(_piece("same", before))
            continue
        if before:
            pieces.append(_piece("removed", before))
        if after:
            pieces.append(_piece("added", after))
    return list(_shortened(pieces, context))


def _whole(operations: _Ops) -> list[_Op]:
    """Neighbours joined, and what is the same between two changes taken into them if it is short beside both: a "the"
    that two sentences share would cut them into shreds."""
    joined: list[_Op] = []
    for same, before, after in operations:
        if joined and joined[-1][0] == same:
            joined[-1] = (same, [*joined[-1][1], *before], [*joined[-1][2], *after])
        else:
            joined.append((same, list(before), list(after)))
    whole: list[_Op] = []
    for number, (same, before, after) in enumerate(joined):
        between = same and 0 < number < len(joined) - 1
        flanks = (_size(whole[-1]), _size(joined[number + 1])) if between else (0, 0)
        shred = between and (not "".join(before).strip() or _size((same, before, after)) * _SHRED <= min(flanks))
        if whole and not whole[-1][0] and (shred or not same):
            whole[-1] = (False, [*whole[-1][1], *before], [*whole[-1][2], *after])
        else:
            whole.append((same, before, after))
    return whole


def _size(operation: _Op) -> int:
    """Words of the longer side."""
    return max(sum(not word.isspace() for word in words) for words in operation[1:])


class _Comparing:
    """Compares two texts: first by line, which is quick, then by word within the lines that differ."""

    def __init__(self) -> None:
        self._left = _MOST

    def by_line(self, old: str, new: str) -> _Ops:
        """The whole texts."""
        for same, before, after in self._parts(old.splitlines(keepends=True), new.splitlines(keepends=True)):
            if same:
                words = _WORDS.findall("".join(before))
                yield True, words, words
            else:
                yield from self._parts(_WORDS.findall("".join(before)), _WORDS.findall("".join(after)))

    def _parts(self, old: Sequence[str], new: Sequence[str]) -> _Ops:
        first = 0
        while first < min(len(old), len(new)) and old[first] == new[first]:
            first += 1
        last = 0
        while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
            last += 1
        if first:
            yield True, old[:first], new[:first]
        a, b = old[first : len(old) - last], new[first : len(new) - last]
        pairs = len(a) * len(b)
        if pairs > self._left:
            yield False, a, b
        elif a or b:
            self._left -= pairs
            for tag, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
                yield tag == "equal", a[i:j], b[k:m]
        if last:
            yield True, old[len(old) - last :], new[len(new) - last :]


def _piece(kind: Kind, words: Sequence[str]) -> DiffChunk:
    return DiffChunk(kind, "".join(words), sum(not word.isspace() for word in words))


def _shortened(pieces: Sequence[DiffChunk], context: int) -> Iterator[DiffChunk]:
    """Long passages that are the same, cut down to their ends that stand beside a difference."""
    for number, piece in enumerate(pieces):
        ends = [number > 0, number + 1 < len(pieces)]
        if piece.kind != "same" or piece.words <= context * (sum(ends) + 1):
            yield piece
            continue
        words = _WORDS.findall(piece.text)
        head = _end(words, context) if ends[0] else 0
        tail = _end(words[::-1], context) if ends[1] else 0
        if head:
            yield _piece("same", words[:head])
        yield replace(_piece("skipped", words[head : len(words) - tail]), text="")
        if tail:
            yield _piece("same", words[len(words) - tail :])


def _end(words: Sequence[str], context: int) -> int:
    """How many of these tokens hold so many words."""
    seen = 0
    for place, word in enumerate(words):
        seen += not word.isspace()
        if seen == context:
            return place + 1
    return len(words)
