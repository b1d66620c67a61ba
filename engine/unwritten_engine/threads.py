"""Choose the number of threads for computation, with a reason.

Too many threads are much slower than too few: the threads of a matrix product wait for each other hundreds of times
per token, so one thread that shares its core delays all others.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOST = 8
"""Small models are limited by memory bandwidth; more threads than this only wait for memory."""


def choose_num_threads() -> tuple[int, str]:
    """Return the number of threads and the reason in one sentence."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    cores = min(usable, _physical_cores(usable), quota or usable)
    limit = os.environ.get("OMP_THREAD_LIMIT", "")
    if limit.isdecimal() and 0 < int(limit) < cores:
        # With more threads than OpenMP may start, some products of bfloat16 in torch are left incomplete.
        return int(limit), f"{limit} thread{'s' if int(limit) > 1 else ''}: OMP_THREAD_LIMIT allows no more."
    reason = f"{cores} physical core{'s' if cores > 1 else ''}"
    if quota and quota <= cores:
        reason += " allowed to this container"
    if cores > _MOST:
        return _MOST, f"{_MOST} threads: there are {reason}, but more would only wait for memory."
    if cores >= 4:
        return cores - 1, f"{cores - 1} threads: there are {reason}, and one is left for the server and the browser."
    return cores, f"{cores} thread{'s' if cores > 1 else ''}: there {'are' if cores > 1 else 'is'} {reason}."


def _physical_cores(usable: int) -> int:
    """Return the number of cores without hyper-threads, if the system tells."""
    cores = set()
    for file in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list"):
        try:
            cores.add(file.read_text(encoding="ascii").strip())
        except OSError:
            continue
    if cores:
        return len(cores)
    # Apple silicon has no hyper-threads; on Windows two per core is the rule.
    return max(1, usable // 2) if os.name == "nt" else usable


def _quota() -> int | None:
    """Return the whole cores that the container may use, or None without a limit."""
    try:
        limit = re.match(r"(\d+) (\d+)", Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii"))
    except OSError:
        return None
    return max(1, int(limit[1]) // int(limit[2])) if limit else None
