"""``unwritten tune``: adapt a checkpoint of the diffusion engine to the pages of an app."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click

from unwritten_engine.training.cli import main
from unwritten_engine.training.config import TUNING
from unwritten_engine.training.dataset import TrainingPage, read_pages, write_pages

from ..core.errors import ShareError
from ..export.training_examples import TrainingExamples, training_examples
from .worlds import world_options, world_path

ENOUGH: Final = 20
"""Texts from which a tuned model takes more than their words."""


@click.command("tune")
@click.option("--model", metavar="FOLDER", type=click.Path(path_type=Path), help="A checkpoint; it stays as it is.")
@click.option("--out", metavar="FOLDER", type=click.Path(path_type=Path), help="Where the tuned checkpoint goes.")
@click.option(
    "--rank",
    default=TUNING.lora_rank,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Of the small matrices that learn: more of it learns more, and forgets more.",
)
@click.option("--minutes", type=click.FloatRange(0), help="Stop after so many; the same command goes on.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change the recipe, such as steps=200; can be given again. All names: unwritten train tune --help",
)
@click.option(
    "--pages",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A file of more training pages (.jsonl); can be given again.",
)
@click.option("--device", metavar="NAME", help="Where, as torch names it.  [default: a GPU if there is one]")
@click.option("--threads", type=click.IntRange(1), help="Of a CPU.  [default: one for each core]")
@click.option("--yes", is_flag=True, help=f"Go on with fewer than {ENOUGH} texts.")
@click.option(
    "--write",
    "only_into",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Only write the training pages into FILE (.jsonl), to read and prune them; train nothing.",
)
@world_options
def command(
    model: Path | None,
    out: Path | None,
    rank: int,
    minutes: float | None,
    changes: tuple[str, ...],
    files: tuple[Path, ...],
    device: str | None,
    threads: int | None,
    yes: bool,
    only_into: Path | None,
    **which: Any,
) -> None:
    """Adapt a DiffusionGemma checkpoint to the texts of an app, as they stand now, by small matrices beside its own
    (LoRA). What you changed by hand is what it can learn most from.

    \b
    unwritten tune --demo wiki --model path/to/checkpoint --out mine
    unwritten demo wiki --engine diffusion --model mine
    """
    if only_into and (model or out):
        raise click.UsageError("With --write nothing is trained: leave --model and --out away, or --write.")
    if not only_into and not (model and out):
        raise click.UsageError(
            "Name the checkpoint and a folder for the tuned one: --model FOLDER --out FOLDER. To write only the "
            "training pages: --write FILE.jsonl"
        )
    if model and not (model / "config.json").is_file():
        raise click.UsageError(
            f"{model} is no checkpoint: it has no config.json. Name the folder of one; for a model on the hub, "
            f"`hf download OWNER/REPO` fetches it and prints its folder."
        )
    found = training_examples(world_path(**which))
    more = list(chain.from_iterable(map(read_pages, files)))
    _tell(found, len(more))
    pages = [*found.pages, *more]
    if not pages:
        raise click.ClickException("There is no text to learn from. Open some pages of the app first.")
    if only_into:
        _write(only_into, pages)
    elif model and out:
        if len(pages) < ENOUGH and not yes:
            raise click.ClickException(
                f"From fewer than {ENOUGH} texts a model learns their words and little else. Write more pages, add "
                f"training pages by --pages FILE, or go on with --yes"
            )
        options = {"device": device, "threads": threads, "minutes": minutes, "rank": rank}
        _train(model, out, pages, changes, options)


def _tell(found: TrainingExamples, more: int) -> None:
    by_hand = f", {found.by_hand:,} of them changed by hand" if found.by_hand else ""
    added = f"; {more:,} more from files" if more else ""
    click.echo(f"{_texts(len(found.pages))} of {found.source}{by_hand}{added}.")
    for why, count in found.left_out.items():
        click.echo(f"Left out: {count:,} {why}.", err=True)


def _texts(count: int) -> str:
    return f"{count:,} text{'' if count == 1 else 's'}"


def _write(target: Path, pages: Sequence[TrainingPage]) -> None:
    if target.exists():
        raise ShareError(f"{target} is there already, and is not replaced. Name another file.")
    try:
        count = write_pages(target, pages)
    except OSError as error:
        raise ShareError(f"{target} cannot be written: {error.strerror}. Name another file.") from error
    click.echo(
        f"Wrote {_texts(count)} into {target}, one on a line. Read and prune them, and then: "
        f"unwritten train tune FOLDER --pages {target} --out FOLDER"
    )


def _train(
    model: Path, out: Path, pages: Sequence[TrainingPage], changes: Sequence[str], options: dict[str, Any]
) -> None:
    """Hand the pages to the engine, and end as it ends."""
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        file = Path(folder) / "pages.jsonl"
        write_pages(file, pages)
        words = ["tune", str(model), f"--pages={file}", f"--out={out}"]
        words += [f"--{name}={value}" for name, value in options.items() if value is not None]
        words += ["--set", *changes] if changes else []
        status = main(words)
    click.get_current_context().exit(status)
