"""The schemas of facts and meanings."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Category = Literal[
    "People", "Animals", "Plants", "Food and drink", "Houses and buildings", "Places", "Journeys", "Water and weather",
    "Earth and stone", "Stars and sky", "Tools and machines", "Things made by hand", "Things that are lost", "Music",
    "Books and words", "Science and numbers", "Work and trade", "Customs and feasts", "Feelings", "Time",
    "War and law", "The body", "Play", "Ideas",
]  # fmt: skip


class Facts(BaseModel):
    """Facts that fit any subject, from a kitchen tool to a forgotten queen.

    The categories come right after the kind: at the end, after weaker facts, the model chose “People” for half of all
    articles.
    """

    kind: str = Field(max_length=40)
    categories: list[Category] = Field(min_length=2, max_length=2)
    found_in: str = Field(max_length=60)
    first_known: str = Field(max_length=40)
    known_for: list[Annotated[str, Field(max_length=60)]] = Field(min_length=2, max_length=2)
    mistaken_for: str = Field(max_length=60)


class Wonder(BaseModel):
    """What a child would like to know."""

    feels_like: str = Field(max_length=50)
    questions: list[Annotated[str, Field(max_length=60)]] = Field(min_length=3, max_length=3)


class Work(BaseModel):
    """A scholarly work."""

    author: str = Field(max_length=24)
    title: str = Field(max_length=50)
    year: int = Field(ge=1700, le=2020)


class Reading(BaseModel):
    """What specialists look for first."""

    field: str = Field(max_length=40)
    terms: list[Annotated[str, Field(max_length=30)]] = Field(min_length=2, max_length=2)
    literature: list[Work] = Field(min_length=2, max_length=2)


class Brief(BaseModel):
    """Fewer facts, for languages that the small model knows less well. Two of them are the article's links."""

    kind: str = Field(max_length=40)
    found_in: str = Field(max_length=50)
    first_known: str = Field(max_length=40)
    akin_to: str = Field(max_length=26)
    opposite: str = Field(max_length=26)


class Place(BaseModel):
    """A place with the name."""

    kind: Literal["town", "river", "island", "mountain", "planet", "valley"]
    line: str = Field(max_length=90)


class Made(BaseModel):
    """A work with the name."""

    kind: Literal["song", "novel", "film", "painting", "play", "dance"]
    line: str = Field(max_length=90)


class Living(BaseModel):
    """A living thing with the name."""

    kind: Literal["bird", "horse", "fish", "moth", "crab", "tree"]
    line: str = Field(max_length=90)


class Thing(BaseModel):
    """A thing with the name."""

    kind: Literal["ship", "colour", "metal", "dish", "tool", "game"]
    line: str = Field(max_length=90)


class Senses(BaseModel):
    """Other meanings of a word. A few fixed kinds keep them different from each other."""

    place: Place
    work: Made
    creature: Living
    thing: Thing
