"""Choose the device of a model, and measure its free memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from ...errors import BadOption
from .memory_plan import RESERVE


def find_device(name: str | None) -> torch.device:
    """Return the named device; for None, a GPU if there is one, else the CPU.

    Raises:
        BadOption: torch does not know the device, or this machine does not have it.
    """
    if name is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadOption(f"The option 'device' is {name!r}; give 'cuda', 'cuda:1' or 'cpu'.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            hint = "" if count else " (is torch a CPU build? is the driver installed?)"
            raise BadOption(
                f"The option 'device' is {name!r}, but torch finds {count} GPUs{hint}. Give 'cpu', or leave it out."
            )
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BadOption("The option 'device' is 'mps', but this machine has none. Give 'cpu', or leave it out.")
    if device.type not in ("cpu", "mps"):
        raise BadOption(f"The option 'device' is {name!r}; give 'cuda', 'cuda:1' or 'cpu'.")
    return device


def describe_device(device: torch.device) -> str:
    """Return the device's name for messages, such as "This GPU (NVIDIA H100)"."""
    if device.type == "cuda":
        return f"This GPU ({torch.cuda.get_device_name(device)})"
    return "This machine"


def free_bytes(device: torch.device) -> int:
    """Return the usable free bytes: on a GPU without the driver's reserve, else nine tenths of the free memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(0, free - RESERVE)
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        figures = dict(line.split(":", 1) for line in lines)
        free = int(figures["MemAvailable"].split()[0]) * 1024
        return min(free, _limit()) * 9 // 10
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 6 // 10
    return 8_000_000_000  # unknown on this system; ``budget_bytes`` overrides it


def _limit() -> int:
    """Return the bytes that remain in the container's limit; a large number without one."""
    try:
        most = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        return max(0, int(most) - int(used))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 62
