from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import few_examples

from unwritten_engine.output_filters import JSONFilter, find_continuation, json_start_characters


def opened(opening: str, text: str, *, final: bool = True) -> str | None:
    found = find_continuation(text, opening, final=final)
    return None if found is None else opening + found[1] + text[found[0] :]


@pytest.mark.parametrize(
    ("opening", "text", "whole"),
    [
        ("", "Any.", "Any."),
        ("A light", "A light shines.", "A light shines."),
        ("A light", "a lighthouse", "A lighthouse"),
        ("A light", "**A light** is **bright**.", "A light is **bright**."),
        ("**A light**", "A light is bright.", "**A light** is bright."),
        ("**A light**", "**A light** is bright.", "**A light** is bright."),
        ("A light", "A light **is** bright.", "A light **is** bright."),
        ("A light", "It shines.", "A light It shines."),
        ("A light", ", it shines.", "A light, it shines."),
        ("A light ", "It shines.", "A light It shines."),
        ("<!doctype html>\n", "<!DOCTYPE html><title>A", "<!doctype html>\n<title>A"),
        ("A light", "A light", "A light"),
        ("A light", "A li", "A light A li"),
        ("A light", "", "A light"),
    ],
)
def test_the_opening_occurs_once(opening: str, text: str, whole: str) -> None:
    assert opened(opening, text) == whole
    for length in range(len(text)):
        shown = opened(opening, text[:length], final=False)
        assert shown is None or whole.startswith(shown)


@few_examples
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    ),
    st.sampled_from([None, 1, 4]),
)
def test_json_loses_its_white_space_and_nothing_else(value: object, indent: int | None) -> None:
    text = json.dumps({"value": value}, indent=indent, ensure_ascii=False)
    compact = JSONFilter("{")
    kept = "".join(map(compact.push, f"Sure:\n```json\n{text}\n```\nThat is it {{}}."))
    assert kept == json.dumps({"value": value}, separators=(",", ":"), ensure_ascii=False)
    assert compact.done


def test_the_start_of_a_value_is_found() -> None:
    assert json_start_characters({"type": "object"}) == "{" and json_start_characters({"type": "array"}) == "["
    assert '"' in json_start_characters({"anyOf": []}) and json_start_characters({"type": "string"}) == '"'
    text = JSONFilter(json_start_characters({"type": "string"}))
    assert text.push('"a \\" b" and') == '"a \\" b"' and text.done
