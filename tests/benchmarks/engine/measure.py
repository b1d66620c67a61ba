"""The measurements of ``python tests/benchmarks engine``.

Every ratio is the median of pairs of alternating runs, so that a slow period of the machine slows both sides.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import torch
from tests.benchmarks.engine.bench_model import BRANCH, BenchModel, ModelSpec
from tests.benchmarks.engine.peak_memory import peak
from tests.benchmarks.engine.runners import (
    EngineRunner,
    ReferenceRunner,
    out_of_memory,
    random_prompt,
    run_until,
    to_ms,
)
from tests.benchmarks.engine.scenarios import join, page, prefix
from tests.engine.reference_generate import reference_generate, until_end

from unwritten_engine.diffusion.diffusion_gemma.random_model import random_model
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SamplingParams
from unwritten_engine.diffusion.loading.devices import free_bytes
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.engine import Progress

STEPS_PER_CANVAS: Final = 16
"""Steps of a canvas for which tokens per second are reported."""
_REFERENCE_COPIES: Final = 9
"""Float32 tensors of [positions, vocabulary] that ``generate()`` may hold at once: this much memory must be free."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        spec: the model.
        batches: batch sizes in canvases.
        pairs: repetitions of each comparison.
        steps: steps per run of the engine.
        reference_steps: steps per run of ``generate()``; the first is not counted.
        prompt: tokens of a prompt.
        shared: tokens of a long shared prefix.
        seconds: a measurement of ``generate()`` that would take longer is left out.
    """

    spec: ModelSpec = field(default_factory=ModelSpec)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    pairs: int = 3
    steps: int = 4
    reference_steps: int = 2
    prompt: int = 64
    shared: int = 2048
    seconds: float = 60.0


def measure(subject: BenchModel, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Measure everything except parity and memory."""
    reference = ReferenceRunner(subject)
    pairs, steps, length, shared = settings.pairs, settings.steps, settings.prompt, settings.shared
    found: dict[str, Any] = {}
    progress(0.0, "One canvas, engine and generate()")
    found |= _steps(subject, settings, reference)
    progress(0.3, "Several canvases together")
    found["batches"] = _batches(subject, settings, reference, found)
    progress(0.6, "A long shared prefix, with and without cache")
    found |= prefix(subject, pairs, length=length, shared=shared)
    progress(0.7, "The four canvases of a page")
    found |= page(subject, pairs, steps=steps, length=length, shared=shared)
    progress(0.85, "Joining a running batch")
    found |= join(subject, pairs, steps=steps, length=length)
    return found


def _steps(subject: BenchModel, settings: Settings, reference: ReferenceRunner) -> dict[str, Any]:
    engine = EngineRunner(subject, rows=1, context=settings.prompt + subject.size)
    prompts = [random_prompt(subject, settings.prompt, 0)]
    engine.steps(prompts, 3)  # initializes libraries, and captures CUDA graphs
    if subject.device.type == "cuda":
        reference.steps(prompts, 3)
    pairs = []
    for _ in range(settings.pairs):
        one = statistics.median(reference.steps(prompts, settings.reference_steps))
        pairs.append((one, statistics.median(engine.steps(prompts, settings.steps))))
    reference.steps(prompts, settings.reference_steps, time_layers=True)
    step, forward = statistics.median(measured for _, measured in pairs), engine.forward(1, 5)
    reference_step, reference_forward = (
        statistics.median(one for one, _ in pairs),
        statistics.median(reference.layer_seconds[1:]),
    )
    return {
        "step_ratio": round(statistics.median(one / measured for one, measured in pairs), 2),
        "ms_per_step": to_ms(step),
        "forward_ms": to_ms(forward),
        "sampling_ms": to_ms(max(0.0, step - forward)),
        "steps_per_s": round(1 / step, 2),
        "tokens_per_s": tokens_per_second(subject, 1, step),
        "reference_ms_per_step": to_ms(reference_step),
        "reference_forward_ms": to_ms(reference_forward),
        "reference_sampling_ms": to_ms(max(0.0, reference_step - reference_forward)),
        "reference_steps_per_s": round(1 / reference_step, 2),
        "reference_tokens_per_s": tokens_per_second(subject, 1, reference_step),
        "fixed_steps": STEPS_PER_CANVAS,
        "graphs": _graphs(engine),
    }


def _graphs(engine: EngineRunner) -> str:
    graphs = engine.runner.cuda_graphs
    return "" if graphs is None else "; ".join(sorted(set(graphs.failures.values()))) or "captured"


def _batches(
    subject: BenchModel, settings: Settings, reference: ReferenceRunner, single: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    reference_ms: float | None = single["reference_ms_per_step"]
    for size in settings.batches:
        prompts = [random_prompt(subject, settings.prompt, seed) for seed in range(size)]

        def run_engine(prompts: list[tuple[int, ...]] = prompts, size: int = size) -> list[float]:
            engine = EngineRunner(subject, rows=size, context=settings.prompt + subject.size)
            engine.steps(prompts, 3)
            return engine.steps(prompts, settings.steps)

        def run_reference(prompts: list[tuple[int, ...]] = prompts) -> list[float]:
            return reference.steps(prompts, settings.reference_steps)

        row: dict[str, Any] = {"batch": size, "why_not": ""}
        seconds = out_of_memory(subject, run_engine)
        row["ms"] = None if seconds is None else to_ms(statistics.median(seconds))
        row["tokens_per_s"] = None if seconds is None else tokens_per_second(subject, size, statistics.median(seconds))
        if size == 1:
            row["reference_ms"] = reference_ms
        else:
            row["reference_ms"], row["why_not"] = _reference_batch(subject, settings, size, single, run_reference)
        row["ratio"] = round(row["reference_ms"] / row["ms"], 2) if row["reference_ms"] and row["ms"] else None
        rows.append(row)
    return rows


def _reference_batch(
    subject: BenchModel, settings: Settings, size: int, single: dict[str, Any], work: Callable[[], list[float]]
) -> tuple[float | None, str]:
    """Return the milliseconds of a step of ``generate()``, or None and why it was not measured."""
    takes = (
        single["reference_ms_per_step"]
        / 1000
        * settings.reference_steps
        * (size if subject.device.type == "cpu" else 1)
    )
    if takes > settings.seconds:
        return None, f"would take {takes:.0f} s"
    if subject.device.type == "cpu":
        needs = _REFERENCE_COPIES * 4 * size * subject.size * subject.vocabulary
        if needs > free_bytes(subject.device):
            return None, f"would need {needs / 1e9:.0f} GB"
    seconds = out_of_memory(subject, work)
    return (None, "out of memory") if seconds is None else (to_ms(statistics.median(seconds)), "")


def memory(subject: BenchModel, settings: Settings) -> dict[str, Any]:
    """Return the memory of one canvas beside the weights, and the ratio to ``generate()``."""
    engine, reference = (
        peak(side, settings.spec, subject, batch=1, steps=2, length=settings.prompt) for side in ("engine", "reference")
    )
    return {
        "peak_memory_ratio": round(reference / engine, 1) if engine and reference else None,
        "peak_mb": None if engine is None else round(engine / 1e6, 1),
        "reference_peak_mb": None if reference is None else round(reference / 1e6, 1),
        "weights_mb": round(subject.weight_bytes / 1e6, 1),
    }


def parity(subject: BenchModel, settings: Settings) -> dict[str, Any]:
    """Check whether the loop produces the same tokens as ``generate()`` with the same random numbers.

    A tiny float32 model is always checked; the measured model is checked for two steps if it is in float32.
    """
    small = small_parity(subject.device)
    if not subject.exact:
        return {"parity": None, "parity_small": small, "parity_reason": no_parity_reason(subject.kind)}
    measured = _equal(subject, length=settings.prompt, steps=2, canvases=1, batch=1)
    return {"parity": small and measured, "parity_small": small, "parity_reason": ""}


def small_parity(device: torch.device) -> bool:
    """Check parity on a tiny model, with three requests of two canvases."""
    model, tokenizer = random_model(vocabulary=1024, branch=BRANCH)
    model.to(device)
    detokenizer = Detokenizer(tokenizer, frozenset({1}), 0, 1024)
    small = BenchModel(model, "small", detokenizer, device, torch.float32, "float32", 0)
    return _equal(small, length=40, steps=8, canvases=2, batch=3)


def no_parity_reason(kind: str) -> str:
    """Explain why parity is not checked for these weights."""
    return f"not checked for weights in {kind}: another order of summation rounds to other tokens"


def _equal(subject: BenchModel, *, length: int, steps: int, canvases: int, batch: int) -> bool:
    engine = EngineRunner(subject, rows=batch, context=length + canvases * subject.size)
    prompts, seeds = [random_prompt(subject, length, n) for n in range(batch)], list(range(7, 7 + batch))
    runs = [
        engine.run(tokens, steps=steps, seed=seed, canvases=canvases)
        for tokens, seed in zip(prompts, seeds, strict=True)
    ]
    run_until(engine, runs)
    params = cast(SamplingParams, runs[0].params)
    found = reference_generate(subject.model, prompts, seeds, params, canvases, end=1)
    equal = (until_end(run.output_ids, 1) == until_end(ids, 1) for run, ids in zip(runs, found, strict=True))
    return all(equal) and all(run.steps > 1 for run in runs)


def tokens_per_second(subject: BenchModel, size: int, step: float) -> float:
    """Return the tokens per second of ``size`` canvases with ``STEPS_PER_CANVAS`` steps each."""
    return round(size * subject.size / (STEPS_PER_CANVAS * step), 1)
