from __future__ import annotations

import datetime
import json
import random
import re
import uuid
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter
from tests.support.gbnf import Grammar

from unwritten_engine.errors import RequestRefused
from unwritten_engine.json_grammar import grammar_from_schema


class Colour(Enum):
    RED = "red"
    BLUE = 'dark "blue"'


class Part(BaseModel):
    name: str = Field(max_length=12)
    share: float = Field(ge=0, le=1)


class Facts(BaseModel):
    kind: Literal["town", "river\\n"]
    colour: Colour
    founded: int | None
    days: int = Field(ge=1, le=365)
    known_for: list[str] = Field(min_length=1, max_length=3)
    parts: list[Part] = []
    main: Part | None = None
    alive: bool = True
    born: datetime.date
    at: datetime.time
    when: datetime.datetime
    id: uuid.UUID
    pair: tuple[int, str]
    counts: dict[str, int]
    heat: float = Field(gt=-3.5, lt=2.25)
    code: str = Field(min_length=3, max_length=3)
    empty: str = Field(max_length=0)
    tags: set[str] = set()
    either: int | str
    version: Literal[1]


class Tree(BaseModel):
    name: str
    children: list[Tree] = Field(max_length=2)


@pytest.mark.parametrize("model", [Facts, Tree, Part])
def test_all_that_the_grammar_allows_is_valid(model: type[BaseModel]) -> None:
    rules = Grammar(grammar_from_schema(model.model_json_schema()))
    rng = random.Random(1)
    for _ in range(60):
        text = rules.sample(rng)
        model.model_validate_json(text)
        assert list(json.loads(text)) == list(model.model_fields)


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(lambda kind: {"type": kind}),
        st.builds(
            lambda n, more: {"type": "string", "minLength": n, "maxLength": n + more},
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        st.lists(st.one_of(st.text(max_size=5), st.integers(), st.none(), st.booleans()), min_size=1, max_size=3).map(
            lambda v: {"enum": v}
        ),
        st.text(max_size=8).map(lambda text: {"const": text}),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.dictionaries(st.text(min_size=1, max_size=6), inner, min_size=1, max_size=3).map(
                lambda p: {"type": "object", "properties": p}
            ),
            st.builds(
                lambda i, n: {"type": "array", "items": i, "minItems": n, "maxItems": n + 2}, inner, st.integers(0, 2)
            ),
            st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
            inner.map(lambda value: {"type": "object", "additionalProperties": value}),
        ),
        max_leaves=8,
    )


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """A few lines of a validator, written anew from the specification."""
    if "const" in schema:
        return bool(value == schema["const"])
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(fits(value, option) for option in schema["anyOf"])
    match schema["type"]:
        case "string":
            return isinstance(value, str) and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 9**9)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array" if isinstance(value, list):
            return schema["minItems"] <= len(value) <= schema["maxItems"] and all(
                fits(item, schema["items"]) for item in value
            )
        case "object" if isinstance(value, dict) and "properties" in schema:
            inner = schema["properties"]
            return list(value) == list(inner) and all(fits(value[key], inner[key]) for key in inner)
        case "object" if isinstance(value, dict):
            return all(fits(item, schema["additionalProperties"]) for item in value.values())
        case _:
            return False


@settings(max_examples=60, deadline=None)
@given(schemas(), st.randoms(use_true_random=False))
def test_any_schema_gives_valid_compact_json(schema: dict[str, Any], rng: random.Random) -> None:
    text = Grammar(grammar_from_schema(schema)).sample(rng)
    assert fits(json.loads(text), schema)


def numbers_of(schema: dict[str, Any], count: int = 200) -> list[Decimal]:
    rules, rng = Grammar(grammar_from_schema(schema)), random.Random(3)
    return [Decimal(rules.sample(rng)) for _ in range(count)]


@settings(max_examples=80, deadline=None)
@given(st.integers(-1300, 1300), st.integers(0, 1500))
def test_whole_numbers_stay_in_their_bounds_and_reach_them(low: int, width: int) -> None:
    found = numbers_of({"type": "integer", "minimum": low, "maximum": low + width})
    assert all(low <= number <= low + width for number in found)
    if width < 8:
        assert {int(number) for number in found} == set(range(low, low + width + 1))


@settings(max_examples=80, deadline=None)
@given(st.integers(-5000, 5000), st.integers(0, 4000), st.sampled_from([1, 10, 100, 1000]))
def test_numbers_with_fractions_stay_in_their_bounds(low: int, width: int, scale: int) -> None:
    bounds = low / scale, (low + width) / scale
    for number in numbers_of({"type": "number", "minimum": bounds[0], "maximum": bounds[1]}, 60):
        assert Decimal(str(bounds[0])) <= number <= Decimal(str(bounds[1]))


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        ({"minimum": 5}, 5, None),
        ({"maximum": -5}, None, -5),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 3}, 1, 2),
        ({"minimum": 0, "exclusiveMinimum": 0, "maximum": 2}, 1, 2),
        ({"minimum": -0.5, "maximum": 1.5}, 0, 1),
    ],
)
def test_open_and_exclusive_bounds(bounds: dict[str, float], low: int | None, high: int | None) -> None:
    for number in numbers_of({"type": "integer", **bounds}):
        assert (low is None or number >= low) and (high is None or number <= high)


def test_there_is_no_free_white_space_and_no_unbounded_part() -> None:
    source = grammar_from_schema(Facts.model_json_schema())
    rules = [line.partition(" ::= ")[2] for line in source.splitlines()]
    assert not any("*" in rule or "+" in rule for rule in rules)
    assert r"\n" not in source.replace(r'["\\n]', "").replace(r"river\\\\n", "")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}, r"\$\.a\[\] has no type"),
        ({"type": "string", "pattern": r"a(?=b)"}, r"at \$ has the pattern 'a\(\?=b\)', of which the group '\(\?=b'"),
        ({"type": "string", "pattern": "^a+$", "maxLength": 3}, "matches texts of other lengths"),
        ({"type": "string", "format": "ipv4"}, r"the format 'ipv4'. Known: date"),
        ({"type": "integer", "multipleOf": 3}, "'multipleOf'"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "number without possible values"),
        ({"type": "array"}, "list without an item type"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 4, "maxItems": 2}, "minItems 4 and maxItems 2"),
        ({"type": "string", "minLength": 5000}, "up to 2000"),
        ({"enum": []}, "without values"),
        ({"$ref": "#/$defs/Gone"}, "does not exist"),
        ({"allOf": [{"type": "null"}, {"type": "null"}]}, "joins several"),
        ({"type": "thing"}, "type 'thing'"),
        ({"type": "object", "properties": {"a": True}}, r"\$\.a is True"),
        ({"not": {"type": "null"}}, "has no type"),
        ({"type": "object", "required": ["b"], "properties": {"a": {"type": "null"}}}, r"\$\.b is required"),
        ({"type": "array", "prefixItems": [{"type": "null"}], "minItems": 0}, "open length"),
    ],
)
def test_unsupported_schemas_are_refused_with_their_place(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        grammar_from_schema(schema)


@pytest.mark.parametrize("kind", [list[int], dict[str, bool], int | None, Literal["a", 2, None], tuple[int, int]])
def test_a_schema_need_not_be_an_object(kind: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    rules, rng = Grammar(grammar_from_schema(adapter.json_schema())), random.Random(2)
    for _ in range(20):
        adapter.validate_json(rules.sample(rng))


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{2,3}-\d{3}$",
        r"^(?:red|green|blue)( dark)?$",
        r"^[^\s,;\"\\]\w{0,5}\.$",
        r'^"[a-f]+"\\$',
        r"^[\w.+-]+@[a-z-]{2,9}\.(com|org)$",
        r"^a|b$",
        r"\(\d{2,}\) ?[/^-]",
    ],
)
def test_texts_of_a_pattern_match_it(pattern: str) -> None:
    rules = Grammar(grammar_from_schema({"type": "string", "pattern": pattern}))
    rng = random.Random(1)
    for _ in range(80):
        assert re.search(pattern, json.loads(rules.sample(rng)))


def test_a_pattern_with_fitting_lengths_is_accepted() -> None:
    schema = {"type": "string", "pattern": "^[A-Z]{2,3}$", "minLength": 2, "maxLength": 3}
    assert 2 <= len(json.loads(Grammar(grammar_from_schema(schema)).sample(random.Random(1)))) <= 3


@pytest.mark.parametrize(
    "pattern", [r"\bword", r"(a)\1", "(?i)a", "[[:alpha:]]", "a{3,2}", "(a", "*", "[z-a]", "a++", "["]
)
def test_patterns_that_a_grammar_cannot_express_are_refused(pattern: str) -> None:
    with pytest.raises(RequestRefused, match="pattern"):
        grammar_from_schema({"type": "string", "pattern": pattern})


def test_a_large_maximum_is_shortened() -> None:
    large = {"type": "array", "items": {"type": "string", "maxLength": 100_000}, "maxItems": 5000}
    small = {"type": "array", "items": {"type": "string", "maxLength": 2000}, "maxItems": 2000}
    assert grammar_from_schema(large) == grammar_from_schema(small)
