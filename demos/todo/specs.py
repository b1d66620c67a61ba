"""The schema that the model fills for a new list, and its examples.

The property that holds an item's text is named after the topic: `{"to do for garden": "Cut the hedge"}`. A small model
loses its subject after three items, and this repeats it before each one. A list with fields that tasks do not have (an
author, a year) is a list of things, and its property is the topic alone: `{"books to read": …}`.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from unwritten import Canvas, Example, read_examples

from . import fields
from .wishes import Key, Wish

HERE = Path(__file__).parent / "examples"
ITEMS, SHOWN = 7, 5
"""How many items are requested, and how many a new list has. Duplicates and invalid items are dropped."""


class New(BaseModel):
    """The choices of a new field."""

    choices: list[Annotated[str, Field(min_length=2, max_length=16)]] = Field(min_length=3, max_length=3)


def canvas(wish: Wish, *, instruct: bool = False) -> Canvas:
    """Return the canvas of a new list. A base model gets only the topic: the rest of the request confuses it."""
    return Canvas(
        prompt_for(wish.topic, [c.id for c in wish.columns] if wish.collects else [])
        + (f" It was asked for like this: {wish.words}" if instruct else ""),
        schema=list_schema(key_of(wish), wish.columns_key, 40 if wish.collects else 56),
        examples=things(wish.language, kinds_of(wish)) if wish.collects else jobs(wish.language, wish.columns_key),
        canvases=4,
        tokens=120 + ITEMS * (22 + 12 * len(wish.columns)),
    )


def prompt_for(topic: str, named: Sequence[str]) -> str:
    """Return the prompt of a list. The fields of things tell the model what they are."""
    if not named:
        return f"A to-do list: {topic}."
    return f"A list of {topic}, each with {', '.join(field.replace('_', ' ') for field in named)}."


def key_of(wish: Wish) -> str:
    """Return the name of the property that holds an item's text. No field has this name."""
    if not wish.collects:
        return f"to do for {wish.topic}"
    return f"one {wish.topic}" if any(column.id == wish.topic for column in wish.columns) else wish.topic


@lru_cache(maxsize=64)
def list_schema(topic: str, columns: tuple[Key, ...], longest: int) -> type[BaseModel]:
    """Return the schema: a name, items with texts of at most ``longest`` characters, and a purpose."""
    words = Annotated[str, Field(min_length=3, max_length=longest)]
    columns_of: dict[str, Any] = {"what": (words, Field(alias=topic))}
    for column in columns:
        columns_of[column[0]] = (_type(column), ...)
    item = create_model("Item", **columns_of)
    return create_model(
        "Spec",
        name=(Annotated[str, Field(min_length=2, max_length=32)], ...),
        items=(Annotated[list[item], Field(min_length=ITEMS, max_length=ITEMS)], ...),  # type: ignore[valid-type]
        purpose=(Annotated[str, Field(min_length=8, max_length=72)], ...),
    )


def _type(column: Key) -> Any:
    _, kind, choices, least, most = column
    if kind == "date":
        return Annotated[int, Field(ge=-2, le=30)]
    if kind == "number":
        return Annotated[int, Field(ge=least, le=most)]
    if kind == "check":
        return bool
    if kind == "choice":
        return Literal[choices]
    return Annotated[str, Field(min_length=2, max_length=24)]


def kinds_of(wish: Wish) -> tuple[str, ...]:
    """Return the kinds of the fields, in their order."""
    return tuple(column.kind for column in wish.columns)


@lru_cache(maxsize=64)
def jobs(language: str, columns: tuple[Key, ...]) -> tuple[Example, ...]:
    """Return the examples of to-do lists in a language, with exactly these columns."""
    found = []
    for example in read_examples(HERE / f"{language}.txt"):
        spec = json.loads(example.answer)
        topic = spec["topic"]
        items = [
            {f"to do for {topic}": item["what"], **{id: item[id] for id, *_ in columns if id in item}}
            for item in spec["items"]
        ]
        found.append(_example(prompt_for(topic, []), spec, items))
    return tuple(found)


@lru_cache(maxsize=64)
def things(language: str, kinds: tuple[str, ...]) -> tuple[Example, ...]:
    """Return the examples of lists of things in a language, with other fields of the same kinds."""
    found = []
    for example in read_examples(HERE / f"things_{language}.txt"):
        spec = json.loads(example.answer)
        left = {kind: iter(names) for kind, names in spec["fields"].items()}
        ids = [id for kind in kinds if (id := next(left[kind], None))]
        items = [{example.ask: item["what"], **{id: item[id] for id in ids}} for item in spec["items"]]
        found.append(_example(prompt_for(example.ask, ids), spec, items))
    return tuple(found)


def _example(ask: str, spec: dict[str, Any], items: list[dict[str, Any]]) -> Example:
    """Return an example. The purpose is last: after a sentence, a small model tells a story instead of items."""
    answer = {"name": spec["name"], "items": items, "purpose": spec["purpose"]}
    return Example(ask, json.dumps(answer, ensure_ascii=False, separators=(",", ":")))


def items_of(spec: Any, wish: Wish) -> list[tuple[str, dict[str, Any]]]:
    """Return the items of a list, complete or not: text, and values by column."""
    found = []
    for item in spec.items:
        whole = isinstance(item, BaseModel)
        words = getattr(item, "what" if whole else key_of(wish), None)
        found.append((words or "", {column.id: getattr(item, column.id, None) for column in wish.columns}))
    return found


def name(text: str, wish: Wish) -> str:
    """Return the name of a list. If the model wrote no words, that is the topic."""
    text = fields.tidy(text)
    letters = len(re.findall(r"[^\W\d_]", text))
    return sentence(text, wish.topic) if letters >= max(2, len(text) / 2) else wish.topic


def sentence(text: str, otherwise: str) -> str:
    """Return a text of the model without an incomplete word or clause at its end."""
    if "\ufffd" in text or not re.search(r"\w\w", text):
        return otherwise
    whole = re.match(r".{12,}[.!?](?=\s|$)", text) or (re.match(r".{24,}(?=,)", text) if len(text) > 66 else None)
    return (whole[0] if whole else text).strip(" ,;:{}[]")


def cleaned(items: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the first items, without duplicates and texts that are not words."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for words, values in items:
        words = fields.tidy(words)
        if re.search(r"[^\W\d_]{2}|[^\x00-\u2fff]", words):
            found.setdefault(words.casefold().rstrip("."), (words[:1].upper() + words[1:], values))
    return list(found.values())[:SHOWN]


def column(label: str, title: str) -> Canvas:
    """Return the canvas of the choices for a new field."""
    return Canvas(
        f"Three choices for {label}, in the list {title}.",
        schema=New,
        examples=[
            Example("Three choices for Room, in the list Moving house.", '{"choices":["Kitchen","Attic","Cellar"]}'),
            Example(
                "Three choices for Mood, in the list Grandmother's birthday.",
                '{"choices":["Cheerful","Solemn","Wild"]}',
            ),
            Example("Three choices for Part, in the list The boat.", '{"choices":["Hull","Sails","Cabin"]}'),
            Example("Three choices for Size, in the list School fair.", '{"choices":["Small","Medium","Huge"]}'),
        ],
        tokens=60,
    )
