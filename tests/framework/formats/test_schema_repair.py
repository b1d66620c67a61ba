"""Values of shapes, repaired from what models really write."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from unwritten.core.errors import SchemaMismatch
from unwritten.formats.lenient_json import drop_partial_word, parse_lenient
from unwritten.formats.schema_repair import repair, truncate_at_word


class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Place(BaseModel):
    name: str
    height: int | None = Field(ge=0, le=100)


class Tower(BaseModel):
    kind: Literal["lighthouse", "bell tower"]
    founded: int = Field(ge=1000, le=1999)
    known_for: list[Annotated[str, Field(max_length=20)]] = Field(max_length=3)
    colour: Colour = Colour.RED
    places: list[Place] = []


@dataclass
class Note:
    text: str
    day: date
    share: float = 0.0
    open: bool = False


GOOD = '{"kind":"lighthouse","founded":1720,"known_for":["light","fog"]}'


def test_what_is_right_is_left_as_it_is() -> None:
    done = repair(Tower, f" {GOOD}\n")
    assert (done.text, done.repairs) == (GOOD, ())
    assert done.value == Tower(kind="lighthouse", founded=1720, known_for=["light", "fog"])


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (f"Sure! Here are the facts:\n```json\n{GOOD}\n```\nI hope that helps.", "a code fence around it"),
        (f"The lighthouse [1] is old. {GOOD} That is all.", "words around it"),
        (GOOD.replace("]}", ",],}"), "a comma too many"),
        (GOOD.replace(',"founded"', '\n"founded"'), "a comma too few"),
        (GOOD.replace('"', "'"), "other quotes than JSON has"),
        (GOOD.replace('"kind"', "kind"), "names without quotes"),
        (GOOD.replace("{", "{ // a tower\n"), "a comment"),
        (GOOD[:-2], "its end was missing"),
        (GOOD[:-1] + ', "open": True}', "words of another language than JSON"),
        (GOOD.replace('"lighthouse"', "lighthouse"), "a text without quotes"),
        (GOOD.replace("1720", "1,720"), "commas inside of a number"),
        (f"[{GOOD}]", "brackets around it"),
        (f'{{"tower":{GOOD}}}', "brackets around it"),
        (GOOD.replace('"known_for"', '"Known for"'), ".known_for: was called 'Known for'"),
        (GOOD.replace("1720", "3000"), "founded: 3000 became 1999"),
        (GOOD.replace("1720", "12"), "founded: 12 became 1000"),
        (GOOD.replace("1720", '"about 1720"'), 'founded: "about 1720" became 1720'),
        (GOOD.replace("1720", "1720.4"), "founded: 1720.4 became 1720"),
        (GOOD.replace("lighthouse", "Lighthouse"), 'kind: "Lighthouse" became "lighthouse"'),
        (GOOD.replace("lighthouse", "a tall lighthouse"), 'kind: "a tall lighthouse" became "lighthouse"'),
        (GOOD.replace("lighthouse", "ligthouse"), 'kind: "ligthouse" became "lighthouse"'),
        (GOOD.replace('["light","fog"]', '"light, fog"'), 'known_for: "light, fog" became ["light", "fog"]'),
    ],
)
def test_what_is_meant_is_found_and_told(text: str, note: str) -> None:
    done = repair(Tower, text)
    assert done.value == Tower(kind="lighthouse", founded=done.value.founded, known_for=["light", "fog"])
    assert done.value.founded in {1720, 1000, 1999}
    assert note.lstrip(".") in done.repairs, done.repairs
    assert repair(Tower, done.text).repairs == (), "what is repaired is right"


def test_lines_of_prose_will_do() -> None:
    text = "**Kind:** lighthouse\n- Founded: in 1720, they say\n- Known for: light; fog\n\nIt is a fine tower."
    done = repair(Tower, text)
    assert done.value == Tower(kind="lighthouse", founded=1720, known_for=["light", "fog"])
    assert done.repairs[0] == "read from lines of prose"


def test_texts_that_are_too_long_are_cut_at_a_word_and_lists_at_their_most() -> None:
    long = ["its light that is seen from far away", "fog", "rain", "wind"]
    done = repair(Tower, json.dumps({"kind": "lighthouse", "founded": 1720, "known_for": long}))
    assert done.value.known_for == ["its light that is", "fog", "rain"]
    assert done.repairs == ("known_for: 4 entries were cut to 3", "known_for[0]: 36 characters were cut to 17")
    assert truncate_at_word("abcdefghij", 4) == "abcd" and truncate_at_word("one, two", 5) == "one"


def test_nested_values_are_repaired_in_their_place() -> None:
    text = (
        '{"kind":"lighthouse","founded":1720,"known_for":[],"colour":"Dark Blue","places":[{"name":7,"height":"N/A"}]}'
    )
    done = repair(Tower, text)
    assert done.value.colour is Colour.DARK_BLUE and done.value.places == [Place(name="7", height=None)]
    assert 'places[0].name: 7 became "7"' in done.repairs and 'places[0].height: "N/A" became null' in done.repairs


def test_a_cut_off_text_is_completed_if_enough_is_there() -> None:
    begun = GOOD[:-1] + ',"places":[{"name":"Cape Lost","height":12},{"name":"North Ca'
    done = repair(Tower, begun)
    assert done.value.places == [Place(name="Cape Lost", height=12), Place(name="North", height=None)]
    assert repair(Tower, begun[:-9]).value.places == [Place(name="Cape Lost", height=12)]
    assert "an entry that was cut off is left out" in repair(Tower, begun[:-9]).repairs
    assert repair(Tower, GOOD[:-8]).value.known_for == ["light"]


def test_an_endless_text_and_an_endless_list_come_to_an_end() -> None:
    endless = '{"kind":"lighthouse","founded":1720,"known_for":[' + '"fog",' * 500
    assert repair(Tower, endless).value.known_for == ["fog"] * 3
    endless = '{"kind":"lighthouse","founded":1720,"known_for":["a very ' + "very " * 500
    assert repair(Tower, endless).value.known_for == ["a very very very"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("The lighthouse was built in 1720 by nobody in particular.", "there is no JSON in it that has its fields"),
        ("", "there is no JSON"),
        ('{"colour":"red"}', "kind: field required"),
        ('{"kind":"lighthouse","founded":17', "founded: field required"),
        ('{"kind":"cheese","founded":1720,"known_for":[]}', "kind: input should be 'lighthouse' or 'bell tower'"),
        ('{"kind":"lighthouse","founded":"long ago","known_for":[]}', "founded: input should be a valid integer"),
        ('{"kind":"lighthouse","founded":1720,"known_for":[{}]}', r"known_for\[0\]: input should be a valid string"),
        ("{" * 5000, "there is no JSON"),
    ],
)
def test_what_is_not_there_is_not_invented(text: str, message: str) -> None:
    with pytest.raises(SchemaMismatch, match=f"What was written does not fit the shape Tower: {message}"):
        repair(Tower, text)


def test_a_dataclass_its_dates_shares_and_switches() -> None:
    done = repair(Note, '{"text":["a","b"],"day":"12th March 1720","share":"40%","open":"yes"}')
    assert done.value == Note("a, b", date(1720, 3, 12), 40.0, True)
    assert repair(Note, '{"text":"She said "no", twice","day":"on 1720-03-12"}').value.text == 'She said "no", twice'


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Home(BaseModel):
    pet: Cat | Dog
    counts: dict[str, int] = {}
    pair: tuple[int, str] = (1, "a")


def test_one_of_several_shapes_is_the_one_that_is_meant() -> None:
    assert repair(Home, '{"pet":{"kind":"cat","lives":12,},}').value.pet == Cat(kind="cat", lives=9)
    done = repair(Home, '{"pet":{"kind":"dog","tricks":"sit, roll"},"counts":{"a":"3 apples"},"pair":["2",3]}')
    assert done.value == Home(pet=Dog(kind="dog", tricks=["sit", "roll"]), counts={"a": 3}, pair=(2, "3"))


def test_words_that_were_cut_off_are_left_out() -> None:
    assert drop_partial_word("a light in the f") == "a light in the"
    assert (
        drop_partial_word("It burns. ") == "It burns." and drop_partial_word("tow") == "" and drop_partial_word("灯台は海") == "灯台は海"
    )


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="{}[]\",:\\ \n'ab1-.e/#“”`u", max_size=60))
def test_any_text_is_read_or_refused_and_nothing_hangs(text: str) -> None:
    for loose in parse_lenient(text):
        json.dumps(loose.data)
    try:
        repair(Tower, text)
    except SchemaMismatch as error:
        assert str(error).endswith(".")


def test_a_text_that_ends_in_the_middle_of_an_escape() -> None:
    whole = Tower(kind="lighthouse", founded=1000, known_for=["fog", "sea\x07\x80\x1f"], places=[]).model_dump_json()
    for cut in range(whole.index("sea") + 3, whole.index('"', whole.index("sea"))):
        assert all("\\" not in text for text in repair(Tower, whole[:cut]).value.known_for)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Tower,
        kind=st.sampled_from(["lighthouse", "bell tower"]),
        founded=st.integers(1000, 1999),
        known_for=st.lists(st.text(max_size=20), max_size=3),
        places=st.lists(st.builds(Place, name=st.text(max_size=9), height=st.none() | st.integers(0, 100)), max_size=2),
    ),
    st.data(),
)
def test_any_beginning_of_a_value_gives_what_it_says_or_nothing(value: Tower, data: st.DataObject) -> None:
    text = value.model_dump_json()
    cut = data.draw(st.integers(0, len(text)))
    try:
        done: Any = repair(Tower, text[:cut])
    except SchemaMismatch:
        return
    assert (done.value.kind, done.value.founded) == (value.kind, value.founded)
    assert len(done.value.places) <= len(value.places)
    assert all(whole.startswith(part) for part, whole in zip(done.value.known_for, value.known_for, strict=False))


@pytest.mark.parametrize(
    "text",
    [
        '{"' * 9000,
        '{"kind":"' + '"a" ' * 9000,
        "[" * 20000,
        '{"known_for":[' + "," * 20000,
        "kind: x\n" * 9000,
        "{kind:" + "a " * 20000,
        "{" + " " * 20000,
        "{" + "word " * 9000,
        "{" + "word" * 9000,
        "{" + "/* " * 9000,
        '{"a":' * 5000,
    ],
    ids=lambda text: text[:12],
)
def test_noise_without_an_end_is_given_up_soon(text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(SchemaMismatch):
        repair(Tower, text)
    assert time.monotonic() - begun < 5
