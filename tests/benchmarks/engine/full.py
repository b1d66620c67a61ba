"""The real architecture, in bf16, 8 bits and 4 bits in turn: what fits, what a step takes, how near the floor that is.

The floor of a step is the time in which the bytes that it must read can be read: all weights once (with random weights,
and nearly so with trained ones, the 256 positions of a canvas choose every expert), over the bandwidth that is measured
here and now by reading a large tensor.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from typing import Any, Final

import torch
from tests.benchmarks.engine.built_model import real_config
from tests.benchmarks.engine.machine import machine
from tests.benchmarks.engine.measure import Settings, inexact, measure, memory, parity_small
from tests.benchmarks.engine.peaks import forget, highest, resident
from tests.benchmarks.engine.sides import prompt, synchronize
from tests.benchmarks.engine.subject import Subject, open_subject
from tests.support.logits import canvas_logits, compare

from unwritten_engine.diffusion.loading import devices
from unwritten_engine.diffusion.loading.memory_plan import KINDS, gigabytes, required_bytes, weight_bytes
from unwritten_engine.diffusion.loading.model_config import read_model_config
from unwritten_engine.engine import Progress
from unwritten_engine.errors import ModelUnsupported


def measure_full(settings: Settings, progress: Progress) -> dict[str, Any]:
    """Every way of keeping the weights that fits.

    Returns:
        The document of the first one that fits, and under "kinds" the figures of each, or why it was left out.

    Raises:
        ModelUnsupported: none fits, or there is no GPU for the real size.
    """
    device = devices.find_device(settings.spec.device)
    sizes = read_model_config(real_config(**settings.spec.sizes), "the real architecture")
    if device.type == "cpu" and not settings.spec.sizes and settings.spec.device is None:
        raise ModelUnsupported(
            f"The real size wants a GPU, and torch sees none here: it takes {gigabytes(weight_bytes(sizes, 'nf4'))} in "
            f"4 bits, and on a processor minutes a step. To try the same path with a few layers, add --layers 2; to do "
            f"it all the same, add --device cpu."
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
        subject, load_peak, seconds = loaded(spec, device, progress)
        found = canvas_logits(subject.model, *_example(subject)).float().cpu()
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
            **{key: part[key] for key in _KEPT},
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
        _tidy(device)
    if not document:
        raise ModelUnsupported(" ".join(f"{row['refused']}." for row in rows.values()))
    checked = {
        "parity": None,
        "parity_small": parity_small(device),
        "parity_reason": inexact(", ".join(kind for kind, row in rows.items() if not row["refused"])),
    }
    return {**machine(device), **document, **checked, "bandwidth_gb_s": round(bandwidth / 1e9, 1), "kinds": rows}


_KEPT: Final = (
    "step_ratio",
    "ms_per_step",
    "forward_ms",
    "sampling_ms",
    "tokens_per_s",
    "theirs_ms_per_step",
    "page_batch_ratio",
    "prefix_ratio",
    "graphs",
)


def loaded(spec: Any, device: torch.device, progress: Progress) -> tuple[Subject, int, float]:
    """The model, the most bytes that making it took, and the seconds."""
    begun = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        subject = open_subject(spec, progress)
        synchronize(device)
        most = torch.cuda.max_memory_allocated(device)
    else:
        forget()
        before = resident()
        subject = open_subject(spec, progress)
        most = highest() - before
    return subject, most, time.perf_counter() - begun


def touched_bytes(subject: Subject) -> int:
    """Bytes of weights that one step reads at least: all of the decoder, with its table once, packed where they are."""
    seen = {}
    decoder = subject.model.model.decoder
    for tensor in (*decoder.parameters(), *decoder.buffers()):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def read_bandwidth(device: torch.device, repeats: int = 5) -> float:
    """Bytes per second at which a tensor larger than any cache is read and summed, or copied if that is quicker."""
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
            begun = time.perf_counter()
            work()
            synchronize(device)
            seconds.append(time.perf_counter() - begun)
        best = max(best, size / statistics.median(seconds[1:]))
    return best


def _example(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    ids = [torch.tensor([prompt(subject, length, 9)], device=subject.device) for length in (32, subject.size)]
    return ids[0], ids[1]


def _tidy(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
