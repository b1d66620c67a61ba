"""``unwritten tune``: adapt a checkpoint of the diffusion engine to the pages of an app."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click

from unwritten_engine.training.cli import main as run_training
from unwritten_engine.training.config import TUNING
from unwritten_engine.training.dataset import TrainingPage, read_pages, write_pages

from ..core.errors import TransferError
from ..export.training_examples import TrainingExamples, training_examples
from .worlds import world_options, world_path

MIN_TEXTS: Final = 20
"""With fewer texts a tuned model repeats their words and learns little else."""


@click.command("tune")
@click.option("--model", metavar="FOLDER", type=click.Path(path_type=Path), help="A checkpoint. It is not changed.")
@click.option("--out", metavar="FOLDER", type=click.Path(path_type=Path), help="The folder for the tuned checkpoint.")
@click.option(
    "--rank",
    default=TUNING.lora_rank,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Rank of the LoRA matrices. A larger one learns more, and forgets more.",
)
@click.option("--minutes", type=click.FloatRange(0), help="Stop after this time. The same command continues.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a training option, such as steps=200. Repeatable. All names: python -m unwritten_engine.training tune "
    "--help",
)
@click.option(
    "--pages",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A file with more training pages (.jsonl). Repeatable.",
)
@click.option("--device", metavar="NAME", help="A torch device.  [default: a GPU if there is one]")
@click.option("--threads", type=click.IntRange(1), help="Threads on a CPU.  [default: one per core]")
@click.option("--yes", is_flag=True, help=f"Continue with fewer than {MIN_TEXTS} texts.")
@click.option(
    "--write",
    "pages_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Only write the training pages to FILE (.jsonl), to read and prune them. Nothing is trained.",
)
@world_options
def tune(
    model: Path | None,
    out: Path | None,
    rank: int,
    minutes: float | None,
    changes: tuple[str, ...],
    files: tuple[Path, ...],
    device: str | None,
    threads: int | None,
    yes: bool,
    pages_file: Path | None,
    **world: Any,
) -> None:
    """Adapt a DiffusionGemma checkpoint to the current texts of an app, with LoRA.

    Texts that you edited by hand teach it the most.

    \b
    unwritten tune --demo wiki --model path/to/checkpoint --out mine
    unwritten demo wiki --engine diffusion --model mine
    """
    if pages_file and (model or out):
        raise click.UsageError("--write trains nothing: leave out --model and --out, or leave out --write.")
    if not pages_file and not (model and out):
        raise click.UsageError(
            "Name the checkpoint and a folder for the tuned one: --model FOLDER --out FOLDER. To write only the "
            "training pages: --write FILE.jsonl"
        )
    if model and not (model / "config.json").is_file():
        raise click.UsageError(
            f"{model} is not a checkpoint: it has no config.json. Name the folder of one. For a model on the hub, "
            f"`hf download OWNER/REPO` downloads it and prints its folder."
        )
    found = training_examples(world_path(**world))
    more = list(chain.from_iterable(map(read_pages, files)))
    _print_counts(found, len(more))
    pages = [*found.pages, *more]
    if not pages:
        raise click.ClickException("There is no text to learn from. Open some pages of the app first.")
    if pages_file:
        _write_pages(pages_file, pages)
    elif model and out:
        if len(pages) < MIN_TEXTS and not yes:
            raise click.ClickException(
                f"From fewer than {MIN_TEXTS} texts a model learns their words and little else. Open more pages, add "
                f"training pages with --pages FILE, or continue with --yes"
            )
        options = {"device": device, "threads": threads, "minutes": minutes, "rank": rank}
        _train(model, out, pages, changes, options)


def _print_counts(found: TrainingExamples, more: int) -> None:
    by_hand = f", {found.by_hand:,} of them edited by hand" if found.by_hand else ""
    added = f"; {more:,} more from files" if more else ""
    click.echo(f"{_texts(len(found.pages))} of {found.source}{by_hand}{added}.")
    for reason, count in found.left_out.items():
        click.echo(f"Left out: {count:,} {reason}.", err=True)


def _texts(count: int) -> str:
    return f"{count:,} text{'' if count == 1 else 's'}"


def _write_pages(target: Path, pages: Sequence[TrainingPage]) -> None:
    if target.exists():
        raise TransferError(f"{target} exists already and is not replaced. Name another file.")
    try:
        count = write_pages(target, pages)
    except OSError as error:
        raise TransferError(f"{target} cannot be written: {error.strerror}. Name another file.") from error
    click.echo(
        f"Wrote {_texts(count)} to {target}, one per line. Read and prune them, then run: "
        f"python -m unwritten_engine.training tune FOLDER --pages {target} --out FOLDER"
    )


def _train(
    model: Path, out: Path, pages: Sequence[TrainingPage], changes: Sequence[str], options: dict[str, Any]
) -> None:
    """Run the engine's trainer, and exit with its status."""
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        file = Path(folder) / "pages.jsonl"
        write_pages(file, pages)
        arguments = ["tune", str(model), f"--pages={file}", f"--out={out}"]
        arguments += [f"--{name}={value}" for name, value in options.items() if value is not None]
        arguments += ["--set", *changes] if changes else []
        status = run_training(arguments)
    click.get_current_context().exit(status)
