"""A canvas: a prompt, a format, and a length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from unwritten import Canvas, Example
from unwritten.core.errors import BadPage


@dataclass
class Facts:
    kind: str


def test_a_prompt_is_enough() -> None:
    canvas = Canvas("The opening paragraph.")
    assert (canvas.format, canvas.canvases, canvas.tokens, canvas.examples) == ("markdown", 1, None, ())


def test_a_shape_is_a_format() -> None:
    assert Canvas("Facts.", schema=Facts).format == "typed"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": ""}, "needs a prompt in words"),
        ({"prompt": "  "}, "needs a prompt in words"),
        ({"prompt": 7}, "needs a prompt in words"),
        ({"format": "markdwn"}, "Did you mean 'markdown'"),
        ({"format": "sgv"}, "Did you mean 'svg'"),
        ({"format": 7}, "There is no format 7"),
        ({"format": "typed"}, "a shape goes with the format 'typed'"),
        ({"format": "html", "shape": Facts}, "a shape goes with the format 'typed'"),
        ({"canvases": 0}, "at least 1"),
        ({"tokens": 0}, "at least 1"),
        ({"stop": "###"}, r"Canvas\(stop=…\) takes a list"),
        ({"examples": "x"}, r"Canvas\(examples=…\) takes a list"),
    ],
)
def test_mistakes_are_told_where_they_are_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadPage, match=message):
        Canvas(**{"prompt": "Words.", **given})


def test_canvases_can_be_compared_and_not_changed() -> None:
    one = Canvas("Words.", examples=[Example("ask", "answer")], stop=["x"])
    assert one == Canvas("Words.", examples=(Example("ask", "answer"),), stop=("x",))
    with pytest.raises(AttributeError):
        one.prompt = "Other."  # type: ignore[misc]
