"""What the operating system says about this process: its file descriptors and its memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource

_ENOUGH_DESCRIPTORS = 65_536
_UNLIMITED = 1_000_000


def max_descriptors() -> int:
    """Return how many files and connections the process may have open. A large number where there is no limit."""
    if sys.platform == "win32":
        return _UNLIMITED
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else min(soft, _UNLIMITED)


def raise_max_descriptors() -> None:
    """Raise the limit as far as the system allows: many systems start processes with 1,024, which servers exceed."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def num_descriptors() -> int | None:
    """Return how many files and connections the process has open. None if the system does not say."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return sum(1 for _ in Path(folder).iterdir()) - 1  # without that of the folder itself
        except FileNotFoundError:
            continue
        except OSError:  # none is left to open the folder
            return max_descriptors()
    return None


def resident_bytes() -> int | None:
    """Return the memory that the process has in use, in bytes. None if the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
