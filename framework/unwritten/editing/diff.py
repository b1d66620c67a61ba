"""Word diffs of two texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["same", "added", "removed", "skipped"]

CONTEXT = 30
"""Number of words shown before and after a difference."""

_MAX_STEPS = 200_000
"""Maximum number of comparisons of words or lines, about 0.1 seconds. Passages beyond that count as replaced."""

_MIN_SHARE = 4
"""Text between two changes is shown as unchanged if it has at least this fraction (a quarter) of their words."""

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")

_Operation: TypeAlias = tuple[bool, Sequence[str], Sequence[str]]
"""Whether two passages are the same, and the words of both."""


@dataclass(frozen=True, slots=True)
class DiffChunk:
    """A passage of a diff.

    Attributes:
        kind: "same": in both texts, "added": only in the new one, "removed": only in the old one, "skipped": in both,
            and not shown.
        text: The passage. Empty if it is not shown.
        words: The number of its words.
    """

    kind: Kind
    text: str
    words: int


def word_diff(old: str, new: str, context: int = CONTEXT) -> list[DiffChunk]:
    """Return the difference between two texts, in reading order.

    Args:
        old: The old text.
        new: The new text.
        context: Words shown around a difference. Words that are farther away are skipped.

    Returns:
        Chunks. Apart from skipped passages, those that are not "added" are the old text, and those that are not
        "removed" are the new one. Empty if the texts are the same.
    """
    if old == new:
        return []
    chunks: list[DiffChunk] = []
    for same, before, after in _merge(_Comparison().compare(old, new)):
        if same:
            chunks.append(_chunk("same", before))
            continue
        if before:
            chunks.append(_chunk("removed", before))
        if after:
            chunks.append(_chunk("added", after))
    return list(_skip(chunks, context))


class _Comparison:
    """Compares two texts by lines, which is fast, and by words within the lines that differ."""

    def __init__(self) -> None:
        self._steps_left = _MAX_STEPS

    def compare(self, old: str, new: str) -> Iterator[_Operation]:
        """Yield the passages of both texts."""
        for same, before, after in self._operations(old.splitlines(keepends=True), new.splitlines(keepends=True)):
            if same:
                words = _WORDS.findall("".join(before))
                yield True, words, words
            else:
                yield from self._operations(_WORDS.findall("".join(before)), _WORDS.findall("".join(after)))

    def _operations(self, old: Sequence[str], new: Sequence[str]) -> Iterator[_Operation]:
        first = 0
        while first < min(len(old), len(new)) and old[first] == new[first]:
            first += 1
        last = 0
        while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
            last += 1
        if first:
            yield True, old[:first], new[:first]
        yield from self._differences(old[first : len(old) - last], new[first : len(new) - last])
        if last:
            yield True, old[len(old) - last :], new[len(new) - last :]

    def _differences(self, old: Sequence[str], new: Sequence[str]) -> Iterator[_Operation]:
        """Yield the passages of two sequences with the fewest differences, or one passage if there are too many."""
        position, other = 0, 0
        for start, other_start, length in self._common_runs(old, new):
            if start > position or other_start > other:
                yield False, old[position:start], new[other:other_start]
            position, other = start + length, other_start + length
            yield True, old[start:position], new[other_start:other]
        if position < len(old) or other < len(new):
            yield False, old[position:], new[other:]

    def _common_runs(self, old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int]]:
        """Return the common runs of a shortest edit script: both positions and the length. Empty if it is too long.

        This is the greedy algorithm of Myers, "An O(ND) Difference Algorithm and Its Variations". The time of difflib
        is cubic for texts of few different words, and cannot be limited.
        """
        history = [{1: 0}]  # for each number of edits: how far in ``old`` the best script leads, by diagonal
        for num_edits in range(len(old) + len(new) + 1):
            reached, best = history[-1], {}
            for diagonal in range(-num_edits, num_edits + 1, 2):
                begin = x = _begin(reached, num_edits, diagonal)[1]
                while x < len(old) and x - diagonal < len(new) and old[x] == new[x - diagonal]:
                    x += 1
                best[diagonal] = x
                self._steps_left -= x - begin + 1
                if x >= len(old) and x - diagonal >= len(new):
                    return _runs(history, len(old), len(new))
            if self._steps_left < 0:
                return []
            history.append(best)
        return []


def _begin(reached: Mapping[int, int], num_edits: int, diagonal: int) -> tuple[int, int]:
    """Return the diagonal that the best script comes from, and where it enters this one."""
    if diagonal == -num_edits or (diagonal != num_edits and reached[diagonal - 1] < reached[diagonal + 1]):
        return diagonal + 1, reached[diagonal + 1]
    return diagonal - 1, reached[diagonal - 1] + 1


def _runs(history: Sequence[Mapping[int, int]], x: int, y: int) -> list[tuple[int, int, int]]:
    """Return the common runs on the way to the end ``(x, y)`` of both texts."""
    runs: list[tuple[int, int, int]] = []
    for num_edits in range(len(history) - 1, -1, -1):
        reached, diagonal = history[num_edits], x - y
        before, begin = _begin(reached, num_edits, diagonal)
        if x > begin:
            runs.append((begin, begin - diagonal, x - begin))
        x = reached[before]
        y = x - before
    return runs[::-1]


@dataclass(slots=True)
class _Passage:
    """Adjacent operations of one kind, with the number of words of each side."""

    same: bool
    before: list[str]
    after: list[str]
    num_before: int
    num_after: int

    @property
    def size(self) -> int:
        """The number of words on the longer side."""
        return max(self.num_before, self.num_after)

    def add(self, other: _Passage) -> None:
        """Append another passage."""
        self.before += other.before
        self.after += other.after
        self.num_before += other.num_before
        self.num_after += other.num_after


def _merge(operations: Iterator[_Operation]) -> Iterator[_Operation]:
    """Join adjacent operations of the same kind, and short common passages with the changes around them.

    A "the" that two sentences share would otherwise split their difference into fragments.
    """
    joined: list[_Passage] = []
    for same, before, after in operations:
        passage = _Passage(same, list(before), list(after), _num_words(before), _num_words(after))
        if joined and joined[-1].same == same:
            joined[-1].add(passage)
        else:
            joined.append(passage)
    merged: list[_Passage] = []
    for number, passage in enumerate(joined):
        is_between = passage.same and 0 < number < len(joined) - 1
        is_short = is_between and (
            not passage.size or passage.size * _MIN_SHARE <= min(merged[-1].size, joined[number + 1].size)
        )
        if merged and not merged[-1].same and (is_short or not passage.same):
            merged[-1].add(passage)
        else:
            merged.append(passage)
    return ((passage.same, passage.before, passage.after) for passage in merged)


def _num_words(words: Sequence[str]) -> int:
    return sum(not word.isspace() for word in words)


def _chunk(kind: Kind, words: Sequence[str]) -> DiffChunk:
    return DiffChunk(kind, "".join(words), _num_words(words))


def _skip(chunks: Sequence[DiffChunk], context: int) -> Iterator[DiffChunk]:
    """Reduce long common passages to the words around the differences."""
    for number, chunk in enumerate(chunks):
        has_before, has_after = number > 0, number + 1 < len(chunks)
        if chunk.kind != "same" or chunk.words <= context * (has_before + has_after + 1):
            yield chunk
            continue
        words = _WORDS.findall(chunk.text)
        head = _tokens_of(words, context) if has_before else 0
        tail = _tokens_of(words[::-1], context) if has_after else 0
        if head:
            yield _chunk("same", words[:head])
        yield replace(_chunk("skipped", words[head : len(words) - tail]), text="")
        if tail:
            yield _chunk("same", words[len(words) - tail :])


def _tokens_of(tokens: Sequence[str], words: int) -> int:
    """Return how many tokens from the start contain this number of words. The other tokens are white space."""
    seen = 0
    for index, token in enumerate(tokens):
        seen += not token.isspace()
        if seen == words:
            return index + 1
    return len(tokens)
