"""``python tests/benchmarks engine``: the diffusion engine's loop and ``generate()`` of transformers.

This module has the command line and the table. ``tests.benchmarks.engine`` measures.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import click
from tests.benchmarks.report import report

from unwritten_engine import EngineError
from unwritten_engine.errors import MissingPackage

Rows = list[tuple[str, str, str]]


@click.command()
@click.option(
    "--model",
    default="small",
    show_default=True,
    help="small (a small random body at the real vocabulary), random, a checkpoint folder or OWNER/REPO.",
)
@click.option("--device", default=None, help="As torch names it; else a GPU if there is one.")
@click.option("--kind", type=click.Choice(["bf16", "int8", "nf4"]), default=None, help="How the weights are kept.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Threads of torch on a CPU.")
@click.option("--layers", type=click.IntRange(1), default=None, help="Layers of small, to try a part.")
@click.option("--batches", default="1,2,4,8,16", show_default=True, help="Canvases that run together.")
@click.option("--pairs", type=click.IntRange(1), default=3, show_default=True, help="Repetitions of each comparison.")
@click.option("--quick", is_flag=True, help="Everything small: seconds, and figures that mean nothing.")
def command(
    model: str,
    device: str | None,
    kind: str | None,
    threads: int | None,
    layers: int | None,
    batches: str,
    pairs: int,
    quick: bool,
) -> None:
    """Compare the diffusion engine with generate() of transformers."""
    try:
        document = _bench()(
            model,
            device=device,
            kind=kind,
            threads=threads,
            layers=layers,
            batches=_counts(batches),
            pairs=pairs,
            quick=quick,
            progress=_told,
        )
    except EngineError as error:
        raise click.ClickException(str(error)) from error
    print(file=sys.stderr)
    if document["warning"]:
        click.echo(f"Warning: {document['warning']}", err=True)
    report(_title(document), rows(document), document)


def _bench() -> Any:
    """Return the function that measures. It imports torch."""
    try:
        return importlib.import_module("tests.benchmarks.engine").bench
    except ImportError as error:
        raise MissingPackage(
            f'This benchmark needs torch and transformers ({error}). Type: pip install "unwritten[diffusion]"'
        ) from error


def _counts(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise click.BadParameter(f"{text!r} is not a list of counts such as 1,2,4.", param_hint="--batches")
    return found


def _told(share: float, doing: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{doing} …", nl=False, err=True)


def _title(found: Mapping[str, Any]) -> str:
    where = f"{found['device']}, {found['threads']} threads" if found["device"] == "CPU" else found["device"]
    versions = f"torch {found['torch']}, transformers {found['transformers']}"
    return f"Our loop beside generate(): {found['name']}, {found['kind']}\n{where}, {versions}"


def rows(found: Mapping[str, Any]) -> Rows:
    """Return the rows of the table."""
    gpu = found["device"] != "CPU"
    table: Rows = [
        ("steps per second, over generate()", f"{found['step_ratio']} ×", "≥ 3 ×" if gpu else "≥ 4 ×"),
        ("one step: ours", f"{found['ms_per_step']} ms", ""),
        ("  of it layers", f"{found['forward_ms']} ms", ""),
        ("  of it sampling and the rest", f"{found['sampling_ms']} ms", ""),
        ("one step: generate()", f"{found['reference_ms_per_step']} ms", ""),
        ("  of it layers", f"{found['reference_forward_ms']} ms", ""),
        ("  of it sampling and the rest", f"{found['reference_sampling_ms']} ms", ""),
    ]
    steps = found["fixed_steps"]
    table += [_batch_row(row, steps) for row in found["batches"]]
    table += [
        (f"first draft with {found['prefix_tokens']} shared tokens: read", f"{found['first_draft_cold_ms']} ms", ""),
        ("  kept", f"{found['first_draft_warm_ms']} ms", ""),
        ("  ratio", f"{found['prefix_ratio']} ×", ""),
        ("a page of four canvases: one by one", f"{found['page_one_by_one_ms']} ms", ""),
        ("  together", f"{found['page_together_ms']} ms", ""),
        ("  ratio", f"{found['page_batch_ratio']} ×", "≥ 3 ×" if gpu else "≥ 1.1 ×"),
        ("  all four have a draft after", f"{found['page_first_drafts_ms']} ms", ""),
        ("  before any of them has settled", _yes(found["first_drafts_before_settled"]), "yes"),
        ("first draft of one who joins", f"{found['join_first_draft_ms']} ms", ""),
        ("  of one who waits for the end", f"{found['wait_first_draft_ms']} ms", ""),
        ("  both done, joined and waited", f"{found['join_both_done_ms']}, {found['wait_both_done_ms']} ms", ""),
        ("memory of a step beside the weights: ours", _mb(found["peak_mb"]), ""),
        ("  generate()", _mb(found["reference_peak_mb"]), ""),
        ("  ratio", "-" if found["peak_memory_ratio"] is None else f"{found['peak_memory_ratio']} ×", ""),
        ("the same tokens as generate(), small model", _yes(found["parity_small"]), "yes"),
    ]
    same = found["parity_reason"] if found["parity"] is None else _yes(found["parity"])
    table.append(("the same tokens as generate(), this model", same, "" if found["parity"] is None else "yes"))
    if found["graphs"] not in ("", "captured"):
        table.append(("CUDA graphs", found["graphs"], "captured"))
    table += _vllm_rows(found)
    if found["warning"]:
        table.append(("WARNING", found["warning"], ""))
    return table


def _batch_row(row: Mapping[str, Any], steps: int) -> tuple[str, str, str]:
    if row["ms"] is None:
        return f"{row['batch']} together", "out of memory", ""
    theirs = f"generate() {row['reference_ms']} ms" if row["reference_ms"] else f"generate() {row['why_not']}"
    return (
        f"{row['batch']} together",
        f"{row['ms']} ms a step, {row['tokens_per_s']} tokens/s at {steps} steps; {theirs}",
        "",
    )


def _vllm_rows(found: Mapping[str, Any]) -> Rows:
    if found.get("vllm") is None:
        return [("vLLM", f"not measured: {found['vllm_reason']}", "")] if "vllm_reason" in found else []
    row = found["vllm"]
    steps = f"{row['ms_per_step']} ms, with drafts {row['ms_per_step_with_drafts']} ms"
    return [
        (f"vLLM {row['version']}, small model: its logits differ from ours by", f"{row['logit_error']:.1e}", "≤ 1e-4"),
        ("  steps of a canvas", f"{row['steps']}", ""),
        ("  one step", steps, "≤ 2 % more"),
        ("  drafts take from the model's thread, per step", f"{row['draft_ms']} ms", ""),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _mb(value: float | None) -> str:
    return "out of memory" if value is None else f"{value} MB"
