"""Word diffs."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import few_examples

from unwritten.editing.diff import DiffChunk, word_diff


def shape(old: str, new: str, context: int = 30) -> list[tuple[str, str]]:
    return [(chunk.kind, chunk.text) for chunk in word_diff(old, new, context)]


_WORDS = ["a", "lamp", "tower,", "sea.", "\n", "\n\n", "é", "**b**"]
_words = st.lists(st.sampled_from(_WORDS), max_size=40).map(" ".join)


@few_examples
@given(old=_words | st.text(max_size=80), new=_words | st.text(max_size=80))
def test_chunks_make_up_both_texts(old: str, new: str) -> None:
    chunks = word_diff(old, new, context=10**6)
    if old == new:
        assert chunks == []
    else:
        assert "".join(chunk.text for chunk in chunks if chunk.kind != "added") == old
        assert "".join(chunk.text for chunk in chunks if chunk.kind != "removed") == new
    assert all(a.kind != b.kind for a, b in itertools.pairwise(chunks))


def test_words_are_compared_and_adjacent_changes_are_joined() -> None:
    assert shape("A tall tower.", "A small tower.") == [
        ("same", "A "),
        ("removed", "tall"),
        ("added", "small"),
        ("same", " tower."),
    ]
    assert shape("one two three", "four five six") == [("removed", "one two three"), ("added", "four five six")]
    assert shape("", "New.") == [("added", "New.")]
    assert shape("Old.", "") == [("removed", "Old.")]


def test_long_common_passages_are_skipped() -> None:
    same = " ".join(f"w{n}" for n in range(100))
    chunks = word_diff(f"old {same} end", f"new {same} end.", context=5)
    assert [chunk.kind for chunk in chunks] == ["removed", "added", "same", "skipped", "same", "added"]
    skipped = chunks[3]
    assert skipped == DiffChunk("skipped", "", 91)
    assert chunks[2].text.split() == [f"w{n}" for n in range(5)]
    assert chunks[4].text.split()[-1] == "end"


def test_long_texts_without_common_words_are_fast() -> None:
    begun = time.thread_time()
    old, new = (" ".join(f"{letter}{n}" for n in range(8000)) for letter in "ab")
    assert [chunk.kind for chunk in word_diff(old, new)] == ["removed", "added"]
    lines = "\n".join(f"line {n}" for n in range(3000))
    assert word_diff(lines, lines.replace("line 1500", "row 1500"))[2].text == "line"
    assert time.thread_time() - begun < 2


def test_crafted_texts_are_compared_in_limited_time() -> None:
    """Texts of few different words have many common subsequences. On an idle machine each pair takes 0.2 seconds."""
    for fragment in ["a b ", "<start_of_turn>", "a\n", "<?", "a b\na "]:
        old = fragment * (60_000 // len(fragment))
        scattered = "".join(char + "x" * (at % 3 == 0) for at, char in enumerate(old))
        for new in (old[::-1], scattered, old.replace(" ", "\n")):
            begun = time.process_time()
            chunks = word_diff(old, new, context=10**6)
            assert time.process_time() - begun < 2, fragment
            assert "".join(chunk.text for chunk in chunks if chunk.kind != "removed") == new or old == new
