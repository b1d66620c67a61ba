"""What stands on canvases before the first step, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.model_runner import TokenMasks
from unwritten_engine.diffusion.tokenization.canvas_plan import CanvasPlan, plan_canvases
from unwritten_engine.diffusion.tokenization.detokenizer import DecodedText, Detokenizer
from unwritten_engine.errors import RequestRefused
from unwritten_engine.frames import Draft, Prompt, Request

SIZE, PAD, TURN = 16, 0, 106
READER = Detokenizer(make_tokenizer(1024), frozenset({1, 106, 50}), PAD, 1024)
OPEN, CLOSE = 100, 101


def laid(**given: Any) -> CanvasPlan:
    prompt = Prompt("Write.", opening=given.pop("opening", ""))
    return plan_canvases(Request(prompt, **given), READER, SIZE, TokenMasks(1024, torch.device("cpu")).register)


def read(made: CanvasPlan, ids: Sequence[int], before: DecodedText | None = None) -> DecodedText:
    return made.decode(ids, [False] * len(ids), before)


def ids_of(text: str) -> list[int]:
    return list(READER.encode(text))


def test_free_text_starts_empty() -> None:
    made = laid(canvases=2)
    assert made.init_block(0).pins == made.init_block(1).initial == ()
    assert (made.canvases, made.max_tokens, made.kept_span) == (2, 32, None)


@pytest.mark.parametrize(
    ("most", "canvases", "limit"), [(None, 4, 64), (1, 1, 1), (16, 1, 16), (17, 2, 17), (99, 4, 64)]
)
def test_max_tokens_is_the_limit(most: int | None, canvases: int, limit: int) -> None:
    made = laid(canvases=4, max_tokens=most)
    assert (made.canvases, made.max_tokens) == (canvases, limit)
    long = ids_of(" the light" * 40)[: canvases * SIZE]
    assert read(made, long).text == READER.decode(long[:limit], [False] * limit).text


def test_an_opening_is_pinned() -> None:
    made = laid(opening="The lighthouse stands", canvases=2)
    pins = made.init_block(0).pins
    assert tuple(pins[: len(made.pins)]) == READER.encode("The lighthouse stands")
    assert set(pins[len(made.pins) :]) == {-1} and len(pins) == SIZE
    assert made.init_block(1).pins == ()
    ids = [*made.pins, *ids_of(" by the sea"), TURN, *ids_of("more")]
    assert read(made, ids).text == "The lighthouse stands by the sea"


def test_a_long_opening_continues_in_the_next_canvas() -> None:
    opening = "stone bridge " * 12
    made = laid(opening=opening, canvases=4)
    assert len(made.pins) > SIZE
    joined = [token for number in range(4) for token in (made.init_block(number).pins or [-1] * SIZE)]
    assert joined == [*made.pins, *[-1] * (64 - len(made.pins))]
    assert read(made, [*made.pins, TURN]).text == opening


@pytest.mark.parametrize("opening", ["The <turn|> of the <|channel>", " leading blank", "ends with blanks  \n"])
def test_any_opening_is_decoded_exactly(opening: str) -> None:
    made = laid(opening=opening, canvases=3)
    assert read(made, [*made.pins, *ids_of("x")]).text == f"{opening}x"


def test_invalid_openings_are_refused() -> None:
    with pytest.raises(RequestRefused, match=r"The opening has \d+ tokens, and the budget is 4. Ask for more canvases"):
        laid(opening="The lighthouse stands by the sea", max_tokens=4)
    with pytest.raises(RequestRefused, match=r"The opening has the unsupported character '\\x00'"):
        laid(opening="The \0 light")


def test_an_edit_starts_from_its_text() -> None:
    text = "The old stone bridge crosses the river."
    made = laid(draft=Draft(text, ((4, 20),), 0.5), canvases=2)
    assert made.strength == 0.5
    pinned = [pin for pin in made.pins if pin >= 0]
    assert READER.decode(pinned, [False] * len(pinned)).text.strip() == text[4:20].strip()
    assert read(made, [token for token in made.initial if token >= 0]).text == text


def test_an_edit_ends_like_other_texts() -> None:
    """With noise behind its text, a light touch would write on."""
    made = laid(draft=Draft("The old bridge."), canvases=3)
    count = len(ids_of("The old bridge."))
    assert list(made.initial) == [*ids_of("The old bridge."), TURN, *[PAD] * (SIZE - count - 1)]
    assert made.init_block(1).initial == ()


@pytest.mark.parametrize("count", [15, 16, 17, 31, 32])
def test_the_end_of_an_edit_stays_in_its_budget(count: int) -> None:
    text = "".join(chr(97 + at % 26) + "\t" for at in range(count))
    ids = ids_of(text)[:count]
    text = READER.decode(ids, [False] * count).text
    made = laid(draft=Draft(text), canvases=2)
    assert len(made.initial) <= 32 and list(made.initial[: len(ids_of(text))]) == ids_of(text)
    if len(ids_of(text)) < 32:
        assert made.initial[len(ids_of(text))] == TURN


def test_an_edit_may_keep_its_opening() -> None:
    assert laid(draft=Draft("The old bridge"), opening="The old").initial
    with pytest.raises(RequestRefused, match="does not begin with the opening 'A new'"):
        laid(draft=Draft("The old bridge"), opening="A new")


def test_an_edit_too_long_is_refused() -> None:
    with pytest.raises(RequestRefused, match=r"has \d+ tokens, and the budget is 16"):
        laid(draft=Draft("The old bridge " * 20))


SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "open": {"type": "boolean"}}}


def test_a_schema_has_pins_and_token_classes() -> None:
    made = laid(schema=SCHEMA, canvases=4)
    assert made.skeleton is not None
    assert made.canvases <= 4 and len(made.pins) == len(made.mask_ids)
    masks = TokenMasks(1024, torch.device("cpu"))
    first = plan_canvases(Request(Prompt("x"), schema=SCHEMA, canvases=4), READER, SIZE, masks.register)
    again = plan_canvases(Request(Prompt("y"), schema=SCHEMA, canvases=4), READER, SIZE, masks.register)
    assert first.mask_ids == again.mask_ids  # equal slots share their masks
    for pin, kind in zip(first.pins, first.mask_ids, strict=True):
        assert pin < 0 or kind == 0
    assert {kind for pin, kind in zip(first.pins, first.mask_ids, strict=True) if pin < 0} - {0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"opening": "Once"}, "A request with a schema cannot have an opening"),
        ({"draft": Draft("Once")}, "A request with a schema cannot have a draft"),
    ],
)
def test_a_schema_excludes_other_text(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        laid(schema=SCHEMA, canvases=4, **given)


def test_a_schema_that_is_too_large_states_its_need() -> None:
    large = {"type": "object", "properties": {f"field{n}": {"type": "string"} for n in range(20)}}
    with pytest.raises(RequestRefused, match=r"The schema needs \d+ canvases of 16 tokens .* the request has 1"):
        laid(schema=large)


def test_a_schema_respects_max_tokens() -> None:
    whole = laid(schema=SCHEMA, canvases=4).skeleton
    assert whole is not None
    made = laid(schema=SCHEMA, canvases=4, max_tokens=whole.length)
    assert made.skeleton is not None and made.skeleton.length < whole.length == len(made.pins)
    with pytest.raises(RequestRefused, match=r"The schema needs \d\d tokens .* and max_tokens is 12. Ask for more"):
        laid(schema=SCHEMA, canvases=4, max_tokens=12)


def test_stop_strings_end_the_text() -> None:
    made = laid(stop=("river", "\n\n"), canvases=2)
    assert read(made, ids_of("the bridge on the river bank")).text == "the bridge on the"
    assert read(made, ids_of("one\n\ntwo river")).text == "one"
    assert read(made, ids_of("nothing of it")).text == "nothing of it"


def test_stop_strings_are_searched_after_kept_text() -> None:
    made = laid(stop=("\n", "old"), opening="# The old bridge\n", canvases=3)
    assert read(made, made.pins).text == "# The old bridge\n"
    assert read(made, [*made.pins, *ids_of("It is an old one")]).text == "# The old bridge\nIt is an "
    edit = laid(stop=("bridge",), draft=Draft("The bridge and the bridge", ((4, 10),)), canvases=3)
    assert read(edit, edit.initial).text == "The bridge and the "


def test_blanks_at_the_end_are_not_shown() -> None:
    made = laid(canvases=2)
    flags = [False] * 3 + [True] * 2
    found = made.decode([*ids_of("the light")[:2], *ids_of("\n"), *ids_of("\n\n\n"), *ids_of("\n\n")], flags)
    assert found.text == "the light"[: len(found.text)] and not found.text.endswith("\n")
    assert all(b <= len(found.text) for _, b in found.unsettled) and not found.resumable


@pytest.mark.parametrize(
    ("text", "stops", "certain"),
    [
        ("the light", (), 9),
        ("the light", ("STOP",), 9),
        ("the lightST", ("STOP",), 9),
        ("the light STO", ("STOP",), 9),  # the blank would go too
        ("the lightSTOX", ("STOP",), 13),
        ("the light<", ("<a>", "<<b"), 9),
        ("STO", ("STOP", "NOT"), 0),
        ("a\n", ("\n\n",), 1),
    ],
)
def test_half_a_stop_string_is_unsettled(text: str, stops: tuple[str, ...], certain: int) -> None:
    made = laid(stop=stops, canvases=2)
    assert made.num_fixed_chars(DecodedText(text)) == certain
    for stop in stops:  # whatever follows, what was certain stays
        for end in range(1, len(stop)):
            if text.endswith(stop[:end]):
                assert read(made, ids_of(text + stop[end:] + "more")).text.startswith(text[:certain])


def test_half_a_stop_string_in_an_opening_is_settled() -> None:
    made = laid(stop=("STOP",), opening="the ST", canvases=2)
    assert made.num_fixed_chars(read(made, made.pins)) == 6


@pytest.mark.parametrize(
    ("text", "stops", "stopped"),
    [
        ("one two", ("\n",), False),
        ("one\n", ("\n",), True),
        ("one STOP two", ("STOP",), True),
        ("one", (), False),
    ],
)
def test_texts_report_why_they_end(text: str, stops: tuple[str, ...], stopped: bool) -> None:
    made = laid(stop=stops, canvases=2)
    assert made.ends_with_stop([*ids_of(text), TURN, *ids_of("STOP\n")]) == stopped


def test_kept_text_in_a_later_canvas_does_not_end_the_text() -> None:
    """The first canvas may hold anything: control tokens alone, an open thought, an end."""
    made = replace(laid(canvases=3), kept_span=(20, 24), pins=(*[-1] * 20, *ids_of("stone")[:4]))
    thoughts = ([OPEN] * SIZE, [OPEN, *[700] * 3, TURN, *[600] * 11], [CLOSE] * SIZE)
    for first in ([PAD] * SIZE, [TURN] * SIZE, *thoughts):
        before = read(made, first)
        later = read(made, [*first, *[700] * SIZE], before)
        if before.resumable:
            assert later.text.startswith(before.text)
