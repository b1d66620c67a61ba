"""Entries: what the readers of all sources give, plain good English about one thing each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

EntryKind: TypeAlias = Literal["article", "definition"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source says of one thing.

    Attributes:
        title: its name, as the title of a page would have it.
        text: paragraphs without markup, with an empty line between them.
        source: the name of the source.
        kind: "article" if the text is prose that begins with the thing's name; else "definition".
        short: what it is, in half a sentence; "" if that is not known.
        links: words of the text that its source has marked as names of other entries.
        facts: statements about it, a sentence each.
        person: whether it is about somebody who lives or has lived.
        record: the same for programs: names of properties with what they are.
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
"""Told of what is left out: for which reason, and the text or the name."""
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:[A-Z]|[a-z]|e\.g|i\.e|etc|ca?|cf|esp|vs|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|Gen|Col|Capt|Lt|No|vol|pp?|ed|Inc|Ltd"
    r"|Co|Corp|approx|lit|fl|dept|gov|Mt|Ft|Univ|incl|orig|resp|usu))\.$"
)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(\[]*[A-Z0-9])")


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph. A dot after a known abbreviation or an initial ends none."""
    found: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text[start : match.start()]):
            found.append(text[start : match.end()].strip())
            start = match.end()
    return [*found, rest] if (rest := text[start:].strip()) else found


def capital(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]
