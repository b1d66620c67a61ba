"""The machine of a measurement, and whether other programs use it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import transformers


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return device, threads, versions, and a warning if other programs use the machine."""
    busy = busy_share()
    warning = ""
    if busy > 0.1:
        warning = f"Other programs use {busy:.0%} of the processor: the times are too long, the ratios rough."
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        if whole - free > torch.cuda.memory_reserved(device) + 2e9:
            warning = "Another program holds memory of this GPU, and may be using it."
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "busy": round(busy, 3),
        "warning": warning,
    }


def busy_share(seconds: float = 0.5) -> float:
    """Return the share of the processor that other programs use while this process sleeps; 0 if unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0

    def times() -> tuple[int, int]:
        values = [int(value) for value in stat.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
        return sum(values) - values[3] - values[4], sum(values)

    busy, whole = times()
    time.sleep(seconds)
    busy_after, whole_after = times()
    return (busy_after - busy) / max(1, whole_after - whole)
