"""The command line of ``python -m unwritten_engine.training``."""

from __future__ import annotations

import argparse
import math
import sys
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
    """Run a command. Return the exit status: 0, or 1 after an error message."""
    args = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = args.run_command
    try:
        run(args)
    except EngineError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except ImportError as error:
        print(  # noqa: T201
            f"Training needs the package {error.name}. Type: pip install 'unwritten[training]'", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("Stopped. The run is saved.", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unwritten_engine.training",
        description="Train small diffusion models, and adapt larger ones to your own pages.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        parser.set_defaults(run_command=run)
        return parser

    prepare = command("prepare", _prepare, "Create a run: initial weights, tokenized pages, and the configuration.")
    prepare.add_argument("run", type=Path, help="its folder, which must not exist")
    _add_pages(prepare)
    prepare.add_argument("--start", required=True, help="a size (toy, small: random weights), or a checkpoint folder")
    prepare.add_argument(
        "--vocabulary", type=int, default=DEFAULT_VOCAB_SIZE, help=f"tokens of a new tokenizer ({DEFAULT_VOCAB_SIZE})"
    )
    _add_config_option(prepare)

    train = command("train", _train, "Start or resume training.")
    train.add_argument("run", type=Path, help="its folder")
    train.add_argument("--minutes", type=float, default=math.inf, help="stop after this many minutes")
    train.add_argument("--steps", type=int, help="stop after this many steps")
    train.add_argument("--eval-every", type=int, default=500, metavar="STEPS", help="evaluate and write samples (500)")
    _add_device(train)

    recall = command("recall", _recall, "Generate training pages, and measure how much of them is reproduced.")
    recall.add_argument("checkpoint", type=Path, help="a checkpoint folder, or a run")
    _add_pages(recall)
    recall.add_argument("--count", type=int, default=50, help="number of pages (50)")
    recall.add_argument("--show", type=int, default=3, help="texts to print (3)")
    _add_device(recall)

    tune = command("tune", _tune, "Adapt a checkpoint to your own pages with LoRA.")
    tune.add_argument("checkpoint", help="a checkpoint folder, which is not changed")
    _add_pages(tune)
    tune.add_argument("--out", type=Path, required=True, help="folder of the new checkpoint, which must not exist")
    tune.add_argument("--rank", type=int, default=16, help="LoRA rank (16)")
    tune.add_argument("--minutes", type=float, default=math.inf, help="stop after this many minutes")
    _add_config_option(tune)
    _add_device(tune)
    return parser


def _add_pages(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pages", type=Path, nargs="+", required=True, metavar="FILE", help="training pages (.jsonl)")


def _add_config_option(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(f"{name}={getattr(TrainingConfig(), name)}" for name in TrainingConfig.__slots__)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help=f"change the configuration: {names}")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="torch's device name; default: a GPU if there is one")
    parser.add_argument("--threads", type=int, help="threads of torch on a CPU; default: one per core")


def _pages(files: Sequence[Path]) -> Iterator[TrainingPage]:
    return chain.from_iterable(read_pages(file) for file in files)


def _prepare(args: argparse.Namespace) -> None:
    from .initial_model import create_initial_model
    from .runs import prepare

    config = make_config(args.set)
    initial = create_initial_model(args.start, lambda: _pages(args.pages), args.vocabulary, seed=config.seed)
    with initial as checkpoint:
        _print_prepared(prepare(args.run, _pages(args.pages), checkpoint, config, _print_count))
    _say(f"Train with: python -m unwritten_engine.training train {args.run}")


def _train(args: argparse.Namespace) -> None:
    from .runs import TrainingRun

    _run_training(TrainingRun(args.run), args, args.eval_every)


def _recall(args: argparse.Namespace) -> None:
    from .preview import PreviewWriter, matching_share
    from .runs import TrainingRun, load_trainable, set_num_threads

    run = TrainingRun(args.checkpoint)
    if run.config_file.exists() and not run.checkpoint.exists():
        raise EngineError(f"{run.folder} has no checkpoint yet. Train it first: train {run.folder}")
    loaded = load_trainable(run.checkpoint if run.checkpoint.exists() else args.checkpoint, args.device)
    if loaded.device.type == "cpu":
        set_num_threads(args.threads)
    context = int(loaded.model.config.text_config.max_position_embeddings)
    canvas_length = int(loaded.model.config.canvas_length)
    writer = PreviewWriter(loaded, context=min(context, 4096))
    shares, exact, total_steps = [], 0, 0
    for page in islice(_pages(args.pages), args.count):
        expected = page.text.rstrip()
        canvases = max(1, -(-len(writer.encode(expected)) // canvas_length))
        text, steps = writer.write(page.prompt, canvases=canvases)
        shares.append(matching_share(expected, text))
        exact, total_steps = exact + (text == expected), total_steps + steps
        if len(shares) <= args.show:
            _say(f"Expected:  {expected!r}\nGenerated: {text!r}")
    if not shares:
        raise EngineError("These files have no pages.")
    _say(
        f"{exact} of {len(shares)} pages are exact, and {sum(shares) / len(shares):.1%} of the characters match, "
        f"with {total_steps / len(shares):.1f} steps per page."
    )


def _tune(args: argparse.Namespace) -> None:
    from .initial_model import create_initial_model
    from .runs import TrainingRun, prepare

    if args.out.exists():
        raise BadOption(f"{args.out} exists. Choose another folder for --out.")
    run = TrainingRun(args.out.with_name(f"{args.out.name}.run"))
    config = make_config([*args.set, f"lora_rank={args.rank}"], TUNING)
    if run.folder.exists():
        if args.set and run.config() != config:
            raise BadOption(f"{run.folder} exists with another configuration. Omit --set, or remove the folder.")
        _say(f"Resuming {run.folder}.")
    else:
        with create_initial_model(args.checkpoint, lambda: _pages(args.pages), 0) as checkpoint:
            _print_prepared(prepare(run.folder, _pages(args.pages), checkpoint, config, _print_count))
    progress = _run_training(run, args, eval_every=100)
    if progress.step == progress.steps:
        run.checkpoint.replace(args.out)
        _say(f"Open it with: --engine diffusion --model {args.out}. {run.folder} can be removed.")


def _run_training(run: TrainingRun, args: argparse.Namespace, eval_every: int) -> TrainingProgress:
    from .trainer import Trainer

    trainer = Trainer(run, device=args.device, threads=args.threads, eval_every=eval_every, report=_print_progress)
    _say(f"Training {sum(one.numel() for one in trainer.weights.values()):,} weights on {trainer.loaded.device}.")
    start = time.monotonic()
    progress = trainer.train(minutes=args.minutes, steps=getattr(args, "steps", None))
    done = progress.step == progress.steps
    state = "Done" if done else f"Step {progress.step:,} of {progress.steps:,}; the same command resumes"
    _say(f"{state}, after {(time.monotonic() - start) / 60:.1f} minutes. Current checkpoint: {run.checkpoint}")
    return progress


def _print_progress(progress: TrainingProgress) -> None:
    line = f"{progress.step:>8,} / {progress.steps:,}  loss {progress.loss:.3f}  rate {progress.learning_rate:.2e}"
    line += f"  {progress.tokens_per_second:,.0f} tokens/s"
    _say(line + (f"  {progress.skipped_steps} steps skipped" if progress.skipped_steps else ""))
    if progress.eval_losses:
        losses = ", ".join(f"{loss:.3f} at {level:.0%}" for level, loss in progress.eval_losses.items())
        _say(f"          held-out loss by noise level: {losses}; {progress.nats_per_character:.3f} nats per character")
    for title, text in progress.previews:
        _say(f"          {title}: {text!r}")


def _print_count(done: int, total: int) -> None:
    """Report progress every 20,000 pages."""
    if done and done % 20_000 == 0:
        _say(f"Tokenized {done:,} of {total:,} pages.")


def _print_prepared(prepared: PreparedRun) -> None:
    _say(
        f"{prepared.documents:,} training pages with {prepared.tokens:,} tokens of text, and {prepared.held_out:,} "
        f"held-out pages."
    )
    if prepared.skipped:
        _say(f"Skipped {prepared.skipped:,} pages with prompts longer than a row. For longer rows: --set tokens=…")


def _say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)  # noqa: T201
