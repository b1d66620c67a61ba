"""Specs: the shape that the model fills for a new list, and the examples that show it how.

The property that holds an item's words is named after the topic of the wish: `{"to do for garden": "Cut the
hedge"}`. A model of this size loses its subject after three items, and this says it again before each one.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from unwritten import Canvas, Example
from unwritten.examples import read_examples

from .fields import Column
from .wishes import Wish

HERE = Path(__file__).parent / "examples"
ITEMS = 5


class New(BaseModel):
    """A column that somebody asked for in words of their own."""

    choices: list[Annotated[str, Field(min_length=2, max_length=16)]] = Field(min_length=3, max_length=3)


def canvas(wish: Wish, *, instruct: bool = False) -> Canvas:
    """The canvas of a new list. A model that only continues text is told the topic; the rest of a wish confuses it."""
    return Canvas(
        f"A to-do list: {wish.topic}." + (f" It was asked for like this: {wish.words}" if instruct else ""),
        shape=shape(key_of(wish.topic), wish.columns_key),
        examples=examples(wish.language, wish.columns_key),
        canvases=4,
        tokens=320,
    )


def key_of(topic: str) -> str:
    """The name of the property that holds an item's words."""
    return f"to do for {topic}"


@lru_cache(maxsize=64)
def shape(topic: str, columns: tuple[tuple[str, str, tuple[str, ...]], ...]) -> type[BaseModel]:
    """What the model fills: a name, a purpose, the name of a view, and items."""
    words = Annotated[str, Field(min_length=3, max_length=56)]
    fields: dict[str, Any] = {"what": (words, Field(alias=topic))}
    for id, kind, choices in columns:
        fields[id] = (_type(kind, choices), ...)
    item = create_model("Item", **fields)
    return create_model(
        "Spec",
        name=(Annotated[str, Field(min_length=2, max_length=32)], ...),
        items=(Annotated[list[item], Field(min_length=ITEMS, max_length=ITEMS)], ...),  # type: ignore[valid-type]
        purpose=(Annotated[str, Field(min_length=8, max_length=72)], ...),
    )


def _type(kind: str, choices: tuple[str, ...]) -> Any:
    if kind == "date":
        return Annotated[int, Field(ge=-2, le=30)]
    if kind == "number":
        return Annotated[int, Field(ge=1, le=500)]
    if kind == "check":
        return bool
    if kind == "choice":
        return Literal[choices]
    return Annotated[str, Field(min_length=2, max_length=20)]


@lru_cache(maxsize=64)
def examples(language: str, columns: tuple[tuple[str, str, tuple[str, ...]], ...]) -> tuple[Example, ...]:
    """The examples of a language, with the columns of the wish and no others."""
    found = []
    for example in read_examples(HERE / f"{language}.txt"):
        spec = json.loads(example.answer)
        topic, purpose = spec.pop("topic"), spec.pop("purpose")
        spec["items"] = [
            {key_of(topic): item["what"], **{id: item[id] for id, _, _ in columns if id in item}}
            for item in spec["items"]
        ]
        spec["purpose"] = purpose  # last: a sentence before the items sets a small model telling a story
        answer = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
        found.append(Example(f"A to-do list: {topic}.", answer))
    return tuple(found)


def items_of(spec: Any, topic: str, columns: Sequence[Column]) -> list[tuple[str, dict[str, Any]]]:
    """The items of a spec, growing or whole: words, and values by column, as far as they have arrived."""
    found = []
    for item in spec.items:
        whole = isinstance(item, BaseModel)
        words = getattr(item, "what" if whole else key_of(topic), None)
        found.append((words or "", {column.id: getattr(item, column.id, None) for column in columns}))
    return found


def sentence(text: str, otherwise: str) -> str:
    """A text of the model without an end that was cut off in the middle of a word or a clause."""
    if "\ufffd" in text or not re.search(r"\w\w", text):
        return otherwise
    whole = re.match(r".{12,}[.!?](?=\s|$)", text) or (re.match(r".{24,}(?=,)", text) if len(text) > 66 else None)
    return (whole[0] if whole else text).strip(" ,;:{}[]")


def cleaned(items: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Items without what is no item: nothing but marks, or the same words again."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for words, values in items:
        words = re.sub(r"^[^\w(“\"'¿¡]+|[\s,;:{}\[\]|]+$", "", words)
        if re.search(r"\w\w", words):
            found.setdefault(words.casefold().rstrip("."), (words[:1].upper() + words[1:], values))
    return list(found.values())


def column(label: str, title: str) -> Canvas:
    """The canvas of a column whose choices nobody has named."""
    return Canvas(
        f"Three choices for {label}, in the list {title}.",
        shape=New,
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
