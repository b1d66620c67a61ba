"""``Canvas``: its defaults and the errors for wrong arguments."""

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


def test_a_schema_selects_the_format() -> None:
    assert Canvas("Facts.", schema=Facts).format == "typed"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": ""}, "needs a prompt as a string"),
        ({"prompt": "  "}, "needs a prompt as a string"),
        ({"prompt": 7}, "needs a prompt as a string"),
        ({"format": "markdwn"}, "Did you mean 'markdown'"),
        ({"format": "sgv"}, "Did you mean 'svg'"),
        ({"format": 7}, "There is no format 7"),
        ({"format": "typed"}, "the format 'typed' needs a schema"),
        ({"format": "html", "schema": Facts}, "the other formats take none"),
        ({"fact": True}, "fact=True, which needs a schema"),
        ({"canvases": 0}, "at least 1"),
        ({"tokens": 0}, "at least 1"),
        ({"stop": "###"}, r"Canvas\(stop=…\) takes a list"),
        ({"examples": "x"}, r"Canvas\(examples=…\) takes a list"),
    ],
)
def test_wrong_arguments_are_rejected_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadPage, match=message):
        Canvas(**{"prompt": "Words.", **given})


def test_canvases_are_immutable_and_comparable() -> None:
    one = Canvas("Words.", examples=[Example("ask", "answer")], stop=["x"])
    assert one == Canvas("Words.", examples=(Example("ask", "answer"),), stop=("x",))
    with pytest.raises(AttributeError):
        one.prompt = "Other."  # type: ignore[misc]
