"""Form fields: from what a visitor has submitted to arguments, or to error messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, model_validator

from unwritten.core.errors import BadApp, BadForm
from unwritten.routing.form_fields import FieldTexts, FormParser, FormState


class Colour(Enum):
    RED = "red"


class Draft(BaseModel):
    text: Annotated[str, Field(min_length=1, max_length=10)]
    stars: Annotated[int, Field(ge=1, le=5)] = 3
    note: str | None = None
    colour: Colour = Colour.RED
    side: Literal["left", "right"] = "left"
    public: bool = True
    tags: list[str] = []


@dataclass
class Plain:
    name: str
    age: int = 0


class Pair(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def in_order(self) -> Pair:
        if self.low > self.high:
            raise ValueError("the lower one comes first")
        return self


def read(model: Any, *pairs: tuple[str, str]) -> Any:
    found = FormParser("act", {"form": (model, ...)}).parse(pairs)
    return found if isinstance(found, FormState) else found["form"]


def errors(model: Any, *pairs: tuple[str, str]) -> dict[str, str]:
    form = read(model, *pairs)
    assert isinstance(form, FormState)
    return dict([*form.errors])


def test_fields_are_converted_to_their_types() -> None:
    draft = read(Draft, ("text", "Hi"), ("stars", "5"), ("note", "x"), ("public", "on"), ("tags", "a"), ("tags", "b"))
    assert draft == Draft(text="Hi", stars=5, note="x", public=True, tags=["a", "b"])
    assert read(Plain, ("name", "Ada"), ("age", "36")) == Plain("Ada", 36)


def test_an_empty_field_counts_as_missing_unless_it_is_text() -> None:
    draft = read(Draft, ("text", "Hi"), ("stars", ""), ("note", ""), ("colour", ""))
    assert draft == Draft(text="Hi", public=False, note=None)


def test_single_parameters_with_and_without_a_default() -> None:
    parser = FormParser("act", {"a": (int, ...), "b": (str, "none")})
    assert parser.parse([("a", "1")]) == {"a": 1, "b": "none"}
    form = parser.parse([("b", "x")])
    assert isinstance(form, FormState) and (form.errors["a"], form.value["b"]) == ("This is needed.", "x")
    assert FormParser("act", {}).parse([]) == {}


@pytest.mark.parametrize(
    ("pairs", "field", "message"),
    [
        ([], "text", "This is needed."),
        ([("text", "")], "text", "This is needed."),
        ([("text", "x" * 11)], "text", "At most 10 characters, please."),
        ([("text", "x"), ("stars", "many")], "stars", "A whole number, please."),
        ([("text", "x"), ("stars", "2.5")], "stars", "A whole number, please."),
        ([("text", "x"), ("stars", "6")], "stars", "At most 5, please."),
        ([("text", "x"), ("stars", "0")], "stars", "At least 1, please."),
        ([("text", "x"), ("side", "up")], "side", "One of these, please: 'left', 'right'."),
        ([("text", "x"), ("colour", "blue")], "colour", "One of these, please: 'red'."),
    ],
)
def test_an_invalid_field_has_a_message(pairs: list[tuple[str, str]], field: str, message: str) -> None:
    assert errors(Draft, *pairs) == {field: message}


def test_an_error_of_the_whole_form_is_its_message() -> None:
    form = read(Pair, ("low", "3"), ("high", "2"))
    assert form.message == "The lower one comes first." and not form.errors
    assert form.value.low == "3" and form.action == "act"


def test_an_unknown_field_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(BadForm, match=r"The form has a field 'texd', which the action 'act' does not take.*'text'"):
        read(Draft, ("texd", "x"))


def test_a_parameter_that_no_form_can_hold_is_an_error() -> None:
    with pytest.raises(BadApp, match="The action 'act' takes a field that no form can hold"):
        FormParser("act", {"a": (object(), ...), "b": (int, 1)})


def test_unknown_names_give_an_empty_text() -> None:
    named = FieldTexts({"items": "x"})
    assert (named.items, named["items"], named.keys, named["other"]) == ("x", "x", "", "")
    assert FieldTexts() != named and not FieldTexts() and named
    with pytest.raises(AttributeError):
        _ = named.__wrapped__
