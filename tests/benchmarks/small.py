"""``python tests/benchmarks small``: a small diffusion model beside the autoregressive model in the box, in one run.

Both write the opening paragraphs of the same articles in turn, with the prompt of the demo wiki, as long as one canvas
of a small model. How soon there is something to read is timed; what they wrote is counted, and read by one judge, the
model in the box. That is one of the two: its own texts please it more than they should.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from tests.benchmarks.subjects import prompts, subjects
from tests.benchmarks.turns import Writer, Written, in_turn
from tests.benchmarks.verdicts import REACH, Figures, compare

from unwritten_engine import About, Prompt, open_engine
from unwritten_engine.errors import MissingPackage
from unwritten_engine.training.dataset import is_held_out

SIDES: Final = ("diffusion", "autoregressive")


TITLES: Final = 200


QUICK: Final = 4
"""Titles of a run that only shows that everything works."""


@click.command()
@click.option("--model", required=True, help="A folder with a diffusion checkpoint, or `random`.")
@click.option("--titles", type=click.IntRange(1), default=TITLES, show_default=True, help="Articles to write.")
@click.option(
    "--pages",
    type=click.Path(path_type=Path),
    default=None,
    help="Training pages (.jsonl) that were held out: their titles, and their texts to compare with.",
)
@click.option("--tokens", type=click.IntRange(8), default=128, show_default=True, help="The length of a text, at most.")
@click.option("--steps", type=click.IntRange(1), default=None, help="Steps of a canvas, if not the checkpoint's own.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Threads of both engines; else as they choose.")
@click.option("--show", type=click.IntRange(0), default=0, help="Print so many texts of both, the first of the run.")
@click.option("--quick", is_flag=True, help=f"Only {QUICK} titles: the figures mean little.")
def command(
    model: str,
    titles: int,
    pages: Path | None,
    tokens: int,
    steps: int | None,
    threads: int | None,
    show: int,
    quick: bool,
) -> None:
    """Measure a small diffusion model beside the embedded one."""
    chosen = subjects(pages, QUICK if quick else titles)
    asked = asyncio.run(prompts([subject.title for subject in chosen]))
    if not asked:
        raise click.ClickException(f"{pages} has no page with a title that an article can have. Give another file.")
    open_judge, busy_share = _tools()
    busy, run, stopped = busy_share(), Run(), False
    try:
        asyncio.run(_write(run, asked, model=model, tokens=tokens, steps=steps, threads=threads))
    except KeyboardInterrupt:
        if not run.pairs:
            raise
        stopped = True
        click.echo(f"\nStopped after {len(run.pairs)} of {len(asked)} titles. The judge reads these.", err=True)
    judge = open_judge(lambda share, doing: _tell(doing))
    found = compare(
        run.pairs,
        {subject.title: subject.reference for subject in chosen},
        lambda given: judge.surprisals(given, progress=lambda share, doing: _tell(f"{doing}: {share:.0%}")),
    )
    _tell("")
    for side, about in run.about.items():
        found[side] = {"model": about.model, "device": about.device, **found[side]}
    _show_texts(run.pairs[:show])
    _report(
        {
            "titles": len(run.pairs),
            "held_out": sum(is_held_out(pair[0].title) for pair in run.pairs),
            "tokens": tokens,
            "steps": steps,
            "stopped": stopped,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "busy": round(busy, 3),
            "judge": judge.name,
            **found,
        }
    )


@dataclass(slots=True)
class Run:
    """What there is of a run, whenever it ends.

    Attributes:
        about: the engines, by side.
        pairs: for each title what the diffusion engine wrote, and what the autoregressive one did.
    """

    about: dict[str, About] = field(default_factory=dict)
    pairs: list[tuple[Written, ...]] = field(default_factory=list)


async def _write(
    run: Run, asked: Mapping[str, Prompt], *, model: str, tokens: int, steps: int | None, threads: int | None
) -> None:
    """Open both engines, let them write, and close them."""
    given: dict[str, Any] = {} if threads is None else {"threads": threads}
    sampling = {} if steps is None else {"steps": steps}
    async with contextlib.AsyncExitStack() as stack:
        writers = []
        for side, spec, options, dial in (
            (SIDES[0], "diffusion", {**given, "model": model}, sampling),
            (SIDES[1], "embedded", given, {}),
        ):
            _tell(f"Opening {spec}")
            engine = await asyncio.to_thread(partial(open_engine, spec, **options))
            stack.push_async_callback(engine.close)
            run.about[side] = engine.about
            writers.append(Writer(side, engine, dial))
        async for pair in in_turn(writers, asked, tokens, lambda title: _tell(f"{len(run.pairs) + 1}: {title}")):
            run.pairs.append(pair)


def _tools() -> tuple[Any, Any]:
    """What opens the judge, and what says how busy the machine is; asked for before the work, for it may be missing."""
    try:
        judging = importlib.import_module("research.judging.judge")
        machine = importlib.import_module("tests.benchmarks.engine.machine")
    except ImportError as error:
        raise MissingPackage(
            f'This benchmark needs torch, transformers and gguf ({error}). Type: pip install "unwritten[training]"'
        ) from error
    return judging.open_judge, machine.busy_share


def _tell(doing: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{doing}{' …' if doing else ''}", nl=False, err=True)


def _show_texts(pairs: Sequence[Sequence[Written]]) -> None:
    for pair in pairs:
        click.echo(f"\n== {pair[0].title}")
        for side, written in zip(SIDES, pair, strict=True):
            click.echo(f"-- {side}\n{written.text}")


_ROWS: Final = (
    ("first_draft_s", "first draft, or first words", " s"),
    ("settled_s", "settled", " s"),
    ("words", "words of a text", ""),
    ("words_per_s", "words per second", ""),
    ("tokens", "tokens of a text, as each engine counts", ""),
    ("tokens_per_s", "tokens per second", ""),
    ("steps_per_canvas", "steps of a canvas; a token is a step", ""),
    ("judge_perplexity", "perplexity under the judge, all texts that are not empty", ""),
    ("judge_perplexity_text", "  of the median text", ""),
    ("on_topic_judged", "  likelier under its own title than under another", ""),
    ("on_topic", "names a word of its title", ""),
    ("reference_overlap", "words in common with the text by people", ""),
    ("distinct2", "distinct bigrams, all texts, cut to the same length", ""),
    ("distinct2_text", "  within a text", ""),
    ("repeated_grams", "four-word sequences that came before in the text", ""),
    ("links", "links of a text", ""),
    ("broken_markup", "marks without a partner or a sense, a text", ""),
    ("stray_tokens", "tags, control characters and other strays, a text", ""),
    ("leaks", "sequences copied from the examples, a text", ""),
    ("cut_endings", "ends in the middle of a sentence", ""),
    ("empty", "texts without words", ""),
)


_RATIOS: Final = {
    "settled_s": ("settle_ratio", "  autoregressive over diffusion, median of pairs"),
    "judge_perplexity_text": ("judge_perplexity_ratio", "  all texts, diffusion over autoregressive"),
    "distinct2": ("distinct2_ratio", "  diffusion over autoregressive"),
}


def _report(document: Mapping[str, Any]) -> None:
    """Print a table for people, and one JSON document on the last line."""
    ours, theirs = (document[side] for side in SIDES)
    title = (
        f"Side by side, {document['titles']} titles ({document['held_out']} held out of training), at most "
        f"{document['tokens']} tokens each\n"
        f"diffusion: {ours['model']}, {ours['device']}; autoregressive: {theirs['model']}, {theirs['device']}\n"
        f"{document['machine']}; judge: {document['judge']}\n"
        f"Of two figures one is the median, the other what nine in ten stay below."
    )
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    for heading in (*SIDES, "to reach"):
        table.add_column(heading, justify="right")
    for name, words, unit in _ROWS:
        if ours[name] is None and theirs[name] is None:
            continue
        reach = _reach(name, document) if name in REACH else ""
        table.add_row(words, _cell(ours, name, unit), _cell(theirs, name, unit), reach)
        if name in _RATIOS:
            ratio, label = _RATIOS[name]
            value = document[ratio]
            table.add_row(label, "-" if value is None else f"{_short(value)} ×", "", _reach(ratio, document))
    if document["busy"] > 0.1:
        table.add_row("WARNING: others use the processor, times are too long", f"{document['busy']:.0%}", "", "≤ 10%")
    Console(width=130).print(table)
    print(json.dumps(document))


def _cell(side: Figures, name: str, unit: str) -> str:
    value, high = side[name], side.get(f"{name}_p90")
    if value is None:
        return "-"
    return f"{_short(value)}{unit}" if high is None else f"{_short(value)}, {_short(high)}{unit}"


def _short(value: float) -> str:
    """A number with three digits that count, or all those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _reach(name: str, document: Mapping[str, Any]) -> str:
    sign, bound = REACH[name]
    unit = " s" if name.endswith("_s") else " ×"
    return f"{sign} {bound:g}{unit}: {'yes' if document['reached'][name] else 'no'}"
