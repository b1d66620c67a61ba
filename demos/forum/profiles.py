"""Profiles: what is written about a person, and how the prompts of their posts quote it."""

from pathlib import Path

from pydantic import BaseModel, Field

from unwritten import Canvas
from unwritten.formats.base import Format
from unwritten.routing.prompts import read_examples

from .conversation import Post
from .people import Person, article

EXAMPLES = {path.stem: read_examples(path) for path in (Path(__file__).parent / "examples").glob("*.txt")}


class Card(BaseModel):
    """A person at one glance. Every value begins as those of the examples do: it "lives in", it "never"."""

    home: str = Field(max_length=60)
    always: str = Field(max_length=60)
    never: str = Field(max_length=60)
    proud: str = Field(max_length=60)
    saying: str = Field(max_length=60)


def card_of(who: Person) -> Canvas:
    """A fact of the world: later pages are told of it."""
    return Canvas(f"The profile of {who.described}.", schema=Card, fact=True, examples=EXAMPLES["card"], tokens=120)


def introduction(who: Person) -> Canvas:
    """A few sentences in their own words."""
    return Canvas(
        f"{who.described}, introduces herself or himself on the board.",
        "text",
        opening=f"I have been {article(who.trade)}",
        examples=EXAMPLES["about"],
        tokens=90,
    )


def canvas_of(post: Post, card: Card | None, format: str | Format = "text") -> Canvas:
    """The canvas of a post. If its author has a written profile, the prompt quotes it."""
    habit = f", who {card.always.rstrip('.')}" if card and card.always.startswith("always ") else ""
    prompt = post.prompt.replace(post.author.described, post.author.described + habit)
    return Canvas(prompt, format, opening=post.opening, examples=EXAMPLES[post.sheet], tokens=post.tokens)
