from __future__ import annotations

from typing import Any

import pytest

from unwritten_engine import Draft, Frame, Prompt, Request, Usage


@pytest.mark.parametrize(
    ("canvases", "max_tokens", "budget"), [(1, None, 256), (3, None, 768), (3, 500, 500), (1, 500, 256)]
)
def test_the_budget_is_the_smaller_of_canvases_and_tokens(canvases: int, max_tokens: int | None, budget: int) -> None:
    assert Request(Prompt("x"), canvases=canvases, max_tokens=max_tokens).budget(256) == budget


@pytest.mark.parametrize("wrong", [{"canvases": 0}, {"max_tokens": 0}, {"seed": -1}, {"seed": 2**32}])
def test_an_invalid_request_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^Request\.\w+ is -?\d+: (ask for|give)"):
        Request(Prompt("x"), **wrong)


@pytest.mark.parametrize("keep", [((2, 2),), ((0, 3), (2, 4)), ((3, 9),), ((3, 4), (0, 1))])
def test_kept_spans_are_in_order_and_inside(keep: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="spans must be in order"):
        Draft("text", keep)


def test_the_strength_of_an_edit_is_a_share() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Draft("text", strength=2)


def test_a_frame_is_done_when_it_has_usage() -> None:
    usage = Usage(30, 5, 0, 30, 1, 2.0, 0.0, "end", 1)
    assert not Frame("a").done
    assert Frame("a", usage=usage).done
    assert usage.tokens_per_second == 15
    assert Usage(30, 5, 0, 30, 1, 0.0, 0.0, "end", 1).tokens_per_second == 0
