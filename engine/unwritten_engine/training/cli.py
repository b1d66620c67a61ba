"""The commands of ``python -m unwritten_engine.training``: each says what it takes, and does it."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import BadOption, EngineError
from .config import TUNING, TrainingConfig, make_config
from .dataset import TrainingPage, read_pages

if TYPE_CHECKING:
    from .runs import PreparedRun, TrainingRun
    from .trainer import TrainingProgress

DEFAULT_VOCAB_SIZE: Final = 12_288
"""Tokens of a new tokenizer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, or 1 after a sentence that says what is wrong."""
    given = _parser().parse_args(arguments)
    do: Callable[[argparse.Namespace], None] = given.do
    try:
        do(given)
    except EngineError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except ImportError as error:
        print(  # noqa: T201
            f"Training needs the package {error.name}. Type: pip install 'unwritten[training]'", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was done is kept.", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unwritten_engine.training",
        description="Trains small diffusion models, and adapts larger ones to your own pages.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], None], what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        made.set_defaults(do=do)
        return made

    made = command("prepare", _prepare, "Make a run: first weights, pages as tokens, and a recipe.")
    made.add_argument("run", type=Path, help="its folder; it must not be there yet")
    made.add_argument("--pages", type=Path, nargs="+", required=True, metavar="FILE", help="training pages (.jsonl)")
    made.add_argument("--start", required=True, help="a size (toy, small: random weights), or a checkpoint folder")
    made.add_argument(
        "--vocabulary", type=int, default=DEFAULT_VOCAB_SIZE, help=f"tokens of a new tokenizer ({DEFAULT_VOCAB_SIZE})"
    )
    _add_config_option(made)

    made = command("train", _train, "Go on with a run, until it is done or the time is up.")
    made.add_argument("run", type=Path, help="its folder, or a file that `pack` has written")
    made.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    made.add_argument("--steps", type=int, help="stop after so many more")
    made.add_argument("--out", type=Path, help="for a packed run: where it is written to; else to where it was")
    made.add_argument("--judge-every", type=int, default=500, metavar="STEPS", help="judge and write samples (500)")
    _add_limit(made)
    _add_device(made)

    made = command("pack", _pack, "Put a run into one small file, for a machine that keeps nothing.")
    made.add_argument("run", type=Path)
    made.add_argument("file", type=Path)
    _add_limit(made)

    made = command("unpack", _unpack, "Make a run's folder of such a file.")
    made.add_argument("file", type=Path)
    made.add_argument("run", type=Path)

    made = command("recall", _recall, "Write training pages from noise, and say how much of them comes back.")
    made.add_argument("checkpoint", type=Path, help="a checkpoint folder, or a run")
    made.add_argument("--pages", type=Path, nargs="+", required=True, metavar="FILE", help="pages with their prompts")
    made.add_argument("--count", type=int, default=50, help="pages, from the first one (50)")
    made.add_argument("--show", type=int, default=3, help="texts to print (3)")
    _add_device(made)

    made = command("tune", _tune, "Adapt a checkpoint to your own pages by small matrices beside its own (LoRA).")
    made.add_argument("checkpoint", help="a checkpoint folder, which stays as it is")
    made.add_argument("--pages", type=Path, nargs="+", required=True, metavar="FILE", help="training pages (.jsonl)")
    made.add_argument("--out", type=Path, required=True, help="the new checkpoint's folder; it must not be there yet")
    made.add_argument("--rank", type=int, default=16, help="of the matrices (16)")
    made.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    _add_config_option(made)
    _add_device(made)
    return parser


def _add_config_option(made: argparse.ArgumentParser) -> None:
    names = ", ".join(f"{name}={getattr(TrainingConfig(), name)}" for name in TrainingConfig.__slots__)
    made.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help=f"change the recipe: {names}")


def _add_limit(made: argparse.ArgumentParser) -> None:
    made.add_argument("--limit", type=float, default=64, metavar="MIB", help="that a packed run may take (64)")


def _add_device(made: argparse.ArgumentParser) -> None:
    made.add_argument("--device", help="as torch names it; else a GPU if there is one")
    made.add_argument("--threads", type=int, help="of torch on a CPU; else one for each core")


def _pages(files: Sequence[Path]) -> Iterator[TrainingPage]:
    return chain.from_iterable(read_pages(file) for file in files)


def _prepare(given: argparse.Namespace) -> None:
    from .initial_model import create_initial_model
    from .runs import prepare

    recipe = make_config(given.set)
    with create_initial_model(
        given.start, lambda: _pages(given.pages), given.vocabulary, seed=recipe.seed
    ) as checkpoint:
        made = prepare(given.run, _pages(given.pages), checkpoint, recipe, _print_count)
    _print_prepared(made)
    _say(f"Train with: python -m unwritten_engine.training train {given.run}")


def _train(given: argparse.Namespace) -> None:
    from .run_archive import pack_run, unpack_run
    from .runs import TrainingRun

    if given.run.is_dir() or not given.run.exists():
        if given.out is not None:
            raise BadOption(f"--out is for packed runs; {given.run} is a folder, and is kept up to date itself.")
        _run_training(TrainingRun(given.run), given, given.judge_every)
        return
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        run = unpack_run(given.run, Path(folder) / "run")
        try:
            _run_training(run, given, given.judge_every)
        finally:
            target = given.out or given.run
            _say(f"{target}: {pack_run(run, target, limit=_limit_bytes(given)) / 2**20:.1f} MiB.")


def _pack(given: argparse.Namespace) -> None:
    from .run_archive import pack_run
    from .runs import TrainingRun

    _say(f"{given.file}: {pack_run(TrainingRun(given.run), given.file, limit=_limit_bytes(given)) / 2**20:.1f} MiB.")


def _limit_bytes(given: argparse.Namespace) -> int:
    return int(given.limit * 2**20)


def _unpack(given: argparse.Namespace) -> None:
    from .run_archive import unpack_run

    _say(f"Train with: python -m unwritten_engine.training train {unpack_run(given.file, given.run).folder}")


def _recall(given: argparse.Namespace) -> None:
    from .preview import PreviewWriter, matching_share
    from .runs import TrainingRun, load_trainable, set_num_threads

    run = TrainingRun(given.checkpoint)
    if (run.folder / "recipe.json").exists() and not run.checkpoint.exists():
        raise EngineError(f"{run.folder} has no checkpoint yet. Train it first: train {run.folder}")
    loaded = load_trainable(run.checkpoint if run.checkpoint.exists() else given.checkpoint, given.device)
    if loaded.device.type == "cpu":
        set_num_threads(given.threads)
    context = int(loaded.model.config.text_config.max_position_embeddings)
    size = int(loaded.model.config.canvas_length)
    sampler = PreviewWriter(loaded, context=min(context, 4096))
    shares, whole, steps = [], 0, 0
    for page in islice(_pages(given.pages), given.count):
        wanted = page.text.rstrip()
        text, took = sampler.write(page.prompt, canvases=max(1, -(-len(sampler.encode(wanted)) // size)))
        shares.append(matching_share(wanted, text))
        whole, steps = whole + (text == wanted), steps + took
        if len(shares) <= given.show:
            _say(f"Wanted: {wanted!r}\nCame:   {text!r}")
    if not shares:
        raise EngineError("There are no pages in these files.")
    _say(
        f"Of {len(shares)} pages {whole} came back whole, and {sum(shares) / len(shares):.1%} of all characters stand "
        f"where they should; {steps / len(shares):.1f} steps each."
    )


def _tune(given: argparse.Namespace) -> None:
    from .initial_model import create_initial_model
    from .runs import TrainingRun, prepare

    if given.out.exists():
        raise BadOption(f"{given.out} is there already. Take another folder for --out.")
    run = TrainingRun(given.out.with_name(f"{given.out.name}.run"))
    recipe = make_config([*given.set, f"rank={given.rank}"], TUNING)
    if run.folder.exists():
        if given.set and run.config() != recipe:
            raise BadOption(
                f"{run.folder} is under way with a recipe of its own. Leave --set out, or remove the folder."
            )
        _say(f"Going on with {run.folder}.")
    else:
        with create_initial_model(given.checkpoint, lambda: _pages(given.pages), 0) as checkpoint:
            _print_prepared(prepare(run.folder, _pages(given.pages), checkpoint, recipe, _print_count))
    at = _run_training(run, given, judge_every=100)
    if at.step == at.steps:
        run.checkpoint.replace(given.out)
        _say(f"Open it with: --engine diffusion --model {given.out}. {run.folder} can be removed.")


def _run_training(run: TrainingRun, given: argparse.Namespace, judge_every: int) -> TrainingProgress:
    from .trainer import Trainer

    trainer = Trainer(run, device=given.device, threads=given.threads, eval_every=judge_every, report=_print_progress)
    _say(f"{sum(one.numel() for one in trainer.weights.values()):,} weights learn, on {trainer.loaded.device}.")
    begun = time.monotonic()
    at = trainer.train(minutes=given.minutes, steps=getattr(given, "steps", None))
    done = "Done" if at.step == at.steps else f"Step {at.step:,} of {at.steps:,}; the same command goes on"
    _say(f"{done}, after {(time.monotonic() - begun) / 60:.1f} minutes. The model so far: {run.checkpoint}")
    return at


def _print_progress(progress: TrainingProgress) -> None:
    line = f"{progress.step:>8,} / {progress.steps:,}  loss {progress.loss:.3f}  rate {progress.learning_rate:.2e}"
    line += f"  {progress.tokens_per_second:,.0f} tokens/s"
    _say(line + (f"  {progress.skipped_steps} steps left out" if progress.skipped_steps else ""))
    if progress.eval_losses:
        levels = ", ".join(f"{loss:.3f} at {level:.0%}" for level, loss in progress.eval_losses.items())
        _say(f"          held out, by noise: {levels}; {progress.nats_per_character:.3f} nats per character")
    for title, text in progress.previews:
        _say(f"          {title}: {text!r}")


def _print_count(done: int, whole: int) -> None:
    """Many pages take minutes."""
    if done and done % 20_000 == 0:
        _say(f"{done:,} of {whole:,} pages are tokens.")


def _print_prepared(made: PreparedRun) -> None:
    _say(f"{made.documents:,} pages with {made.tokens:,} tokens of text; {made.held_out:,} others to judge by.")
    if made.skipped:
        _say(f"{made.skipped:,} pages were left out: their prompts are longer than a row. Longer rows: --set tokens=…")


def _say(text: str) -> None:
    """A line for people."""
    print(text, flush=True)  # noqa: T201
