"""Peak memory of one step beside the weights.

On a GPU torch counts it. On a CPU only the system does, for a whole process. There each side runs in a process of its
own, which loads the model, runs, and prints how much its peak exceeds what it held before.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import torch
from tests.benchmarks.engine.bench_model import BenchModel, ModelSpec, open_bench_model
from tests.benchmarks.engine.runners import EngineRunner, ReferenceRunner, random_prompt, synchronize

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_ROOT = Path(__file__).parents[3]


def work(side: str, subject: BenchModel, batch: int, steps: int, length: int) -> None:
    """Run some steps of one side: "engine", "reference", or "nothing"."""
    prompts = [random_prompt(subject, length, seed) for seed in range(batch)]
    if side == "engine":
        EngineRunner(subject, rows=batch, context=length + subject.size).steps(prompts, steps)
    elif side == "reference":
        ReferenceRunner(subject).steps(prompts, steps)


def peak(side: str, spec: ModelSpec, subject: BenchModel, *, batch: int, steps: int, length: int) -> int | None:
    """Return the peak in bytes beside the weights, including caches and buffers; None if the run failed.

    Args:
        side: "engine" or "reference".
        spec: the model's description.
        subject: the model; on a CPU another process creates the same one.
        batch: number of requests.
        steps: steps of each.
        length: tokens of their prompts.
    """
    device = subject.device
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            work(side, subject, batch, steps, length)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return None
        return torch.cuda.max_memory_allocated(device) - before
    arguments = [side, spec.text(), str(batch), str(steps), str(length)]
    code = f"import sys; from {__name__} import main; main(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
    lines = done.stdout.strip().splitlines()
    return int(lines[-1]) if done.returncode == 0 and lines else None


def resident_bytes() -> int:
    """Return the bytes that this process holds."""
    return _field("VmRSS") if _STATUS.exists() else _peak_of_process()


def peak_bytes() -> int:
    """Return the peak of this process in bytes, since ``reset_peak`` where the system supports that."""
    return _field("VmHWM") if _STATUS.exists() else _peak_of_process()


def reset_peak() -> None:
    """Reset the peak. Without support by the system, the peak counts from the start of the process."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return


def return_free_memory() -> None:
    """Return free memory of this process to the system. Memory left over from loading would hide what a step needs."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if malloc_trim is not None:  # glibc only
        malloc_trim(0)


def _field(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _peak_of_process() -> int:
    import resource  # not on Windows

    number = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return number if sys.platform == "darwin" else number * 1024


def main(side: str, text: str, batch: str, steps: str, length: str) -> None:
    """Load the model, run one side, and print the peak in bytes."""
    spec = ModelSpec.read(text)
    subject = open_bench_model(spec)
    torch.mm(torch.ones(512, 512), torch.ones(512, 512))  # the first matrix product loads libraries and starts threads
    return_free_memory()
    reset_peak()
    before = resident_bytes()
    work(side, subject, int(batch), int(steps), int(length))
    print(max(0, peak_bytes() - before))
