"""Assumed bounds: what a schema leaves open is filled in, and what its author sets stays."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, create_model
from tests.support.gbnf import Grammar

from unwritten.formats.assumed_schema import assume, example_values
from unwritten.formats.field_kinds import _TEXT_KINDS
from unwritten.formats.schema import json_schema_of, type_adapter
from unwritten.formats.schema_repair import repair
from unwritten.formats.schema_tidy import sample_texts
from unwritten_engine.json_grammar import grammar_from_schema


class Step(BaseModel):
    number: int
    text: str


class Recipe(BaseModel):
    title: str
    servings: int
    prepMinutes: int
    price_eur: Decimal
    ingredients: list[str]
    steps: list[Step]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: str
    children: list[Tree]


@dataclass
class Everything:
    """Every kind of field."""

    email: str
    birth_date: date
    colour: Colour
    colours: list[Colour]
    kind: Literal["a", "b"]
    guest: str | None
    counts: dict[str, int]
    pair: tuple[int, str]
    either: int | str
    tree: Tree
    größe: float
    数量: int
    x: int


def bounds_of(name: str, annotation: Any = int, **options: Any) -> tuple[Any, Any]:
    model = create_model("Thing", **{name: (annotation, Field(**options))})  # type: ignore[call-overload]
    field = assume(model, 256).json_schema["properties"][name]
    return field.get("minimum", field.get("exclusiveMinimum")), field.get("maximum", field.get("exclusiveMaximum"))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("servings", 1, 20),
        ("prepMinutes", 1, 240),
        ("birth_year", 1900, 2026),
        ("year_of_birth", 1900, 2026),
        ("reviews_count", 0, 10_000),
        ("number_of_pages", 10, 2000),
        ("humidity_percent", 0, 100),
        ("Age", 0, 120),
    ],
)
def test_names_give_a_sane_range(name: str, low: int, high: int) -> None:
    found = bounds_of(name)
    assert low <= found[0] < found[1] <= high


def test_a_description_and_the_model_give_a_range() -> None:
    assert bounds_of("mood", description="From 1 (bad) to 7") != bounds_of("mood", description="From 1 to 7")
    assert bounds_of("mood", description="From 1 to 7") == (1, 7)
    assert bounds_of("value", description="Temperature of the oven")[1] > 30
    house = assume(create_model("House", price=(int, ...)), 256).json_schema["properties"]["price"]
    assert house["minimum"] > bounds_of("price")[1], "a house costs more than a thing"


def test_bounds_of_the_author_stay_and_the_open_side_is_filled_in() -> None:
    assert bounds_of("servings", ge=100, le=200) == (100, 200)
    assert bounds_of("servings", ge=2) == (2, bounds_of("servings")[1])
    assert bounds_of("servings", gt=900)[1] > 900
    assert bounds_of("servings", le=-5)[0] < -5
    assert bounds_of("servings", le=1.5, annotation=float)[1] == 1.5


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("rating", {"default": 0}, (0, 5)),
        ("price", {"default": 12_000}, (3, 12_000)),
        ("year", {"examples": [3021, 1020]}, (1020, 3021)),
        ("servings", {"default": 90, "ge": 4}, (4, 90)),
        ("servings", {"default": 3, "le": 9}, (1, 9)),
        ("rating", {"default": True}, (1, 5)),
    ],
)
def test_defaults_and_examples_of_the_author_widen_ranges(name: str, options: Any, expected: tuple[int, int]) -> None:
    assert bounds_of(name, **options) == expected


def test_all_that_the_author_names_can_be_written() -> None:
    class Fair(BaseModel):
        seats: int | None = 90_000
        email: str = "ask at the gate"
        departure: str = "at dawn"
        website: str = "–"
        opened: date = date(2099, 12, 31)
        motto: str = Field(default="x" * 90, examples=["#1 in the county"])
        share: float = float("inf")
        tags: list[str] = ["a", "_b_", "c", "d", "e", "f", "g"]
        rides: list[int] = Field(default=[], examples=[[700]])

    found = assume(Fair, 4096).json_schema
    properties = found["properties"]
    assert properties["seats"]["anyOf"][0]["maximum"] == 90_000
    assert re.search(properties["departure"]["pattern"], "at dawn")
    assert "pattern" not in {**properties["website"], **properties["motto"], **properties["opened"]}
    assert re.search(properties["email"]["pattern"], "ask at the gate")
    assert properties["motto"]["maxLength"] == 90
    assert properties["tags"]["maxItems"] == 7 and "pattern" not in properties["tags"]["items"]
    assert properties["rides"]["items"]["maximum"] == 700 and properties["rides"]["minItems"] == 1
    rules = Grammar(grammar_from_schema(found))
    for seed in range(5):
        type_adapter(Fair).validate_json(rules.sample(random.Random(seed)))


@pytest.mark.parametrize(
    ("name", "written", "refused"),
    [
        ("year", ["1987", "2012"], ["87", "in 1987", "31415"]),
        ("price", ["12.50 EUR", "$18", "40 zł"], ["cheap", "free of charge and with a very long explanation"]),
        ("price_per_night", ["€80"], ["ask us"]),
        ("price_range", ["10 to 25 EUR"], []),
        ("rating", ["4.5", "4 of 5", "PG"], ["a very long text about all that was good"]),
        ("duration_minutes", ["25", "25 Minuten"], ["long"]),
        ("prep_time", ["25 minutes", "1 hour"], ["quickly"]),
        ("weight_kg", ["4.5"], ["heavy"]),
        ("temperature", ["-3 °C"], ["cold"]),
        ("weight_class", ["heavy"], []),
        ("age_group", ["adults"], []),
        ("meeting_minutes", ["The council met on Tuesday."], []),
        ("time_zone", ["Europe/Lisbon"], []),
        ("check_in_time", ["14:30"], ["late"]),
    ],
)
def test_texts_with_names_of_numbers_have_their_form(name: str, written: list[str], refused: list[str]) -> None:
    model = create_model("Thing", **{name: (str, ...)})  # type: ignore[call-overload]
    field = assume(model, 4096).json_schema["properties"][name]
    for text in (*written, *refused):
        fits = re.search(field["pattern"], text) is not None and len(text) <= field["maxLength"]
        assert fits is (text in written), text
    value = json.loads(Grammar(grammar_from_schema(assume(model, 4096).json_schema)).sample(random.Random(1)))
    assert re.search(field["pattern"], value[name])


def test_all_samples_have_the_form_that_is_assumed() -> None:
    for name, kind in _TEXT_KINDS.items():
        assert all(re.search(kind.pattern, sample) and len(sample) <= kind.length for sample in kind.samples), name


def test_a_schema_with_bounds_is_unchanged() -> None:
    class Bounded(BaseModel):
        name: str = Field(max_length=40)
        code: str = Field(pattern="^[a-z]+$")
        age: int = Field(ge=0, le=9)
        tags: list[Literal["a", "b"]] = Field(min_length=2, max_length=2)

    assert assume(Bounded, 256).json_schema == json_schema_of(Bounded)
    assert assume(Bounded, 256).bounds == ()


@pytest.mark.parametrize("schema", [Recipe, Everything, Tree])
@pytest.mark.parametrize("tokens", [40, 256, 4096])
def test_all_that_the_grammar_allows_is_valid(schema: type[Any], tokens: int) -> None:
    if schema is Tree:
        assert "minItems" not in assume(schema, tokens).json_schema["$defs"]["Tree"]["properties"]["children"]
    rules = Grammar(grammar_from_schema(assume(schema, tokens).json_schema))
    if schema is Recipe:
        for seed in range(20):
            value = type_adapter(schema).validate_json(rules.sample(random.Random(seed)))
            assert 1 <= value.servings <= 20 and 2 <= len(value.ingredients) <= 5 and value.title[0] not in ".,;:_>*#-^"
    for _, example in example_values(schema, tokens):
        type_adapter(schema).validate_json(example)


class Person(BaseModel):
    name: str
    child: Person | None = None
    friends: dict[str, Person] = {}
    id: UUID
    rest: timedelta


class Endless(BaseModel):
    inner: Endless


class Coded(BaseModel):
    code: str = Field(pattern=r"^\d{3}-x$")


class Stepped(BaseModel):
    price: int = Field(multiple_of=7)


def test_examples_of_schemas_that_contain_themselves_end() -> None:
    for _, example in example_values(Person, 256):
        found = type_adapter(Person).validate_json(example)
        assert found.child.child is None and len(example) < 2000


@pytest.mark.parametrize("schema", [Endless, Coded, Stepped])
def test_an_example_that_its_schema_refuses_is_left_out(schema: type[Any]) -> None:
    assert example_values(schema, 256) == []


def test_lengths_fit_the_canvas() -> None:
    short, long = (assume(Recipe, tokens).json_schema["properties"] for tokens in (90, 4096))
    assert short["title"]["maxLength"] < long["title"]["maxLength"]
    assert short["ingredients"]["maxItems"] < long["ingredients"]["maxItems"]


def test_the_bounds_are_listed_in_words() -> None:
    found = assume(Recipe, 4096).bounds
    assert "servings: 1 to 10" in found and "steps: 2 to 4 entries" in found
    assert any(line.startswith("Step.text: up to ") for line in found)


def test_examples_number_steps_in_order_and_use_the_author_s_samples() -> None:
    class Dish(BaseModel):
        heat: int = Field(examples=[77])
        steps: list[Step]

    for _, example in example_values(Dish, 4096):
        value = json.loads(example)
        assert value["heat"] == 77
        assert [step["number"] for step in value["steps"]] == list(range(1, len(value["steps"]) + 1))


# -- tidy values ----------------------------------------------------------------------------------------------


def repaired(**changes: Any) -> Any:
    value = {
        "title": "Soup",
        "servings": 4,
        "prepMinutes": 9,
        "price_eur": 2,
        "ingredients": ["salt", "water"],
        "steps": [{"number": 1, "text": "Boil it."}, {"number": 2, "text": "Eat it."}],
    }
    return repair(Recipe, json.dumps(value | changes), assume(Recipe, 4096))


def test_a_value_outside_of_assumed_bounds_is_kept() -> None:
    found = repaired(servings=400, prepMinutes=-3, ingredients=["salt"] + [f"spice {n}" for n in range(30)])
    assert (found.value.servings, found.value.prepMinutes, len(found.value.ingredients)) == (400, -3, 31)
    assert found.repairs == ()


def test_repeated_entries_are_removed_and_steps_numbered() -> None:
    steps = [{"number": 4, "text": "Boil it."}, {"number": 4, "text": "Eat it."}, {"number": 9, "text": "boil it"}]
    found = repaired(ingredients=["Salt", "salt", "salt."], steps=steps)
    assert found.value.ingredients == ["Salt"]
    assert [(step.number, step.text) for step in found.value.steps] == [(1, "Boil it."), (2, "Eat it.")]
    assert "steps: numbered in order" in found.repairs


def test_entries_of_the_example_are_removed_if_others_remain() -> None:
    class Trip(BaseModel):
        place: str
        season: Literal["early spring", "late autumn"]
        days: list[str]
        stops: list[str]
        packed: list[str] = Field(min_length=2)
        notes: list[str]

    samples = sample_texts(
        ['{"a":["Tuesday","Friday",{"b":"an iron key"}],"c":"the old town hall"}', "early spring", "[]"]
    )
    samples |= {"early spring"}
    value = {
        "place": "The old town hall",
        "season": "early spring",
        "days": ["Monday", "Tuesday", "Friday"],
        "stops": ["the old town hall", "the mill"],
        "packed": ["an iron key", "rope"],
        "notes": ["tuesday", "friday"],
    }
    found = repair(Trip, json.dumps(value), assume(Trip, 4096), samples)
    assert found.value.days == ["Monday", "Tuesday", "Friday"], "short words may be a coincidence"
    assert found.value.stops == ["the mill"] and found.value.packed == ["an iron key", "rope"]
    assert found.repairs == ("stops: removed 1 entry of the example",)
    assert found.copied == ("place", "packed[0]", "notes")
    assert repair(Trip, json.dumps(value), assume(Trip, 4096)).copied == ()
    alone = repair(
        Trip, json.dumps(value | {"place": "Tuesday", "packed": ["x", "y"], "notes": ["Friday"]}), None, samples
    )
    assert alone.copied == (), "without assumed bounds there is no example"


def test_no_text_is_in_both_examples() -> None:
    class Shop(BaseModel):
        name: str
        tags: list[str]
        ingredients: list[str]
        genre: str

    first, second = (sample_texts([answer]) for _, answer in example_values(Shop, 4096))
    assert first and second and not first & second


def test_a_text_that_reached_its_limit_ends_well() -> None:
    length = assume(Recipe, 4096).json_schema["properties"]["title"]["maxLength"]
    title = "A soup of leeks and potatoes with the mildest of herbs from the garden"[:length]
    assert repaired(title=title).value.title == "A soup of leeks and potatoes with the mildest"
    assert repaired(title=title[:-1].strip()).value.title == title[:-1].strip(), "a shorter text is left alone"
    length = assume(Recipe, 4096).json_schema["$defs"]["Step"]["properties"]["text"]["maxLength"]
    text = (
        "Boil the water for ten minutes. Add the leeks and the salt and all that is left of the old bread and stir it"
    )
    steps = [{"number": 1, "text": f"{text[: length - 1].ljust(length - 1, 'x')}."}, {"number": 2, "text": "Eat it."}]
    assert repaired(steps=steps).value.steps[0].text == "Boil the water for ten minutes."


def test_lists_that_may_repeat_and_other_numbers_are_left_alone() -> None:
    class Player(BaseModel):
        name: str
        number: int

    class Song(BaseModel):
        verses: list[str]
        rolls: list[int]
        players: list[Player]
        rows: list[str] = Field(min_length=2)

    value = {
        "verses": ["la la", "la la"],
        "rolls": [6, 6],
        "players": [{"name": "Ada", "number": 9}, {"name": "Bo", "number": 7}],
        "rows": ["a", "a"],
    }
    found = repair(Song, json.dumps(value), assume(Song, 4096))
    assert found.repairs == () and json.loads(found.text) == value
