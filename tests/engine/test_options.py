from __future__ import annotations

from typing import Any

import pytest

from unwritten_engine.errors import BadOption, UnknownOption
from unwritten_engine.llamacpp import engine as llamacpp
from unwritten_engine.openai import engine as openai
from unwritten_engine.options import Option, check_options

TABLE = (
    Option("heat", 0.7, "number", "how hot", 0, 2),
    Option("size", None, "count", "how many", 1),
    Option("loud", False, "flag", "whether"),
    Option("name", "x", "text", "who"),
    Option("words", None, "texts", "which"),
    Option("biases", None, "biases", "what is likelier"),
    Option("more", None, "object", "what else"),
)


def test_defaults_are_filled_in_and_values_get_their_type() -> None:
    found = check_options({"heat": 1, "words": ("a",), "biases": [("b", 1)]}, TABLE, "It")
    assert found == {
        "heat": 1.0,
        "size": None,
        "loud": False,
        "name": "x",
        "words": ["a"],
        "biases": [["b", 1.0]],
        "more": None,
    }
    assert isinstance(found["heat"], float)


def test_a_port_is_a_text_too() -> None:
    """``--engine-options drafts=5557`` gives a number."""
    assert check_options({"drafts": 5557}, openai.OPTIONS, "It")["drafts"] == "5557"
    with pytest.raises(BadOption, match="'drafts' is True; give a text"):
        check_options({"drafts": True}, openai.OPTIONS, "It")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heat": "hot"}, "'heat' is 'hot'; give a number from 0 to 2"),
        ({"heat": 3}, "from 0 to 2"),
        ({"heat": float("nan")}, "from 0 to 2"),
        ({"heat": True}, "'heat' is True"),
        ({"heat": None}, "'heat' is None"),
        ({"size": 1.5}, "a whole number of at least 1"),
        ({"size": 0}, "at least 1"),
        ({"loud": 1}, "True or False"),
        ({"name": 1.5}, "a text"),
        ({"words": "abc"}, "a list of texts"),
        ({"words": [1]}, "a list of texts"),
        ({"more": "{"}, "a JSON object, as a dict or a string"),
        ({"more": "[1]"}, "a JSON object"),
        ({"more": {1: 2}}, "a JSON object"),
        ({"biases": [["a"]]}, "a list of pairs"),
        ({"biases": [["a", "b"]]}, "a list of pairs"),
    ],
)
def test_an_invalid_value_is_explained(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        check_options(given, TABLE, "It")


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownOption, match=r"It has no option 'haet'. Did you mean 'heat'\?"):
        check_options({"haet": 1}, TABLE, "It")


def test_an_object_may_be_a_dict_or_json() -> None:
    assert [check_options({"more": more}, TABLE, "It")["more"] for more in ({"a": [1]}, '{"a": [1]}')] == [
        {"a": [1]}
    ] * 2


def test_none_is_allowed_where_it_is_the_default() -> None:
    assert check_options({"size": None}, TABLE, "It")["size"] is None


@pytest.mark.parametrize("table", [llamacpp.OPTIONS, llamacpp.SAMPLING, openai.OPTIONS, openai.SAMPLING])
def test_every_default_is_valid(table: tuple[Option, ...]) -> None:
    for option in table:
        assert option.check(option.default, "It") == option.default
        assert option.help and not option.help.endswith(".")
