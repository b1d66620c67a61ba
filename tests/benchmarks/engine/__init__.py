"""Measures the denoising loop beside ``generate()`` of transformers: the same weights, one run, in turn.

For ``python tests/benchmarks engine``, which prints what ``bench`` returns.
"""

from __future__ import annotations

from typing import Any

from tests.benchmarks.engine.full import measure_full
from tests.benchmarks.engine.machine import machine
from tests.benchmarks.engine.measure import Settings, measure, memory, parity
from tests.benchmarks.engine.subject import FULL, SMALL, Spec, open_subject

from unwritten_engine.engine import Progress
from unwritten_engine.threads import choose_num_threads

QUICK_SIZES = {"vocabulary": 2048, "canvas": 32, "layers": 2, "experts": 4}
"""A body with which everything takes seconds. Its figures mean nothing."""
QUICK_FULL = {
    "canvas": 16,
    "vocab_size": 2048,
    "hidden_size": 128,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_experts": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_global_key_value_heads": 1,
    "head_dim": 32,
    "global_head_dim": 64,
}
"""The same for the real architecture: its own path, with everything small."""


def bench(
    reference: str,
    *,
    device: str | None = None,
    kind: str | None = None,
    threads: int | None = None,
    layers: int | None = None,
    batches: tuple[int, ...] = (1, 2, 4, 8, 16),
    pairs: int = 3,
    quick: bool = False,
    progress: Progress = lambda share, doing: None,
) -> dict[str, Any]:
    """Measure a model.

    Args:
        reference: "small" (a small random body at the real vocabulary), "full" (the real architecture, random),
            "random", a checkpoint folder or OWNER/REPO.
        device: as torch names it; None takes a GPU if there is one.
        kind: how the weights are kept, "bf16", "int8" or "nf4"; None takes what fits, or for "full" all in turn.
        threads: of torch on a CPU; None chooses.
        layers: of "small" and "full", if not as many as they have.
        batches: canvases together.
        pairs: repetitions of each comparison.
        quick: everything small, so that it takes seconds; the figures mean nothing.
        progress: told what is being measured.

    Returns:
        Plain numbers, strings and lists; keys are explained in the engine's README.

    Raises:
        BadOption, ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: the model cannot be measured here.
    """
    sizes = dict((QUICK_FULL if reference == FULL else QUICK_SIZES) if quick else {})
    if layers is not None:
        sizes["num_hidden_layers" if reference == FULL else "layers"] = layers
    spec = Spec(
        reference,
        device=device,
        kind=kind,
        sizes=sizes if reference in (SMALL, FULL) else {},
        threads=threads or choose_num_threads()[0],
    )
    settings = Settings(spec, batches=batches, pairs=pairs)
    if quick:
        settings = Settings(spec, batches=batches, pairs=pairs, steps=3, prompt=16, shared=48)
    if reference == FULL:
        return {"model": reference, **measure_full(settings, progress)}
    subject = open_subject(spec, progress)
    where = machine(subject.device)
    found = measure(subject, settings, progress)
    progress(0.9, "Token for token")
    found |= parity(subject, settings)
    progress(0.95, "Memory")
    found |= memory(subject, settings)
    return {**where, "model": reference, "name": subject.name, "kind": subject.kind, **found}
