"""Shapes: what the boxes of the encyclopedia hold. The model is held to them."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Category = Literal[
    "People", "Animals", "Plants", "Food and drink", "Houses and buildings", "Places", "Journeys", "Water and weather",
    "Earth and stone", "Stars and sky", "Tools and machines", "Things made by hand", "Things that are lost", "Music",
    "Books and words", "Science and numbers", "Work and trade", "Customs and feasts", "Feelings", "Time",
    "War and law", "The body", "Play", "Ideas",
]  # fmt: skip


class Facts(BaseModel):
    """What fits any subject, from a kitchen tool to a forgotten queen.

    The categories follow the kind: at the end, after facts that have gone astray, half of all articles were “People”.
    """

    kind: str = Field(max_length=40)
    categories: list[Category] = Field(min_length=2, max_length=2)
    found_in: str = Field(max_length=60)
    first_known: str = Field(max_length=40)
    known_for: list[Annotated[str, Field(max_length=60)]] = Field(min_length=2, max_length=2)
    mistaken_for: str = Field(max_length=60)


class Wonder(BaseModel):
    """What a child would ask."""

    feels_like: str = Field(max_length=50)
    questions: list[Annotated[str, Field(max_length=60)]] = Field(min_length=3, max_length=3)


class Work(BaseModel):
    """A work of the literature, as specialists name it."""

    author: str = Field(max_length=24)
    title: str = Field(max_length=50)
    year: int = Field(ge=1700, le=2020)


class Reading(BaseModel):
    """What a specialist looks for first."""

    field: str = Field(max_length=40)
    terms: list[Annotated[str, Field(max_length=30)]] = Field(min_length=2, max_length=2)
    literature: list[Work] = Field(min_length=2, max_length=2)


class Brief(BaseModel):
    """Facts in a language that the small model knows less well: fewer, and the links of the article."""

    kind: str = Field(max_length=40)
    found_in: str = Field(max_length=50)
    first_known: str = Field(max_length=40)
    akin_to: str = Field(max_length=26)
    opposite: str = Field(max_length=26)


class Place(BaseModel):
    """A place of that name."""

    kind: Literal["town", "river", "island", "mountain", "planet", "valley"]
    line: str = Field(max_length=90)


class Made(BaseModel):
    """A work of that name."""

    kind: Literal["song", "novel", "film", "painting", "play", "dance"]
    line: str = Field(max_length=90)


class Living(BaseModel):
    """A creature of that name."""

    kind: Literal["bird", "horse", "fish", "moth", "crab", "tree"]
    line: str = Field(max_length=90)


class Thing(BaseModel):
    """A thing of that name."""

    kind: Literal["ship", "colour", "metal", "dish", "tool", "game"]
    line: str = Field(max_length=90)


class Senses(BaseModel):
    """What else a word can mean. What stands in the parentheses is one of a few words, so that no two are alike."""

    place: Place
    work: Made
    creature: Living
    thing: Thing
