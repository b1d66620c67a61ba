"""Parses requests for lists: the topic, the fields and the language. The rest is left to the model.

A small model ignores half of its instructions, so code decides which fields a list has: "who" asks for a person in any
sentence, and "with author and rating" names two fields (named.py). The lexicon covers English, German and Spanish;
requests in other languages get no fields.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from . import lexicon
from .fields import Column
from .lexicon import WORDS
from .named import named

MAX_LENGTH = 240
"""Characters of a request that are read."""

LANGUAGES = {
    "de": set("und der die das für eine einen mit wer unser unsere mein meine ich".split()),
    "es": set("una para con quién las los del mi nuestra nuestro quiero qué el lista y".split()),
}

MAX_FIELDS = 5
"""Fields of a new list. The model writes each one for every item."""

_BEGIN = rf"^(({'|'.join(WORDS['begin'])}) )*(({'|'.join(WORDS['list'])}) )*"
_STOP = set(WORDS["stop"][0].split())

Key: TypeAlias = tuple[str, str, tuple[str, ...], int, int]
"""A column as a hashable value: id, kind, choices, and the bounds of a number."""


@dataclass(frozen=True)
class Wish:
    """A parsed request.

    Attributes:
        words: The sentence, on one line, truncated to ``MAX_LENGTH``.
        topic: What the list is about, in a few words of the sentence.
        columns: The fields that it asks for.
        language: en, de or es.
        cut: True if the sentence was truncated.
    """

    words: str
    topic: str
    columns: tuple[Column, ...]
    language: str
    cut: bool = False

    @property
    def columns_key(self) -> tuple[Key, ...]:
        """The columns as a hashable value."""
        return tuple((c.id, c.kind, tuple(c.choices), c.least, c.most) for c in self.columns)

    @property
    def collects(self) -> bool:
        """True for a list of things, not of tasks: books have an author, tasks do not."""
        return any(column.id not in lexicon.IDS for column in self.columns)


def read(text: str) -> Wish:
    """Parse a request."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f\"“”<>\[\]{}|]+", " ", text).split())
    words = line if len(line) <= MAX_LENGTH else line[:MAX_LENGTH].rsplit(" ", 1)[0]
    found = set(re.findall(r"\w+", words.casefold()))
    language = max(LANGUAGES, key=lambda code: len(LANGUAGES[code] & found))
    if len(LANGUAGES[language] & found) < 2:
        language = "en"
    fields, begin = named(words, language)
    return Wish(words, _topic(words[:begin]), _columns(words, fields, language), language, len(words) < len(line))


def _columns(words: str, fields: list[tuple[int, Column]], language: str) -> tuple[Column, ...]:
    """Return the fields that are listed, and those that other words of the sentence ask for."""
    found, taken = list(fields), {column.id for _, column in fields}
    for id, kind, labels, pattern in lexicon.FIELDS:
        match = re.search(rf"(?<![\w-])({pattern})(?![\w-])", words.casefold())
        if match and id not in taken:
            found.append((match.start(), lexicon.standard(id, kind, labels, language)))
    return tuple(column for _, column in sorted(found, key=lambda pair: pair[0])[:MAX_FIELDS])


def _topic(words: str) -> str:
    """Return the topic: the first clause, without the words that ask for a list and its fields."""
    text = re.sub(_BEGIN, "", f"{words} ", flags=re.IGNORECASE)
    clause = re.split(rf"[,.;:!?()]|\b(?:{WORDS['end'][0]})\b", text, flags=re.IGNORECASE)[0]
    for source in (clause, text, words):
        found = re.findall(r"[\w'’-]+", source)
        while found and found[0].casefold() in _STOP:
            found.pop(0)
        found = found[:5]
        while found and found[-1].casefold() in _STOP:
            found.pop()
        if found:
            return " ".join(found)[:40].strip()
    return "things to do"
