"""From packages and sampled pages to the files that a model is trained on."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from unwritten_engine.training.dataset import HELD_OUT, TrainingPage, is_held_out, read_pages, to_json_line, write_lines

from .articles import Writer
from .dictionaries import read_foldoc, read_gcide, read_jargon
from .entries import Dropped, Entry
from .filters import fault, needs_care, record_fault
from .packages import Package, find
from .page_prompts import read_prompts
from .prompt_forms import RECORD, forms_of
from .sources import SOURCES, Source
from .wikipedia import read_wikipedia
from .wordnet import read_wordnet

READERS: Final[Mapping[str, Callable[[Package, Dropped], Iterator[Entry]]]] = {
    "wikipedia": read_wikipedia,
    "wordnet": read_wordnet,
    "foldoc": read_foldoc,
    "gcide": read_gcide,
    "jargon": read_jargon,
}
"""What reads each source."""


@dataclass(slots=True)
class Tally:
    """What became of one source.

    Attributes:
        pages: for training.
        held_out: pages kept for measuring.
        words: of the texts for training.
        size: bytes of these texts, in UTF-8.
        kinds: pages for training, by kind.
        dropped: what was left out, by reason.
    """

    pages: int = 0
    held_out: int = 0
    words: int = 0
    size: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Made:
    """What was made.

    Attributes:
        packages: what was read.
        tallies: by the name of the source, the packages' first.
        seed: of all chance in it.
        forms: how many forms of prompts of apps are among the asks.
    """

    packages: Sequence[Package]
    tallies: Mapping[str, Tally]
    seed: int
    forms: int


def make(
    out: Path,
    sources: Sequence[Source],
    packages: Path,
    *,
    fetch: bool = True,
    forms: Sequence[Path] = (),
    sampled: Sequence[Path] = (),
    seed: int = 0,
    told: Callable[[str], None] = lambda words: None,
) -> Made:
    """Write ``pages.jsonl``, ``held_out.jsonl`` and ``titles.txt`` into a folder.

    The titles are those of articles, without people and without the ones held out: what pages can be sampled for.

    Args:
        out: the folder.
        sources: what to read.
        packages: where their packages lie, or are fetched to.
        fetch: whether to fetch what is not there.
        forms: files of prompts that an app sends.
        sampled: files of pages that a model has written.
        seed: of all chance.
        told: called with what is being done.

    Raises:
        EngineError: a package is missing or broken, or one of the files.
    """
    found = [find(source, packages, fetch=fetch) for source in sources]
    shapes = forms_of(wanted for path in forms for wanted in read_prompts(path))
    tallies = {source.name: Tally() for source in sources}
    entries: list[Entry] = []
    for package in found:
        name = package.source.name
        told(f"{name}: reading {package.path.name}")
        entries += READERS[name](package, _dropping(tallies[name]))
    writer = Writer(entries, shapes, seed)
    chosen = _Chosen(tallies)
    for name in tallies:
        told(f"{name}: writing pages")
        for entry in (entry for entry in entries if entry.source == name):
            for page in writer.pages(entry):
                chosen.take(page, record_fault(page.text) if page.kind == RECORD.kind else fault(page.text))
    for path in sampled:
        told(f"reading {path}")
        for page in read_pages(path):
            chosen.take(page, sampled_fault(page))
    out.mkdir(parents=True, exist_ok=True)
    random.Random(seed).shuffle(chosen.lines)  # noqa: S311 - a repeatable order, no secret
    write_lines(out / "pages.jsonl", chosen.lines)
    write_lines(out / "held_out.jsonl", chosen.held_out)
    write_lines(out / "titles.txt", [f"{title}\n" for title in _titles(entries, seed)])
    return Made(found, chosen.tallies, seed, len(shapes))


def sampled_fault(page: TrainingPage) -> str:
    """Why a page that a model has written must not be learned; "" if it may."""
    if page.text.startswith("{"):
        return record_fault(page.text, title=page.title, care=True)
    return fault(page.text, care=True)


def _titles(entries: Iterable[Entry], seed: int) -> list[str]:
    """What pages can be sampled for. Of people a model would tell what is not true."""
    titles = {entry.title: None for entry in entries if entry.kind == "article" and not entry.person}
    fit = [title for title in titles if not is_held_out(title) and not needs_care(title)]
    random.Random(seed).shuffle(fit)  # noqa: S311 - a repeatable order, no secret
    return fit


class _Chosen:
    """The pages so far, as lines, each once."""

    def __init__(self, tallies: dict[str, Tally]) -> None:
        self.tallies = tallies
        self.lines: list[str] = []
        self.held_out: list[str] = []
        self._seen: set[bytes] = set()

    def take(self, page: TrainingPage, fault: str) -> None:
        """Take a page, unless something is wrong with it."""
        tally = self.tallies.setdefault(page.source, Tally())
        line = to_json_line(page)
        said = hashlib.blake2b(line.encode(), digest_size=12).digest()
        if fault or said in self._seen:
            tally.dropped[fault or "the same again"] += 1
            return
        self._seen.add(said)
        if page.held_out:
            tally.held_out += 1
            self.held_out.append(line)
            return
        tally.pages += 1
        tally.words += len(page.text.split())
        tally.size += len(page.text.encode())
        tally.kinds[page.kind] += 1
        self.lines.append(line)


def _dropping(tally: Tally) -> Dropped:
    def dropped(reason: str, what: str) -> None:
        tally.dropped[reason] += 1

    return dropped


def as_document(made: Made) -> str:
    """The counts as one JSON document, for programs."""
    rows = {
        name: {"pages": tally.pages, "held_out": tally.held_out, "words": tally.words, "bytes": tally.size}
        for name, tally in made.tallies.items()
    }
    return json.dumps({"seed": made.seed, "sources": rows})


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
