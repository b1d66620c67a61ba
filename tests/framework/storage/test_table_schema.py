"""Columns from the fields of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from unwritten.core.errors import BadTable
from unwritten.storage.table_schema import model_columns


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Rank(IntEnum):
    LOW = 1


class Part(BaseModel):
    word: str


class Model(BaseModel):
    id: int | None = None
    number: int
    size: Annotated[float, Field(gt=0)] = 1.5
    text: str | None = None
    yes: bool = False
    at: datetime = Field(default_factory=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    day: date | None = None
    mood: Mood = Mood.CALM
    rank: Rank = Rank.LOW
    side: Literal["left", "right"] = "left"
    mixed: int | str = 3
    words: list[str] = []
    part: Part | None = None
    parts: dict[str, Part] = {}


def test_every_type_has_its_kind() -> None:
    columns = model_columns(Model)
    assert {name: column.kind for name, column in columns.items()} == {
        "id": "int",
        "number": "int",
        "size": "float",
        "text": "text",
        "yes": "bool",
        "at": "time",
        "day": "time",
        "mood": "text",
        "rank": "int",
        "side": "text",
        "mixed": "json",
        "words": "json",
        "part": "json",
        "parts": "json",
    }
    assert {name for name, column in columns.items() if column.optional} == {"id", "text", "day", "part"}
    assert {name for name, column in columns.items() if not column.can_be_added} == {"number"}


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("yes", True, True),
        ("at", datetime(2026, 3, 4, 5, 6, tzinfo=UTC), "2026-03-04T05:06:00Z"),
        ("day", date(2026, 3, 4), "2026-03-04"),
        ("mood", Mood.WILD, "wild"),
        ("words", ["ä", "b"], '["ä", "b"]'),
        ("part", Part(word="x"), '{"word": "x"}'),
        ("text", None, None),
    ],
)
def test_values_make_the_round_trip(name: str, value: object, stored: object) -> None:
    column = model_columns(Model)[name]
    assert column.to_sql(value) == stored
    found = column.from_sql(stored)
    assert (found if found is None else column.adapter.validate_python(found)) == value


def test_existing_rows_get_defaults() -> None:
    columns = model_columns(Model)
    assert columns["at"].default_sql() == "2026-01-02T00:00:00Z"
    assert columns["words"].default_sql() == "[]"
    assert columns["text"].default_sql() is None


def test_a_dataclass_is_a_model_too() -> None:
    @dataclass
    class Note:
        text: str
        tags: list[str] = field(default_factory=list)
        likes: int = 0
        id: int | None = None

    Note.__annotations__.update(text=str, tags=list[str], likes=int, id=int | None)
    columns = model_columns(Note)
    assert [column.kind for column in columns.values()] == ["text", "json", "int", "int"]
    assert columns["tags"].default_sql() == "[]" and columns["likes"].default_sql() == 0
    assert not columns["text"].can_be_added


class Aliased(BaseModel):
    id: int | None = None
    text: str = Field(alias="theText")


class Odd(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    id: int | None = None
    thing: Any = None


def test_a_model_that_cannot_be_stored_is_an_error() -> None:
    with pytest.raises(BadTable, match=r"The field 'text' of Aliased has an alias. A field of a table has one name"):
        model_columns(Aliased)
    with pytest.raises(BadTable, match=r"is a pydantic model or a dataclass, not <class 'int'>"):
        model_columns(int)
    assert model_columns(Odd)["thing"].kind == "json"
