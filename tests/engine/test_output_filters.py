from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import few_examples

from unwritten_engine.output_filters import (
    JSONFilter,
    PrefillFilter,
    ReasoningFilter,
    UnopenedReasoning,
    json_start_characters,
)


def thoughtless(*pieces: str, begun: bool = False) -> str:
    thoughts = ReasoningFilter(in_reasoning=begun)
    return "".join(map(thoughts.push, pieces)) + thoughts.end()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Plain.", "Plain."),
        ("<think>Hm.</think>Plain.", "Plain."),
        ("\n<thinking>Hm.</thinking><think></think>\nPlain.", "\nPlain."),
        ("<|channel>thought\nHm.<channel|>Plain.", "Plain."),
        ("thought\nPlain.", "Plain."),
        ("thoughts are free", "thoughts are free"),
        ("<b>bold</b>", "<b>bold</b>"),
        ("<think>never closed", ""),
        ("<thi", "<thi"),
        ("thought", "thought"),
    ],
)
def test_thoughts_are_removed_at_any_split(text: str, answer: str) -> None:
    assert thoughtless(text) == answer
    assert thoughtless(*text) == answer


def test_a_thought_that_began_before_the_text_is_removed() -> None:
    assert thoughtless(*"Hm.</think>Plain.", begun=True) == "Plain."
    with pytest.raises(UnopenedReasoning):
        thoughtless(*"Hm.</think>Plain.")
    with pytest.raises(UnopenedReasoning):
        thoughtless("Hm.</think>Plain.")


def opened(opening: str, *pieces: str) -> str:
    machine = PrefillFilter(opening)
    return opening + "".join(map(machine.push, pieces)) + machine.end()


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
        ("A light", "A light", "A light"),
        ("A light", "A li", "A light A li"),
        ("A light", "", "A light"),
    ],
)
def test_the_opening_occurs_once(opening: str, text: str, whole: str) -> None:
    assert opened(opening, text) == whole
    assert opened(opening, *text) == whole


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
