"""What ``python tests/benchmarks engine`` measures, as one document of plain numbers.

Every ratio is the median of pairs: one side, then the other, again and again, so that a slow minute of the machine
slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from tests.benchmarks.engine.peaks import peak
from tests.benchmarks.engine.scenes import join, page, prefix
from tests.benchmarks.engine.sides import Ours, Theirs, ms, out_of_memory, prompt, until
from tests.benchmarks.engine.subject import BRANCH, Spec, Subject
from tests.engine.reference_generate import reference, until_end

from unwritten_engine.diffusion.loading.devices import free_bytes
from unwritten_engine.diffusion.loading.random_model import random_model
from unwritten_engine.diffusion.sampling_params import SamplingParams
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.engine import Progress

FIXED: Final = 16
"""Steps of a canvas for which tokens per second are told."""
_COPIES: Final = 9
"""Tensors of [positions, vocabulary] in float32 that ``generate()`` may hold together: so much must be free."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured.

    Attributes:
        spec: of the model.
        batches: how many canvases run together, each in turn.
        pairs: repetitions of each comparison.
        steps: of ours, in each run.
        their_steps: of ``generate()``, in each run; the first is not counted.
        prompt: tokens of a prompt.
        shared: tokens of a long beginning that requests share.
        seconds: a measurement of ``generate()`` that would take longer is left out.
    """

    spec: Spec = field(default_factory=Spec)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    pairs: int = 3
    steps: int = 4
    their_steps: int = 2
    prompt: int = 64
    shared: int = 2048
    seconds: float = 60.0


def measure(subject: Subject, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Everything but parity and memory."""
    theirs = Theirs(subject)
    pairs, steps, length, shared = settings.pairs, settings.steps, settings.prompt, settings.shared
    found: dict[str, Any] = {}
    progress(0.0, "One canvas, ours and generate() in turn")
    found |= _steps(subject, settings, theirs)
    progress(0.3, "Several canvases together")
    found["batches"] = _batches(subject, settings, theirs, found)
    progress(0.6, "A long beginning, read once or every time")
    found |= prefix(subject, pairs, length=length, shared=shared)
    progress(0.7, "The four canvases of a page")
    found |= page(subject, pairs, steps=steps, length=length, shared=shared)
    progress(0.85, "Joining what runs")
    found |= join(subject, pairs, steps=steps, length=length)
    return found


def _steps(subject: Subject, settings: Settings, theirs: Theirs) -> dict[str, Any]:
    ours = Ours(subject, rows=1, context=settings.prompt + subject.size)
    prompts = [prompt(subject, settings.prompt, 0)]
    ours.steps(prompts, 3)  # readies libraries, and captures the pass on a GPU
    if subject.device.type == "cuda":
        theirs.steps(prompts, 3)
    pairs = []
    for _ in range(settings.pairs):
        one = statistics.median(theirs.steps(prompts, settings.their_steps))
        pairs.append((one, statistics.median(ours.steps(prompts, settings.steps))))
    theirs.steps(prompts, settings.their_steps, watched=True)
    step, forward = statistics.median(mine for _, mine in pairs), ours.forward(1, 5)
    their_step, their_forward = statistics.median(one for one, _ in pairs), statistics.median(theirs.forwards[1:])
    return {
        "step_ratio": round(statistics.median(one / mine for one, mine in pairs), 2),
        "ms_per_step": ms(step),
        "forward_ms": ms(forward),
        "sampling_ms": ms(max(0.0, step - forward)),
        "steps_per_s": round(1 / step, 2),
        "tokens_per_s": tokens_per_second(subject, 1, step),
        "theirs_ms_per_step": ms(their_step),
        "theirs_forward_ms": ms(their_forward),
        "theirs_sampling_ms": ms(max(0.0, their_step - their_forward)),
        "theirs_steps_per_s": round(1 / their_step, 2),
        "theirs_tokens_per_s": tokens_per_second(subject, 1, their_step),
        "fixed_steps": FIXED,
        "graphs": "" if ours.batch.cuda_graphs is None else ours.batch.cuda_graphs.reason or "captured",
    }


def _batches(subject: Subject, settings: Settings, theirs: Theirs, single: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    their_ms: float | None = single["theirs_ms_per_step"]
    for size in settings.batches:
        prompts = [prompt(subject, settings.prompt, seed) for seed in range(size)]

        def mine(prompts: list[tuple[int, ...]] = prompts, size: int = size) -> list[float]:
            ours = Ours(subject, rows=size, context=settings.prompt + subject.size)
            ours.steps(prompts, 3)
            return ours.steps(prompts, settings.steps)

        def their(prompts: list[tuple[int, ...]] = prompts) -> list[float]:
            return theirs.steps(prompts, settings.their_steps)

        row: dict[str, Any] = {"batch": size, "why_not": ""}
        seconds = out_of_memory(subject, mine)
        row["ms"] = None if seconds is None else ms(statistics.median(seconds))
        row["tokens_per_s"] = None if seconds is None else tokens_per_second(subject, size, statistics.median(seconds))
        if size == 1:
            row["theirs_ms"] = their_ms
        else:
            row["theirs_ms"], row["why_not"] = _their_batch(subject, settings, size, single, their)
        row["ratio"] = round(row["theirs_ms"] / row["ms"], 2) if row["theirs_ms"] and row["ms"] else None
        rows.append(row)
    return rows


def _their_batch(
    subject: Subject, settings: Settings, size: int, single: dict[str, Any], work: Callable[[], list[float]]
) -> tuple[float | None, str]:
    """Milliseconds of ``generate()``'s step, or None and why not."""
    takes = single["theirs_ms_per_step"] / 1000 * settings.their_steps * (size if subject.device.type == "cpu" else 1)
    if takes > settings.seconds:
        return None, f"would take {takes:.0f} s"
    if subject.device.type == "cpu":
        needs = _COPIES * 4 * size * subject.size * subject.vocabulary
        if needs > free_bytes(subject.device):
            return None, f"would need {needs / 1e9:.0f} GB"
    seconds = out_of_memory(subject, work)
    return (None, "out of memory") if seconds is None else (ms(statistics.median(seconds)), "")


def memory(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Bytes beside the weights of one canvas, and how many times as many ``generate()`` takes."""
    ours, theirs = (
        peak(side, settings.spec, subject, batch=1, steps=2, length=settings.prompt) for side in ("ours", "theirs")
    )
    return {
        "peak_memory_ratio": round(theirs / ours, 1) if ours and theirs else None,
        "peak_mb": None if ours is None else round(ours / 1e6, 1),
        "theirs_peak_mb": None if theirs is None else round(theirs / 1e6, 1),
        "weights_mb": round(subject.weight_bytes / 1e6, 1),
    }


def parity(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Whether our loop comes to the same tokens as ``generate()`` with the same noise, here and now.

    Always on a very small model in float32; on the measured weights for two steps, if they are in float32.
    """
    small = parity_small(subject.device)
    if not subject.exact:
        return {"parity": None, "parity_small": small, "parity_reason": inexact(subject.kind)}
    mine = _equal(subject, length=settings.prompt, steps=2, canvases=1, batch=1)
    return {"parity": small and mine, "parity_small": small, "parity_reason": ""}


def parity_small(device: torch.device) -> bool:
    """The same on a very small model: three requests of two canvases."""
    model, tokenizer = random_model(vocabulary=1024, branch=BRANCH)
    model.to(device)
    reader = Detokenizer(tokenizer, frozenset({1}), 0, 1024)
    small = Subject(model, "small", reader, device, torch.float32, "float32", 0)
    return _equal(small, length=40, steps=8, canvases=2, batch=3)


def inexact(kind: str) -> str:
    """Why nobody asks for the same tokens there."""
    return f"not asked of weights in {kind}: sums in another order round to other tokens"


def _equal(subject: Subject, *, length: int, steps: int, canvases: int, batch: int) -> bool:
    ours = Ours(subject, rows=batch, context=length + canvases * subject.size)
    prompts, seeds = [prompt(subject, length, n) for n in range(batch)], list(range(7, 7 + batch))
    runs = [
        ours.run(tokens, steps=steps, seed=seed, canvases=canvases) for tokens, seed in zip(prompts, seeds, strict=True)
    ]
    until(ours, runs)
    dial: SamplingParams = runs[0].params
    found = reference(subject.model, prompts, seeds, dial, canvases, end=1)
    equal = (until_end(run.output_ids, 1) == until_end(ids, 1) for run, ids in zip(runs, found, strict=True))
    return all(equal) and all(run.steps > 1 for run in runs)


def tokens_per_second(subject: Subject, size: int, step: float) -> float:
    """Tokens per second of so many canvases with ``FIXED`` steps each."""
    return round(size * subject.size / (FIXED * step), 1)
