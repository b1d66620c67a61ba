"""``python -m research.conversion``: write an initial checkpoint, random or converted."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from rich.console import Console

from unwritten_engine.errors import EngineError
from unwritten_engine.training.dataset import read_pages
from unwritten_engine.training.initial_model import SIZES, write_new_model
from unwritten_engine.training.tokenizer_training import train_tokenizer

from .gemma import ConversionReport, write_converted


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a checkpoint folder. Return the exit status."""
    given = _parser().parse_args(arguments)
    notes = Console(stderr=True, soft_wrap=True)
    try:
        if given.folder.exists() and any(given.folder.iterdir()):
            raise EngineError(f"{given.folder} is not empty. Give a new folder.")
        pages = chain.from_iterable(read_pages(file) for file in given.pages or ())
        if given.what == "scratch":
            tokenizer = train_tokenizer(pages, given.vocabulary)
            print(f"Wrote {write_new_model(given.folder, given.size, tokenizer, seed=given.seed)}.")
            return 0
        with notes.status("Starting") as status:
            report = write_converted(
                given.folder,
                vocabulary=given.vocabulary,
                pages=pages if given.pages else None,
                wide=given.wide,
                progress=lambda share, doing: status.update(f"{doing} {share:.0%}"),
                narrow_numbers=given.bfloat16,
            )
        print(table(report))
        print(json.dumps(asdict(report) | {"folder": str(report.folder)}))
    except (EngineError, OSError) as error:
        notes.print(f"[bold red]Error:[/] {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def table(report: ConversionReport) -> str:
    """Return the report as text."""
    found = report.agreement
    rows = {
        "heads of sliding layers": "wider, and exact" if report.wide else "as wide as Gemma's",
        "parameters": f"{report.parameters:,}, of which {report.embeddings:,} are embeddings",
        "tokens checked": f"{found.tokens:,}",
        "KL(original || converted)": f"{found.divergence:.4f} nats",
        "the same, capped at 30": f"{found.capped:.4f} nats",
        "likeliest token the same": f"{found.same:.2%}",
        "perplexity": f"{found.converted:.2f}; of the original {found.original:.2f}",
    }
    return "\n".join(f"{name:<28}{value}" for name, value in rows.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m research.conversion",
        description="Write an initial checkpoint for training.",
    )
    whats = parser.add_subparsers(dest="what", required=True)
    scratch = whats.add_parser("scratch", help="random weights, and a tokenizer trained on pages")
    scratch.add_argument("folder", type=Path, help="a new folder")
    scratch.add_argument("pages", type=Path, nargs="+", help="files of training pages")
    scratch.add_argument("--size", choices=list(SIZES), default="small", help="(default: small)")
    scratch.add_argument("--vocabulary", type=int, default=12_288, help="tokens (default: 12288)")
    scratch.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    gemma = whats.add_parser("gemma", help="the embedded Gemma 3 270M, converted")
    gemma.add_argument("folder", type=Path, help="a new folder")
    gemma.add_argument("pages", type=Path, nargs="*", help="training pages whose tokens are kept")
    gemma.add_argument("--vocabulary", type=int, default=28_672, help="tokens to keep (default: 28672)")
    gemma.add_argument("--wide", action="store_true", help="exact sliding layers with wider heads")
    gemma.add_argument("--bfloat16", action="store_true", help="write bfloat16 instead of float32")
    return parser


if __name__ == "__main__":
    sys.exit(main())
