"""Specs: the shape that the model fills for a new list, and the examples that show it how.

The property that holds an item's words is named after the topic of the wish: `{"to do for garden": "Cut the
hedge"}`. A model of this size loses its subject after three items, and this says it again before each one. A list whose
fields no job has (an author, a year) is one of things, and its property is the topic alone: `{"books to read": …}`.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from unwritten import Canvas, Example
from unwritten.routing.prompts import read_examples

from . import fields
from .wishes import Key, Wish

HERE = Path(__file__).parent / "examples"
ITEMS, SHOWN = 7, 5
"""How many items are asked for, and how many a new list has: what comes twice or is no item is left out."""


class New(BaseModel):
    """A column that somebody asked for in words of their own."""

    choices: list[Annotated[str, Field(min_length=2, max_length=16)]] = Field(min_length=3, max_length=3)


def canvas(wish: Wish, *, instruct: bool = False) -> Canvas:
    """The canvas of a new list. A model that only continues text is told the topic; the rest of a wish confuses it."""
    return Canvas(
        ask_of(wish.topic, [c.id for c in wish.columns] if wish.collects else [])
        + (f" It was asked for like this: {wish.words}" if instruct else ""),
        schema=shape(key_of(wish), wish.columns_key, 40 if wish.collects else 56),
        examples=things(wish.language, kinds_of(wish)) if wish.collects else jobs(wish.language, wish.columns_key),
        canvases=4,
        tokens=120 + ITEMS * (22 + 12 * len(wish.columns)),
    )


def ask_of(topic: str, named: Sequence[str]) -> str:
    """What a list is asked for with. Their fields tell the model what things they are."""
    if not named:
        return f"A to-do list: {topic}."
    return f"A list of {topic}, each with {', '.join(field.replace('_', ' ') for field in named)}."


def key_of(wish: Wish) -> str:
    """The name of the property that holds an item's words, which no field has."""
    if not wish.collects:
        return f"to do for {wish.topic}"
    return f"one {wish.topic}" if any(column.id == wish.topic for column in wish.columns) else wish.topic


@lru_cache(maxsize=64)
def shape(topic: str, columns: tuple[Key, ...], longest: int) -> type[BaseModel]:
    """What the model fills: a name, items whose words have so many characters at most, and a purpose."""
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
    """The kinds of a wish's fields, in their order."""
    return tuple(column.kind for column in wish.columns)


@lru_cache(maxsize=64)
def jobs(language: str, columns: tuple[Key, ...]) -> tuple[Example, ...]:
    """The examples of a language for things to do, with the columns of the wish and no others."""
    found = []
    for example in read_examples(HERE / f"{language}.txt"):
        spec = json.loads(example.answer)
        topic = spec["topic"]
        items = [
            {f"to do for {topic}": item["what"], **{id: item[id] for id, *_ in columns if id in item}}
            for item in spec["items"]
        ]
        found.append(_example(ask_of(topic, []), spec, items))
    return tuple(found)


@lru_cache(maxsize=64)
def things(language: str, kinds: tuple[str, ...]) -> tuple[Example, ...]:
    """The examples of a language for lists of things, with fields of their own, of the kinds that the wish has."""
    found = []
    for example in read_examples(HERE / f"things_{language}.txt"):
        spec = json.loads(example.answer)
        left = {kind: iter(names) for kind, names in spec["fields"].items()}
        ids = [id for kind in kinds if (id := next(left[kind], None))]
        items = [{example.ask: item["what"], **{id: item[id] for id in ids}} for item in spec["items"]]
        found.append(_example(ask_of(example.ask, ids), spec, items))
    return tuple(found)


def _example(ask: str, spec: dict[str, Any], items: list[dict[str, Any]]) -> Example:
    """A list as it is shown; the purpose comes last: a sentence before the items sets a small model telling a story."""
    answer = {"name": spec["name"], "items": items, "purpose": spec["purpose"]}
    return Example(ask, json.dumps(answer, ensure_ascii=False, separators=(",", ":")))


def items_of(spec: Any, wish: Wish) -> list[tuple[str, dict[str, Any]]]:
    """The items of a spec, growing or whole: words, and values by column, as far as they have arrived."""
    found = []
    for item in spec.items:
        whole = isinstance(item, BaseModel)
        words = getattr(item, "what" if whole else key_of(wish), None)
        found.append((words or "", {column.id: getattr(item, column.id, None) for column in wish.columns}))
    return found


def name(text: str, wish: Wish) -> str:
    """The name of a list, which is words; what the list is about, where the model wrote none."""
    text = fields.tidy(text)
    letters = len(re.findall(r"[^\W\d_]", text))
    return sentence(text, wish.topic) if letters >= max(2, len(text) / 2) else wish.topic


def sentence(text: str, otherwise: str) -> str:
    """A text of the model without an end that was cut off in the middle of a word or a clause."""
    if "\ufffd" in text or not re.search(r"\w\w", text):
        return otherwise
    whole = re.match(r".{12,}[.!?](?=\s|$)", text) or (re.match(r".{24,}(?=,)", text) if len(text) > 66 else None)
    return (whole[0] if whole else text).strip(" ,;:{}[]")


def cleaned(items: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """The first items of those that are some: not nothing but marks or digits, nor the same words again."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for words, values in items:
        words = fields.tidy(words)
        if re.search(r"[^\W\d_]{2}|[^\x00-\u2fff]", words):
            found.setdefault(words.casefold().rstrip("."), (words[:1].upper() + words[1:], values))
    return list(found.values())[:SHOWN]


def column(label: str, title: str) -> Canvas:
    """The canvas of a column whose choices nobody has named."""
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
