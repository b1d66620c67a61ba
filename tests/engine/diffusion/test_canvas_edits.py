from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.diffusion.test_detokenizer import READERS, TEXTS

from unwritten_engine.diffusion.tokenization.canvas_plan import init_edit
from unwritten_engine.errors import RequestRefused
from unwritten_engine.frames import Draft


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(sorted(READERS)))
def test_kept_text_is_decoded_exactly(data: st.DataObject, name: str) -> None:
    reader = READERS[name]
    text = data.draw(TEXTS)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    keep = tuple((a, b) for a, b in zip(places[::2], places[1::2], strict=False) if a < b)
    begun = init_edit(Draft(text, keep), reader, budget=1000)
    assert len(begun.tokens) == len(begun.pins)
    assert all(pin in (-1, token) for pin, token in zip(begun.pins, begun.tokens, strict=True))
    noise = data.draw(
        st.lists(st.integers(0, reader.vocab_size - 1), min_size=len(begun.pins) + 8, max_size=len(begun.pins) + 8)
    )
    pins = [*begun.pins, *[-1] * 8]
    ids = [other if pin < 0 else pin for pin, other in zip(pins, noise, strict=True)]
    found = reader.decode(ids, [pin < 0 for pin in pins], kept_span=begun.kept_span).text
    at = 0
    for a, b in keep:
        place = found.find(text[a:b], at)
        assert place >= 0, (found, text[a:b])
        at = place + b - a
    if keep and keep[-1][1] == len(text):
        assert found.endswith(text[keep[-1][0] :])


@pytest.mark.parametrize("name", READERS)
def test_an_edit_starts_from_the_old_text(name: str) -> None:
    reader = READERS[name]
    begun = init_edit(Draft("the old text. the end", ((4, 13),)), reader, budget=100)
    assert reader.decode(begun.tokens, [False] * len(begun.tokens)).text == "the old text. the end"
    kept = [pin for pin in begun.pins if pin >= 0]
    assert b"".join(map(reader.token_bytes, kept)) == b"old text."
    assert begun.kept_span is not None and begun.pins[begun.kept_span[0] : begun.kept_span[1]] == tuple(kept)


@pytest.mark.parametrize("name", READERS)
def test_an_end_is_pinned_after_a_kept_end(name: str) -> None:
    reader = READERS[name]
    assert init_edit(Draft("a <turn|>", ((2, 9),)), reader, budget=100).pins[-1] == reader.end_id
    assert reader.end_id not in init_edit(Draft("a <turn|>", ((2, 9),)), reader, budget=100).pins[:-1]
    assert init_edit(Draft("the end", ((0, 3),)), reader, budget=100).pins[-1] == -1
    assert init_edit(Draft("the", ()), reader, budget=100).kept_span is None


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    reader = READERS["pieces"]
    with pytest.raises(RequestRefused, match=r"has \d+ tokens, and the budget is 2"):
        init_edit(Draft("a long enough text"), reader, budget=2)
    with pytest.raises(RequestRefused, match=r"span \(0, 3\) with the unsupported character '\\x00'"):
        init_edit(Draft("a\0b", ((0, 3),)), reader, budget=9)
    assert init_edit(Draft("a\0b"), reader, budget=9).pins == (-1, -1)
