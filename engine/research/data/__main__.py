"""``python -m research.data``: make the files that a model is trained on; sample pages for them."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from unwritten.cli.loading import load_app
from unwritten.core.errors import UnwrittenError
from unwritten_engine.errors import EngineError
from unwritten_engine.open import open_engine

from .app_prompts import collect_prompts, expand_paths
from .making import as_document, card_of, make, table
from .page_prompts import read_prompts, write_prompts
from .sampling import SampleReport, dropped_file, sample
from .sources import SOURCES

_NOTES = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m research.data",
        description="Make the files that a small model is trained on.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _make_options(commands.add_parser("make", help="make pages.jsonl, held_out.jsonl and CARD.md", allow_abbrev=False))
    _sample_options(commands.add_parser("sample", help="have a model write pages for prompts", allow_abbrev=False))
    _prompts_options(commands.add_parser("prompts", help="collect the prompts of an app's pages", allow_abbrev=False))
    given = parser.parse_args(arguments)
    try:
        return {"make": _make, "sample": _sample, "prompts": _prompts}[given.command](given)
    except (EngineError, UnwrittenError) as error:
        _NOTES.print(f"Error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _make_options(parser: argparse.ArgumentParser) -> None:
    names = [source.name for source in SOURCES]
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write into")
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="where packages lie that are fetched already; nothing is fetched"
    )
    parser.add_argument(
        "--forms", type=Path, nargs="+", default=[], metavar="FILE", help="prompts of an app, from the command prompts"
    )
    parser.add_argument(
        "--sampled", type=Path, nargs="+", default=[], metavar="FILE", help="pages that a model has written"
    )
    parser.add_argument(
        "--without", action="append", default=[], choices=names, metavar="SOURCE", help=f"one of {', '.join(names)}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all chance (default: 0)")


def _make(given: argparse.Namespace) -> int:
    made = make(
        given.out,
        [source for source in SOURCES if source.name not in given.without],
        given.packages or given.out / "packages",
        fetch=given.packages is None,
        forms=given.forms,
        sampled=given.sampled,
        seed=given.seed,
        told=_NOTES.print,
    )
    (given.out / "CARD.md").write_text(card_of(made), encoding="utf-8")
    _say(table(made))
    _say(as_document(made))
    return 0


def _prompts_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a page, such as /wiki/Tea; {} stands for a name")
    parser.add_argument("--app", required=True, metavar="APP", help="a file, a folder or module:variable")
    parser.add_argument("--names", type=Path, metavar="FILE", help="names for {}, one per line")
    parser.add_argument("--base", action="store_true", help="collect the prompts for a base model")
    parser.add_argument(
        "--out", type=Path, default=Path("prompts.jsonl"), metavar="FILE", help="(default: prompts.jsonl)"
    )


def _prompts(given: argparse.Namespace) -> int:
    for path in given.paths:
        if not path.startswith("/"):
            raise EngineError(f"{path!r} is not a path. Paths start with a slash: /{path}")
    if given.names is None and any("{}" in path for path in given.paths):
        raise EngineError("A path with {} needs names: --names FILE, with one name per line.")
    names = given.names.read_text(encoding="utf-8").splitlines() if given.names else None
    paths = expand_paths(given.paths, names)
    count = write_prompts(given.out, collect_prompts(load_app(given.app), paths, base=given.base))
    _say(f"{given.out} has {count:,} prompts of {len(paths):,} pages.")
    return 0


def _sample_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompts", type=Path, metavar="PROMPTS", help="a file of prompts, from the command prompts")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file of pages; it is gone on with")
    parser.add_argument("--minutes", type=float, metavar="N", help="stop after so many; else when all is written")
    parser.add_argument("--engine", default="embedded", help="as open_engine takes it (default: embedded)")
    parser.add_argument("--model", default="", help="the model of the engine, such as a name on its server")
    parser.add_argument("--parallel", type=int, metavar="N", help="pages at once; else what the engine can")
    parser.add_argument("--threads", type=int, metavar="N", help="threads that compute; fewer on a busy machine")
    parser.add_argument("--seed", type=int, help="makes the pages repeatable, and slower")


def _sample(given: argparse.Namespace) -> int:
    wanted = list(read_prompts(given.prompts))
    options = {name: value for name in ("model", "parallel", "threads") if (value := getattr(given, name))}
    engine = open_engine(given.engine, **options)
    _NOTES.print(f"{engine.about.model} on {engine.about.device}, {engine.about.parallel} at once")

    async def work() -> SampleReport:
        try:
            return await sample(
                engine,
                wanted,
                given.out,
                seconds=None if given.minutes is None else 60 * given.minutes,
                seed=given.seed,
                told=_progress,
            )
        finally:
            await engine.close()

    found = asyncio.run(work())
    _say(_told(found))
    for reason, count in found.dropped.most_common():
        _say(f"  dropped, {reason}: {count:,}")
    _say(f"The pages are in {given.out}, what was dropped in {dropped_file(given.out)}.")
    return 0


def _progress(found: SampleReport) -> None:
    if (found.pages + found.dropped.total()) % 50 == 0:
        _NOTES.print(_told(found))


def _told(found: SampleReport) -> str:
    speed = found.tokens / found.seconds if found.seconds else 0.0
    return (
        f"{found.pages:,} pages kept, {found.dropped.total():,} dropped, {found.left:,} left, {found.before:,} done "
        f"before, {found.held_out:,} held out; {found.tokens:,} tokens in {found.seconds:.0f} s, {speed:.0f} a second"
    )


def _say(words: str) -> None:
    """To standard output, exactly so."""
    sys.stdout.write(f"{words}\n")


if __name__ == "__main__":
    sys.exit(main())
