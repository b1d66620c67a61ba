"""``python tests/benchmarks gpu``: check the diffusion engine on the GPUs of this machine, and log the results."""

from __future__ import annotations

import datetime
import importlib
import json
from pathlib import Path
from typing import Any

import click

LOG = Path(__file__).resolve().parents[2] / "engine" / "LOG.md"


@click.command()
@click.option("--minutes", type=click.FloatRange(0.5), default=8.0, show_default=True, help="Time limit.")
@click.option("--device", default=None, help="As torch names it; else all GPUs.")
@click.option("--small", is_flag=True, help="Small sizes, to try this program.")
@click.option("--log", type=click.Path(path_type=Path), default=None, help="Where to write; else engine/LOG.md.")
def command(minutes: float, device: str | None, small: bool, log: Path | None) -> None:
    """Check the diffusion engine on the GPUs of this machine, in eight minutes.

    The results are added to the log, except those of small sizes.
    """
    gpu: Any = importlib.import_module("tests.benchmarks.engine.gpu")  # imports torch
    results = gpu.check_gpus(
        minutes=minutes, device=device, small=small, progress=lambda doing: click.echo(f"{doing} …", err=True)
    )
    for found in results:
        section = describe(found)
        click.echo(f"\n{section}")
        if log is not None or not found["small"]:
            add_to_log(log or LOG, section)
    click.echo(json.dumps(results))


def describe(found: dict[str, Any]) -> str:
    """Return a section of the log about a device."""
    gpu: Any = importlib.import_module("tests.benchmarks.engine.gpu")
    machine, today = found["machine"], datetime.date.today().isoformat()
    size = "a small model" if found["small"] else "the full size"
    remarks = [remark for remark in (gpu.not_checked(found), machine["warning"]) if remark]
    return "\n".join(
        [
            f"## {today}: the diffusion engine on {machine['device']}, {size}: measured",
            "",
            f"`python tests/benchmarks gpu`, random weights, torch {machine['torch']}, "
            f"transformers {machine['transformers']}.",
            "",
            *gpu.table(found),
            *(line for remark in remarks for line in ("", remark)),
        ]
    )


def add_to_log(log: Path, section: str) -> None:
    """Insert a section before the first one of the log."""
    text = log.read_text(encoding="utf-8")
    head, mark, rest = text.partition("\n## ")
    log.write_text(f"{head}\n{section}\n{mark}{rest}" if mark else f"{text}\n{section}\n", encoding="utf-8")
