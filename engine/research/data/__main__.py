"""``python -m research.data``: build training files, and sample pages."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from unwritten_engine.errors import EngineError
from unwritten_engine.open import open_engine

from .making import build_dataset, data_card, table, to_json
from .page_prompts import read_prompts
from .sampling import SampleReport, dropped_file, sample_pages
from .sources import SOURCES

_NOTES = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m research.data",
        description="Build training data for small models.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _make_options(commands.add_parser("make", help="write pages.jsonl, held_out.jsonl and CARD.md", allow_abbrev=False))
    _sample_options(commands.add_parser("sample", help="generate pages for prompts with a model", allow_abbrev=False))
    given = parser.parse_args(arguments)
    try:
        return _make(given) if given.command == "make" else _sample(given)
    except EngineError as error:
        _NOTES.print(f"Error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _make_options(parser: argparse.ArgumentParser) -> None:
    names = [source.name for source in SOURCES]
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="folder of downloaded packages; nothing is fetched"
    )
    parser.add_argument(
        "--forms",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="prompts of an app (python tests/benchmarks prompts)",
    )
    parser.add_argument("--sampled", type=Path, nargs="+", default=[], metavar="FILE", help="sampled pages")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=names,
        metavar="SOURCE",
        help=f"skip one of {', '.join(names)}",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")


def _make(given: argparse.Namespace) -> int:
    made = build_dataset(
        given.out,
        [source for source in SOURCES if source.name not in given.without],
        given.packages or given.out / "packages",
        fetch=given.packages is None,
        forms=given.forms,
        sampled=given.sampled,
        seed=given.seed,
        progress=_NOTES.print,
    )
    (given.out / "CARD.md").write_text(data_card(made), encoding="utf-8")
    _say(table(made))
    _say(to_json(made))
    return 0


def _sample_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompts", type=Path, metavar="PROMPTS", help="prompts (python tests/benchmarks prompts)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="output file of pages; an existing one is continued"
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="stop after this many minutes")
    parser.add_argument("--engine", default="embedded", help="as open_engine takes it (default: embedded)")
    parser.add_argument("--model", default="", help="the model of the engine, such as a name on its server")
    parser.add_argument("--parallel", type=int, metavar="N", help="pages at once; default: the engine's")
    parser.add_argument("--threads", type=int, metavar="N", help="threads; fewer on a busy machine")
    parser.add_argument("--seed", type=int, help="makes the pages reproducible, but slower")


def _sample(given: argparse.Namespace) -> int:
    wanted = list(read_prompts(given.prompts))
    options = {name: value for name in ("model", "parallel", "threads") if (value := getattr(given, name))}
    engine = open_engine(given.engine, **options)
    _NOTES.print(f"{engine.about.model} on {engine.about.device}, {engine.about.parallel} at once")

    async def work() -> SampleReport:
        try:
            return await sample_pages(
                engine,
                wanted,
                given.out,
                seconds=None if given.minutes is None else 60 * given.minutes,
                seed=given.seed,
                progress=_progress,
            )
        finally:
            await engine.close()

    report = asyncio.run(work())
    _say(_summary(report))
    for reason, count in report.dropped.most_common():
        _say(f"  dropped, {reason}: {count:,}")
    _say(f"Pages: {given.out}. Dropped pages: {dropped_file(given.out)}.")
    return 0


def _progress(report: SampleReport) -> None:
    if (report.pages + report.dropped.total()) % 50 == 0:
        _NOTES.print(_summary(report))


def _summary(report: SampleReport) -> str:
    speed = report.tokens / report.seconds if report.seconds else 0.0
    return (
        f"{report.pages:,} pages kept, {report.dropped.total():,} dropped, {report.remaining:,} left, "
        f"{report.done_before:,} done before, {report.held_out:,} held out; {report.tokens:,} tokens in "
        f"{report.seconds:.0f} s, {speed:.0f} tokens/s"
    )


def _say(words: str) -> None:
    """Print a line to standard output."""
    sys.stdout.write(f"{words}\n")


if __name__ == "__main__":
    sys.exit(main())
