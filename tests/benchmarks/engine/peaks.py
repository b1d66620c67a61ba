"""The memory of one step beside the weights, at its peak.

On a GPU torch counts it. On a CPU nobody does but the system, for a whole process. So each side gets a process of its
own, which loads the model, notes what it holds, runs, and prints by how much its peak was higher.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import torch
from tests.benchmarks.engine.sides import Ours, Theirs, prompt, synchronize
from tests.benchmarks.engine.subject import Spec, Subject, open_subject

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_ROOT = Path(__file__).parents[3]


def work(side: str, subject: Subject, batch: int, steps: int, length: int) -> None:
    """Some steps of one side: "ours", "theirs", or "nothing"."""
    prompts = [prompt(subject, length, seed) for seed in range(batch)]
    if side == "ours":
        Ours(subject, rows=batch, context=length + subject.size).steps(prompts, steps)
    elif side == "theirs":
        Theirs(subject).steps(prompts, steps)


def peak(side: str, spec: Spec, subject: Subject, *, batch: int, steps: int, length: int) -> int | None:
    """Bytes beside the weights, caches and all buffers of that side included; None if it did not come to its end.

    Args:
        side: "ours" or "theirs".
        spec: of the model.
        subject: the model; on a CPU another process makes one like it.
        batch: requests together.
        steps: of each.
        length: of their prompts, in tokens.
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


def resident() -> int:
    """Bytes that this process holds."""
    return _field("VmRSS") if _STATUS.exists() else _most()


def highest() -> int:
    """The most bytes that this process has held, since ``forget`` where the system can forget."""
    return _field("VmHWM") if _STATUS.exists() else _most()


def forget() -> None:
    """Begin to look for the peak anew; where the system cannot, the peak is the one since the beginning."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return


def trim() -> None:
    """Give memory that is free within this process back, or what loading left would hide what a step takes."""
    gc.collect()
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if give_back is not None:  # glibc has it
        give_back(0)


def _field(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _most() -> int:
    import resource  # not on Windows

    number = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return number if sys.platform == "darwin" else number * 1024


def main(side: str, text: str, batch: str, steps: str, length: str) -> None:
    """Load, run, and print the bytes."""
    spec = Spec.read(text)
    subject = open_subject(spec)
    torch.mm(torch.ones(512, 512), torch.ones(512, 512))  # the first product loads libraries and makes threads
    trim()
    forget()
    before = resident()
    work(side, subject, int(batch), int(steps), int(length))
    print(max(0, highest() - before))
