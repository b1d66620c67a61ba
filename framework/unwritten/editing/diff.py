"""Word diffs of two texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["same", "added", "removed", "skipped"]

CONTEXT = 30
"""Number of words shown before and after a difference."""

_MAX_PAIRS = 2_000_000
"""Maximum number of pairs of words, or of lines, that are compared. Passages beyond that count as replaced."""

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
        self._pairs_left = _MAX_PAIRS

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
        a, b = old[first : len(old) - last], new[first : len(new) - last]
        pairs = len(a) * len(b)
        if pairs > self._pairs_left:
            yield False, a, b
        elif a or b:
            self._pairs_left -= pairs
            for tag, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
                yield tag == "equal", a[i:j], b[k:m]
        if last:
            yield True, old[len(old) - last :], new[len(new) - last :]


def _merge(operations: Iterator[_Operation]) -> list[_Operation]:
    """Join adjacent operations of the same kind, and short common passages with the changes around them.

    A "the" that two sentences share would otherwise split their difference into fragments.
    """
    joined: list[_Operation] = []
    for same, before, after in operations:
        if joined and joined[-1][0] == same:
            joined[-1] = (same, [*joined[-1][1], *before], [*joined[-1][2], *after])
        else:
            joined.append((same, list(before), list(after)))
    merged: list[_Operation] = []
    for number, (same, before, after) in enumerate(joined):
        is_between = same and 0 < number < len(joined) - 1
        sizes = (_size(merged[-1]), _size(joined[number + 1])) if is_between else (0, 0)
        is_short = is_between and (
            not "".join(before).strip() or _size((same, before, after)) * _MIN_SHARE <= min(sizes)
        )
        if merged and not merged[-1][0] and (is_short or not same):
            merged[-1] = (False, [*merged[-1][1], *before], [*merged[-1][2], *after])
        else:
            merged.append((same, before, after))
    return merged


def _size(operation: _Operation) -> int:
    """Return the number of words on the longer side."""
    return max(sum(not word.isspace() for word in words) for words in operation[1:])


def _chunk(kind: Kind, words: Sequence[str]) -> DiffChunk:
    return DiffChunk(kind, "".join(words), sum(not word.isspace() for word in words))


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
