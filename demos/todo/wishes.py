"""Wishes: what a sentence plainly asks for. What it does not say is left to the model.

A small model forgets half of what it is told, so the words of the wish itself decide which fields a list has: "who"
asks for a person in any sentence. lexicon.txt knows English, German and Spanish; other languages get no fields.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .fields import Column, Kind

LONGEST = 240
"""Characters of a wish that are read. The rest of an essay is not."""

LANGUAGES = {
    "de": set("und der die das für eine einen mit wer unser unsere mein meine ich".split()),
    "es": set("una para con quién las los del mi nuestra nuestro quiero qué el lista".split()),
}

_PRIORITY = {"en": "High Medium Low", "de": "Hoch Mittel Niedrig", "es": "Alta Media Baja"}

_LINES = [
    [part.strip() for part in line.split(";")]
    for line in (Path(__file__).parent / "lexicon.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
WORDS = {name: parts for name, *parts in _LINES}
_FIELDS = [(id, kind, labels.split(", "), words) for id, kind, labels, words in (x for x in _LINES if len(x) == 4)][:8]
_BEGIN = rf"^(({'|'.join(WORDS['begin'])}) )*(({'|'.join(WORDS['list'])}) )*"
_STOP = set(WORDS["stop"][0].split())


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
    def columns_key(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """The columns as a value that can be a key."""
        return tuple((column.id, column.kind, tuple(column.choices)) for column in self.columns)


def read(text: str) -> Wish:
    """Read a wish."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f\"“”<>\[\]{}|]+", " ", text).split())
    words = line if len(line) <= LONGEST else line[:LONGEST].rsplit(" ", 1)[0]
    found = set(re.findall(r"\w+", words.casefold()))
    language = max(LANGUAGES, key=lambda code: len(LANGUAGES[code] & found))
    if len(LANGUAGES[language] & found) < 2:
        language = "en"
    return Wish(words, _topic(words), _columns(words, language), language, len(words) < len(line))


def column(label: str, language: str = "en") -> Column | None:
    """The column that a few words ask for, if they are in the lexicon."""
    for id, kind, labels, pattern in _FIELDS:
        if re.fullmatch(rf"(the |a |an |when it is )?({pattern})", label.strip().casefold()):
            return _column(id, kind, labels, language)
    return None


def _columns(words: str, language: str) -> tuple[Column, ...]:
    found = []
    for id, kind, labels, pattern in _FIELDS:
        match = re.search(rf"(?<![\w-])({pattern})(?![\w-])", words.casefold())
        if match:
            found.append((match.start(), _column(id, kind, labels, language)))
    return tuple(column for _, column in sorted(found, key=lambda pair: pair[0])[:4])


def _column(id: str, kind: str, labels: list[str], language: str) -> Column:
    label = labels[("en", "de", "es").index(language)]
    return Column(
        id=id, label=label, kind=cast(Kind, kind), choices=_PRIORITY[language].split() if kind == "choice" else []
    )


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
