"""Repairing values of schemas from what models write."""

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
from tests.support.apps import text_frame

from unwritten.core.errors import PageFailed, SchemaMismatch
from unwritten.formats.lenient_json import drop_partial_word, parse_lenient
from unwritten.formats.schema import MAX_ENTRIES, SchemaFormatter, parse_value
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


def test_a_valid_text_is_unchanged() -> None:
    done = repair(Tower, f" {GOOD}\n")
    assert (done.text, done.repairs) == (GOOD, ())
    assert done.value == Tower(kind="lighthouse", founded=1720, known_for=["light", "fog"])


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (f"Sure! Here are the facts:\n```json\n{GOOD}\n```\nI hope that helps.", "removed a code fence"),
        (f"The lighthouse [1] is old. {GOOD} That is all.", "removed text around the JSON"),
        (GOOD.replace("]}", ",],}"), "removed an extra comma"),
        (GOOD.replace(',"founded"', '\n"founded"'), "added a missing comma"),
        (GOOD.replace('"', "'"), "replaced quotes"),
        (GOOD.replace('"kind"', "kind"), "quoted a field name"),
        (GOOD.replace("{", "{ // a tower\n"), "removed a comment"),
        (GOOD[:-2], "added a missing end"),
        (GOOD[:-1] + ', "open": True}', "replaced a literal that JSON does not have"),
        (GOOD.replace('"lighthouse"', "lighthouse"), "quoted a string"),
        (GOOD.replace("1720", "1,720"), "removed commas from a number"),
        (f"[{GOOD}]", "removed brackets around the value"),
        (f'{{"tower":{GOOD}}}', "removed brackets around the value"),
        (GOOD.replace('"known_for"', '"Known for"'), ".known_for: renamed from 'Known for'"),
        (GOOD.replace("1720", "3000"), "founded: changed 3000 to 1999"),
        (GOOD.replace("1720", "12"), "founded: changed 12 to 1000"),
        (GOOD.replace("1720", '"about 1720"'), 'founded: changed "about 1720" to 1720'),
        (GOOD.replace("1720", "1720.4"), "founded: changed 1720.4 to 1720"),
        (GOOD.replace("lighthouse", "Lighthouse"), 'kind: changed "Lighthouse" to "lighthouse"'),
        (GOOD.replace("lighthouse", "a tall lighthouse"), 'kind: changed "a tall lighthouse" to "lighthouse"'),
        (GOOD.replace("lighthouse", "ligthouse"), 'kind: changed "ligthouse" to "lighthouse"'),
        (GOOD.replace('["light","fog"]', '"light, fog"'), 'known_for: changed "light, fog" to ["light", "fog"]'),
    ],
)
def test_repairs_are_made_and_reported(text: str, note: str) -> None:
    done = repair(Tower, text)
    assert done.value == Tower(kind="lighthouse", founded=done.value.founded, known_for=["light", "fog"])
    assert done.value.founded in {1720, 1000, 1999}
    assert note.lstrip(".") in done.repairs, done.repairs
    assert repair(Tower, done.text).repairs == (), "the repaired value is correct"


def test_fields_are_read_from_lines_of_text() -> None:
    text = "**Kind:** lighthouse\n- Founded: in 1720, they say\n- Known for: light; fog\n\nIt is a fine tower."
    done = repair(Tower, text)
    assert done.value == Tower(kind="lighthouse", founded=1720, known_for=["light", "fog"])
    assert done.repairs[0] == "read fields from lines of text"


def test_long_strings_and_lists_are_truncated() -> None:
    long = ["its light that is seen from far away", "fog", "rain", "wind"]
    done = repair(Tower, json.dumps({"kind": "lighthouse", "founded": 1720, "known_for": long}))
    assert done.value.known_for == ["its light that is", "fog", "rain"]
    assert done.repairs == (
        "known_for: shortened from 4 entries to 3",
        "known_for[0]: shortened from 36 characters to 17",
    )
    assert truncate_at_word("abcdefghij", 4) == "abcd" and truncate_at_word("one, two", 5) == "one"


def test_nested_values_are_repaired() -> None:
    text = (
        '{"kind":"lighthouse","founded":1720,"known_for":[],"colour":"Dark Blue","places":[{"name":7,"height":"N/A"}]}'
    )
    done = repair(Tower, text)
    assert done.value.colour is Colour.DARK_BLUE and done.value.places == [Place(name="7", height=None)]
    assert (
        'places[0].name: changed 7 to "7"' in done.repairs and 'places[0].height: changed "N/A" to null' in done.repairs
    )


def test_a_cut_off_text_is_repaired_if_enough_of_it_arrived() -> None:
    begun = GOOD[:-1] + ',"places":[{"name":"Cape Lost","height":12},{"name":"North Ca'
    done = repair(Tower, begun)
    assert done.value.places == [Place(name="Cape Lost", height=12), Place(name="North", height=None)]
    assert repair(Tower, begun[:-9]).value.places == [Place(name="Cape Lost", height=12)]
    assert "removed an incomplete entry" in repair(Tower, begun[:-9]).repairs
    assert repair(Tower, GOOD[:-8]).value.known_for == ["light"]


def test_endless_strings_and_lists_are_cut() -> None:
    endless = '{"kind":"lighthouse","founded":1720,"known_for":[' + '"fog",' * 500
    assert repair(Tower, endless).value.known_for == ["fog"] * 3
    endless = '{"kind":"lighthouse","founded":1720,"known_for":["a very ' + "very " * 500
    assert repair(Tower, endless).value.known_for == ["a very very very"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("The lighthouse was built in 1720 by nobody in particular.", "it contains no JSON with its fields"),
        ("", "it contains no JSON"),
        ('{"colour":"red"}', "kind: field required"),
        ('{"kind":"lighthouse","founded":17', "founded: field required"),
        ('{"kind":"cheese","founded":1720,"known_for":[]}', "kind: input should be 'lighthouse' or 'bell tower'"),
        ('{"kind":"lighthouse","founded":"long ago","known_for":[]}', "founded: input should be a valid integer"),
        ('{"kind":"lighthouse","founded":1720,"known_for":[{}]}', r"known_for\[0\]: input should be a valid string"),
        ("{" * 5000, "it contains no JSON"),
    ],
)
def test_missing_values_are_not_invented(text: str, message: str) -> None:
    with pytest.raises(SchemaMismatch, match=f"The generated text does not match the schema Tower: {message}"):
        repair(Tower, text)


def test_dates_numbers_and_booleans_of_a_dataclass() -> None:
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


def test_the_best_member_of_a_union_is_chosen() -> None:
    assert repair(Home, '{"pet":{"kind":"cat","lives":12,},}').value.pet == Cat(kind="cat", lives=9)
    done = repair(Home, '{"pet":{"kind":"dog","tricks":"sit, roll"},"counts":{"a":"3 apples"},"pair":["2",3]}')
    assert done.value == Home(pet=Dog(kind="dog", tricks=["sit", "roll"]), counts={"a": 3}, pair=(2, "3"))


def test_partial_words_are_dropped() -> None:
    assert drop_partial_word("a light in the f") == "a light in the"
    assert (
        drop_partial_word("It burns. ") == "It burns."
        and drop_partial_word("tow") == ""
        and drop_partial_word("灯台は海") == "灯台は海"
    )


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="{}[]\",:\\ \n'ab1-.e/#“”`u", max_size=60))
def test_any_text_is_repaired_or_rejected(text: str) -> None:
    for candidate in parse_lenient(text):
        json.dumps(candidate.data)
    try:
        repair(Tower, text)
    except SchemaMismatch as error:
        assert str(error).endswith(".")


def test_an_incomplete_escape_is_removed() -> None:
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
def test_a_prefix_of_a_value_gives_only_its_own_content(value: Tower, data: st.DataObject) -> None:
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
def test_long_noise_is_rejected_quickly(text: str) -> None:
    begun = time.thread_time()
    with pytest.raises(SchemaMismatch):
        repair(Tower, text)
    assert time.thread_time() - begun < 5


@pytest.mark.parametrize("digits", ["1" * 6000, "1" + ",111" * 3000, "9" * 400 + ".5", "𝟙" * 6000])
@pytest.mark.parametrize("quote", ["", '"'])
def test_huge_numbers_are_a_mismatch_and_no_crash(digits: str, quote: str) -> None:
    class Numbers(BaseModel):
        founded: int

    with pytest.raises(SchemaMismatch):
        repair(Numbers, f'{{"founded": {quote}{digits}{quote}}}')


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999999999", "NaN", '"Infinity"', '"nan"', '"' + "9" * 400 + '"', "9" * 400]
)
def test_numbers_that_are_not_finite_are_a_mismatch_and_no_crash(number: str) -> None:
    class Price(BaseModel):
        amount: float = Field(multiple_of=0.5)
        number: int = Field(0, multiple_of=5)

    for text in (f'{{"amount": {number}}}', f"{{amount: {number},}}", f'{{"amount": 1, number: {number}, }}'):
        try:
            value = repair(Price, text).value
        except SchemaMismatch:
            continue
        assert (value.amount, value.number) == (1, 0)  # nothing is made of the digits
    with pytest.raises(PageFailed):
        parse_value(Price, f'{{"amount": {number}}}')


def test_a_draft_has_no_infinite_numbers() -> None:
    formatter = SchemaFormatter(Note)
    for text in ('{"text": "a", "share": 1e999, "open": true', '{"text": "a", "share": 1e999,'):
        for spans in ((), ((22, 25),)):
            value = formatter.format(text_frame(text, spans)).value
            assert value.text == "a" and value.share is None


def test_a_value_has_at_most_as_many_entries_as_html_has_elements() -> None:
    class Names(BaseModel):
        names: list[int]

    text = '{"names":[' + "1," * 30_000 + "1]}"
    assert len(repair(Names, text).value.names) <= MAX_ENTRIES + 1
    for done in (True, False):
        html = SchemaFormatter(Names).format(text_frame(text, done=done)).html
        assert html.count("<li>") <= MAX_ENTRIES + 1
