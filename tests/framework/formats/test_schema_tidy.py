"""Faults of small models in values: what is corrected, and what is kept."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from unwritten.formats.assumed_schema import assume
from unwritten.formats.schema_tidy import tidy


class Letter(BaseModel):
    subject: str
    greeting: str = ""
    verses: list[str] = []
    code: str = "A"
    plate: Annotated[str, Field(pattern="^[A-Z]+,?$")] = "A"
    sender: Annotated[str, Field(min_length=4)] = "Anna"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"subject": "A Christmas gift,"}, {"subject": "A Christmas gift"}),
        ({"subject": "Tea, milk, , "}, {"subject": "Tea, milk"}),
        ({"subject": "Tea, milk"}, {"subject": "Tea, milk"}),
        ({"subject": ","}, {"subject": ","}),
        ({"subject": "Roses are red,\nviolets are blue,"}, {"subject": "Roses are red,\nviolets are blue,"}),
        ({"greeting": "Dear Ann,"}, {"greeting": "Dear Ann,"}),
        ({"verses": ["Roses are red,"]}, {"verses": ["Roses are red,"]}),
        ({"code": "f(a,"}, {"code": "f(a,"}),
        ({"plate": "ABC,"}, {"plate": "ABC,"}),
        ({"sender": "Ann,"}, {"sender": "Ann,"}),
    ],
)
def test_a_comma_at_the_end_of_a_text_is_removed(given: dict[str, object], expected: dict[str, object]) -> None:
    tidied = tidy(given, assume(Letter, 4096).json_schema)
    assert tidied.value == expected and bool(tidied.notes) == (given != expected)
