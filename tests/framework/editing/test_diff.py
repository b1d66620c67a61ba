"""What was changed between two texts."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import few_examples

from unwritten.editing.diff import DiffChunk, word_diff


def shape(old: str, new: str, context: int = 30) -> list[tuple[str, str]]:
    return [(piece.kind, piece.text) for piece in word_diff(old, new, context)]


_WORDS = ["a", "lamp", "tower,", "sea.", "\n", "\n\n", "é", "**b**"]
_words = st.lists(st.sampled_from(_WORDS), max_size=40).map(" ".join)


@few_examples
@given(old=_words | st.text(max_size=80), new=_words | st.text(max_size=80))
def test_the_pieces_make_up_both_texts(old: str, new: str) -> None:
    pieces = word_diff(old, new, context=10**6)
    if old == new:
        assert pieces == []
    else:
        assert "".join(piece.text for piece in pieces if piece.kind != "added") == old
        assert "".join(piece.text for piece in pieces if piece.kind != "removed") == new
    assert all(a.kind != b.kind for a, b in itertools.pairwise(pieces))


def test_words_are_told_apart_and_what_stands_together_stays_together() -> None:
    assert shape("A tall tower.", "A small tower.") == [
        ("same", "A "),
        ("removed", "tall"),
        ("added", "small"),
        ("same", " tower."),
    ]
    assert shape("one two three", "four five six") == [("removed", "one two three"), ("added", "four five six")]
    assert shape("", "New.") == [("added", "New.")]
    assert shape("Old.", "") == [("removed", "Old.")]


def test_long_passages_that_are_the_same_are_skipped() -> None:
    same = " ".join(f"w{n}" for n in range(100))
    pieces = word_diff(f"old {same} end", f"new {same} end.", context=5)
    assert [piece.kind for piece in pieces] == ["removed", "added", "same", "skipped", "same", "added"]
    skipped = pieces[3]
    assert skipped == DiffChunk("skipped", "", 91)
    assert pieces[2].text.split() == [f"w{n}" for n in range(5)]
    assert pieces[4].text.split()[-1] == "end"


def test_long_texts_without_a_word_in_common_take_no_long_time() -> None:
    begun = time.perf_counter()
    old, new = (" ".join(f"{letter}{n}" for n in range(8000)) for letter in "ab")
    assert [piece.kind for piece in word_diff(old, new)] == ["removed", "added"]
    lines = "\n".join(f"line {n}" for n in range(3000))
    assert word_diff(lines, lines.replace("line 1500", "row 1500"))[2].text == "line"
    assert time.perf_counter() - begun < 2
