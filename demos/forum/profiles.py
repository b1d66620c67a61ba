"""Profiles: what the model writes about a person, and how the prompts of their posts use it."""

from pathlib import Path

from pydantic import BaseModel, Field

from unwritten import Canvas, Format, read_examples

from .conversation import Post
from .people import Person, article

EXAMPLES = {path.stem: read_examples(path) for path in (Path(__file__).parent / "examples").glob("*.txt")}


class Card(BaseModel):
    """A short profile. Every value begins as in the examples, such as "lives in" or "never"."""

    home: str = Field(max_length=60)
    always: str = Field(max_length=60)
    never: str = Field(max_length=60)
    proud: str = Field(max_length=60)
    saying: str = Field(max_length=60)


def card_of(who: Person) -> Canvas:
    """Return the canvas of a person's profile. It is a fact of the world, which later prompts mention."""
    return Canvas(f"The profile of {who.described}.", schema=Card, fact=True, examples=EXAMPLES["card"], tokens=120)


def introduction(who: Person) -> Canvas:
    """Return the canvas of a person's introduction in their own words."""
    return Canvas(
        f"{who.described}, introduces herself or himself on the board.",
        "text",
        opening=f"I have been {article(who.trade)}",
        examples=EXAMPLES["about"],
        tokens=90,
    )


def canvas_of(post: Post, card: Card | None, format: str | Format = "text") -> Canvas:
    """Return the canvas of a post. If its author has a profile, the prompt quotes it."""
    habit = f", who {card.always.rstrip('.')}" if card and card.always.startswith("always ") else ""
    prompt = post.prompt.replace(post.author.described, post.author.described + habit)
    return Canvas(prompt, format, opening=post.opening, examples=EXAMPLES[post.sheet], tokens=post.tokens)
