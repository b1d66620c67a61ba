"""Wishes: what a sentence plainly asks for. What it does not say is left to the model.

A small model forgets half of what it is told, so the words of the wish itself decide which fields a list has: "who"
asks for a person in any sentence, and "with author and rating" names two (see named.py). The lexicon knows English,
German and Spanish; other languages get no fields.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from . import lexicon
from .fields import Column
from .lexicon import WORDS
from .named import named

LONGEST = 240
"""Characters of a wish that are read. The rest of an essay is not."""

LANGUAGES = {
    "de": set("und der die das für eine einen mit wer unser unsere mein meine ich".split()),
    "es": set("una para con quién las los del mi nuestra nuestro quiero qué el lista y".split()),
}

MOST = 5
"""Fields that a new list has at most: each is written for every item."""

_BEGIN = rf"^(({'|'.join(WORDS['begin'])}) )*(({'|'.join(WORDS['list'])}) )*"
_STOP = set(WORDS["stop"][0].split())


Key: TypeAlias = tuple[str, str, tuple[str, ...], int, int]
"""A column as a value that can be a key: id, kind, choices, and the bounds of a number."""


@dataclass(frozen=True)
class Wish:
    """A wish as far as it is understood.

    Attributes:
        words: the sentence, on one line, not too long.
        topic: what the list is about, in a few of its words.
        columns: the fields that it plainly asks for.
        language: en, de or es.
        cut: whether there was more than is read.
    """

    words: str
    topic: str
    columns: tuple[Column, ...]
    language: str
    cut: bool = False

    @property
    def columns_key(self) -> tuple[Key, ...]:
        """The columns as a value that can be a key."""
        return tuple((c.id, c.kind, tuple(c.choices), c.least, c.most) for c in self.columns)

    @property
    def collects(self) -> bool:
        """Whether the list is one of things and not of jobs: books have an author, and nothing to do has one."""
        return any(column.id not in lexicon.IDS for column in self.columns)


def read(text: str) -> Wish:
    """Read a wish."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f\"“”<>\[\]{}|]+", " ", text).split())
    words = line if len(line) <= LONGEST else line[:LONGEST].rsplit(" ", 1)[0]
    found = set(re.findall(r"\w+", words.casefold()))
    language = max(LANGUAGES, key=lambda code: len(LANGUAGES[code] & found))
    if len(LANGUAGES[language] & found) < 2:
        language = "en"
    fields, begin = named(words, language)
    return Wish(words, _topic(words[:begin]), _columns(words, fields, language), language, len(words) < len(line))


def _columns(words: str, fields: list[tuple[int, Column]], language: str) -> tuple[Column, ...]:
    """What is named in a list of fields, and what is asked for elsewhere in the sentence."""
    found, taken = list(fields), {column.id for _, column in fields}
    for id, kind, labels, pattern in lexicon.FIELDS:
        match = re.search(rf"(?<![\w-])({pattern})(?![\w-])", words.casefold())
        if match and id not in taken:
            found.append((match.start(), lexicon.standard(id, kind, labels, language)))
    return tuple(column for _, column in sorted(found, key=lambda pair: pair[0])[:MOST])


def _topic(words: str) -> str:
    """What the list is about: the first clause without the words that only ask for a list and its fields."""
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
