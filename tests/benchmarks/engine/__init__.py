"""Compare the denoising loop with ``generate()`` of transformers on the same weights, in alternating runs.

``python tests/benchmarks engine`` prints the results of ``bench``. Where vLLM is installed, they include it.
"""

from __future__ import annotations

from typing import Any

from tests.benchmarks.engine.bench_model import SMALL, ModelSpec, open_bench_model
from tests.benchmarks.engine.machine import describe_machine
from tests.benchmarks.engine.measure import Settings, measure, memory, parity

from unwritten_engine.engine import Progress
from unwritten_engine.threads import choose_num_threads
from unwritten_engine.vllm.internals import installed_version, is_supported

QUICK_SIZES = {"vocabulary": 2048, "canvas": 32, "layers": 2, "experts": 4}
"""A model with which everything takes seconds. Its results have no meaning."""


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
        reference: "small" (a small random model with the full vocabulary), "random", a checkpoint folder or OWNER/REPO.
        device: torch's device name; None uses a GPU if there is one.
        kind: weight format, "bf16", "int8" or "nf4"; None uses what fits.
        threads: threads of torch on a CPU; None chooses.
        layers: number of layers of "small"; None for all.
        batches: batch sizes in canvases.
        pairs: repetitions of each comparison.
        quick: use small sizes, which take seconds; the results have no meaning.
        progress: called with the share done and the current measurement.

    Returns:
        Numbers, strings and lists that can be written as JSON.

    Raises:
        BadOption, ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: the model cannot be measured here.
    """
    sizes = dict(QUICK_SIZES if quick else {})
    if layers is not None:
        sizes["layers"] = layers
    spec = ModelSpec(
        reference,
        device=device,
        kind=kind,
        sizes=sizes if reference == SMALL else {},
        threads=threads or choose_num_threads()[0],
    )
    settings = Settings(spec, batches=batches, pairs=pairs)
    if quick:
        settings = Settings(spec, batches=batches, pairs=pairs, steps=3, prompt=16, shared=48)
    subject = open_bench_model(spec, progress)
    where = describe_machine(subject.device)
    found = measure(subject, settings, progress)
    progress(0.9, "Token for token")
    found |= parity(subject, settings)
    progress(0.95, "Memory")
    found |= memory(subject, settings)
    progress(0.97, "vLLM")
    found |= _vllm(pairs)
    return {**where, "model": reference, "name": subject.name, "kind": subject.kind, **found}


def _vllm(pairs: int) -> dict[str, Any]:
    """Return the figures of vLLM, or None and the reason if it is not installed."""
    version = installed_version()
    if version is None or not is_supported(version):
        return {"vllm": None, "vllm_reason": f"vLLM {version or 'is not installed'}"}
    from tests.benchmarks.engine.vllm_side import measure_vllm

    return {"vllm": measure_vllm(pairs), "vllm_reason": ""}
