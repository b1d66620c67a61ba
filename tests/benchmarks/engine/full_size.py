"""The full architecture in bf16, 8 bits and 4 bits: what fits, the time of a step, and its lower bound.

The lower bound of a step is the time to read the bytes that it needs at the measured memory bandwidth. A step reads all
weights once: with random weights, and almost with trained ones, the 256 positions of a canvas use every expert.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from typing import Any, Final

import torch
from tests.benchmarks.engine.bench_model import BenchModel, open_bench_model
from tests.benchmarks.engine.machine import describe_machine
from tests.benchmarks.engine.measure import Settings, measure, memory, no_parity_reason, small_parity
from tests.benchmarks.engine.peak_memory import peak_bytes, reset_peak, resident_bytes
from tests.benchmarks.engine.random_weights import full_size_config
from tests.benchmarks.engine.runners import random_prompt, synchronize
from tests.support.logits import canvas_logits, compare

from unwritten_engine.diffusion.loading import devices
from unwritten_engine.diffusion.loading.memory_plan import KINDS, gigabytes, required_bytes, weight_bytes
from unwritten_engine.diffusion.loading.model_config import read_model_config
from unwritten_engine.engine import Progress
from unwritten_engine.errors import ModelUnsupported


def measure_full(settings: Settings, progress: Progress) -> dict[str, Any]:
    """Measure each weight format that fits.

    Returns:
        The results of the first format that fits, and under "kinds" those of each, or why it was left out.

    Raises:
        ModelUnsupported: none fits, or there is no GPU for the full size.
    """
    device = devices.find_device(settings.spec.device)
    sizes = read_model_config(full_size_config(**settings.spec.sizes), "the full architecture")
    if device.type == "cpu" and not settings.spec.sizes and settings.spec.device is None:
        raise ModelUnsupported(
            f"The full size needs a GPU, and torch finds none: it has {gigabytes(weight_bytes(sizes, 'nf4'))} in 4 "
            f"bits, and a step on the CPU takes minutes. To measure a few layers, add --layers 2; to run it on the CPU "
            f"anyway, add --device cpu."
        )
    kinds = KINDS if settings.spec.kind is None else (settings.spec.kind,)
    document: dict[str, Any] = {}
    logits: torch.Tensor | None = None
    rows: dict[str, dict[str, Any]] = {}
    bandwidth = read_bandwidth(device)
    for kind in kinds:
        free, size = devices.free_bytes(device), required_bytes(sizes, kind, 1)
        if size > free:
            rows[kind] = {
                "refused": f"{devices.describe_device(device)} has {gigabytes(free)} free, "
                f"and {kind} takes {gigabytes(size)}"
            }
            continue
        spec = dataclasses.replace(settings.spec, kind=kind)
        subject, load_peak, seconds = load_timed(spec, device, progress)
        found = canvas_logits(subject.model, *_example_ids(subject)).float().cpu()
        agreement = {} if logits is None else dataclasses.asdict(compare(logits, found))
        logits = found if logits is None and kind == "bf16" else logits
        part = measure(subject, dataclasses.replace(settings, spec=spec), progress)
        touched = touched_bytes(subject)
        rows[kind] = {
            "refused": "",
            "load_peak_gb": round(load_peak / 1e9, 6),
            "load_s": round(seconds, 1),
            "weights_gb": round(subject.weight_bytes / 1e9, 6),
            "touched_gb": round(touched / 1e9, 6),
            "floor_ms": round(touched / bandwidth * 1000, 3),
            "logit_error": agreement.get("error"),
            "argmax_agreement": agreement.get("agreement"),
            **{key: part[key] for key in _KEYS_PER_KIND},
            "batches": part["batches"],
        }
        if not document:
            document = {
                **part,
                "kind": kind,
                "name": subject.name,
                **memory(subject, dataclasses.replace(settings, spec=spec)),
            }
        del subject
        _free_memory(device)
    if not document:
        raise ModelUnsupported(" ".join(f"{row['refused']}." for row in rows.values()))
    checked = {
        "parity": None,
        "parity_small": small_parity(device),
        "parity_reason": no_parity_reason(", ".join(kind for kind, row in rows.items() if not row["refused"])),
    }
    return {
        **describe_machine(device),
        **document,
        **checked,
        "bandwidth_gb_s": round(bandwidth / 1e9, 1),
        "kinds": rows,
    }


_KEYS_PER_KIND: Final = (
    "step_ratio",
    "ms_per_step",
    "forward_ms",
    "sampling_ms",
    "tokens_per_s",
    "reference_ms_per_step",
    "page_batch_ratio",
    "prefix_ratio",
    "graphs",
)


def load_timed(spec: Any, device: torch.device, progress: Progress) -> tuple[BenchModel, int, float]:
    """Return the model, the peak memory in bytes while it was loaded, and the seconds."""
    start = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        subject = open_bench_model(spec, progress)
        synchronize(device)
        most = torch.cuda.max_memory_allocated(device)
    else:
        reset_peak()
        before = resident_bytes()
        subject = open_bench_model(spec, progress)
        most = peak_bytes() - before
    return subject, most, time.perf_counter() - start


def touched_bytes(subject: BenchModel) -> int:
    """Return the bytes of weights that a step reads at least: the decoder, with its embedding table once."""
    seen = {}
    decoder = subject.model.model.decoder
    for tensor in (*decoder.parameters(), *decoder.buffers()):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def read_bandwidth(device: torch.device, repeats: int = 5) -> float:
    """Return the memory bandwidth in bytes per second, for reading or copying a tensor larger than any cache."""
    numbers = torch.ones((512 if device.type == "cuda" else 64) * 1024**2, device=device)
    target = torch.empty_like(numbers)

    def read() -> object:
        return numbers.sum()

    def copy() -> object:
        return target.copy_(numbers)

    best = 0.0
    for work, size in ((read, numbers.nbytes), (copy, 2 * numbers.nbytes)):
        seconds = []
        for _ in range(repeats):
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            seconds.append(time.perf_counter() - start)
        best = max(best, size / statistics.median(seconds[1:]))
    return best


def _example_ids(subject: BenchModel) -> tuple[torch.Tensor, torch.Tensor]:
    ids = [torch.tensor([random_prompt(subject, length, 9)], device=subject.device) for length in (32, subject.size)]
    return ids[0], ids[1]


def _free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
