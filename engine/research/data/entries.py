"""Entries: the common result of all readers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

EntryKind: TypeAlias = Literal["article", "definition"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The text of a source about one thing.

    Attributes:
        title: its title.
        text: paragraphs without markup, separated by empty lines.
        source: name of the source.
        kind: "article" if the text is prose that starts with the thing's name; else "definition".
        short: a short description; "" if unknown.
        links: words of the text that the source marks as references.
        facts: statements, one sentence each.
        person: whether it is about a person.
        record: structured data: property names with values.
    """

    title: str
    text: str
    source: str
    kind: EntryKind = "definition"
    short: str = ""
    links: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    person: bool = False
    record: tuple[tuple[str, str | tuple[str, ...]], ...] = ()


Dropped: TypeAlias = Callable[[str, str], None]
"""Called with a reason and the dropped text or name."""
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:[A-Z]|[a-z]|e\.g|i\.e|etc|ca?|cf|esp|vs|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|Gen|Col|Capt|Lt|No|vol|pp?|ed|Inc|Ltd"
    r"|Co|Corp|approx|lit|fl|dept|gov|Mt|Ft|Univ|incl|orig|resp|usu))\.$"
)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(\[]*[A-Z0-9])")


def sentences(text: str) -> list[str]:
    """Split a paragraph into sentences. Dots after known abbreviations and initials do not count."""
    found: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text[start : match.start()]):
            found.append(text[start : match.end()].strip())
            start = match.end()
    return [*found, rest] if (rest := text[start:].strip()) else found


def capital(text: str) -> str:
    """Capitalize the first letter."""
    return text[:1].upper() + text[1:]
