"""The lexicon: which words name which fields. The words are in lexicon.txt and named.txt."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .fields import Column, Kind

HERE = Path(__file__).parent
LANGUAGES = ("en", "de", "es")


def _lines(name: str) -> list[list[str]]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [[part.strip() for part in line.split(";")] for line in lines if line and not line.startswith("#")]


_LINES = _lines("lexicon.txt")
WORDS = {name: parts for name, *parts in _LINES}
FIELDS: list[tuple[str, Kind, list[str], str]] = [
    (id, cast(Kind, kind), labels.split(", "), words) for id, kind, labels, words in _LINES[:8]
]
"""Fields that are recognized anywhere in a sentence: id, kind, labels by language, and a pattern."""

IDS = {id for id, *_ in FIELDS}
_PRIORITY = {"en": "High Medium Low", "de": "Hoch Mittel Niedrig", "es": "Alta Media Baja"}


@dataclass(frozen=True)
class Meaning:
    """What a word means as the name of a field: a kind, and its bounds."""

    kind: Kind
    bounds: str

    def column(self, label: str, language: str) -> Column:
        """Return a column with this meaning."""
        if self.kind == "choice":
            choices = self.bounds.split(" / ")[LANGUAGES.index(language)].split(", ")
            return Column(id="", label=label, kind="choice", choices=choices)
        if self.kind == "number":
            least, most = map(int, self.bounds.split("-"))
            return Column(id="", label=label, kind="number", least=least, most=most)
        return Column(id="days" if self.kind == "date" else "", label=label, kind=self.kind)


_NAMED = [(kind, bounds, words.split(", ")) for kind, bounds, words in _lines("named.txt")]
MEANINGS = {
    word: Meaning(cast(Kind, kind), bounds) for kind, bounds, words in _NAMED if kind != "company" for word in words
}
COMPANY = {word for kind, _, words in _NAMED if kind == "company" for word in words}
"""Words after "with" that are not fields: "with friends", "with care"."""

_ENDINGS = ("preis", "datum", "jahr", "zahl", "dauer", "gewicht")
"""Endings of German compounds that determine the kind of a field."""


def known(label: str, language: str = "en") -> Column | None:
    """Return the column that a few words name, if they are in lexicon.txt."""
    for id, kind, labels, pattern in FIELDS:
        if re.fullmatch(rf"(the |a |an |when it is )?({pattern})", label.strip().casefold()):
            return standard(id, kind, labels, language)
    return None


def standard(id: str, kind: Kind, labels: list[str], language: str) -> Column:
    """Return a column from an entry of lexicon.txt."""
    label = labels[LANGUAGES.index(language)]
    return Column(id=id, label=label, kind=kind, choices=_PRIORITY[language].split() if kind == "choice" else [])


def meaning(label: str) -> Meaning | None:
    """Return what the name of a field means: the whole name, or its noun.

    The noun is the last word of "publication year" and the first of "date of birth" and "fecha de compra"; German
    writes "Erscheinungsjahr" as one. A number is bounded by what it counts: "number of pages".
    """
    words = label.casefold().split()
    at = next((n for n, word in enumerate(words) if n and word in {"of", "de", "del", "der", "des"}), len(words))
    noun, counted = (words[at - 1] if words else ""), MEANINGS.get(" ".join(words[at + 1 :]))
    if noun in {"number", "amount", "anzahl", "número"} and counted and counted.kind == "number":
        return counted
    for name in (" ".join(words), noun, noun.removesuffix("s")):
        if name in MEANINGS:
            return MEANINGS[name]
    ending = next((ending for ending in _ENDINGS if noun.endswith(ending)), None)
    return MEANINGS[ending] if ending else None
