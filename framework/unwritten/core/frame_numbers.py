"""Frame numbers: the order in which the contents of a region were made, also across jobs and restarts of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class FrameNumbers:
    """Gives out numbers that only rise: microseconds of the wall clock, or the last number plus one if it went back.

    Browsers drop frames whose number is not above that of the frame they show. So a job that starts after a restart
    must have higher numbers than the one before it, and a clock that is set back must not lower them.

    Args:
        clock: Returns nanoseconds of the wall clock.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    def next(self, after: int = 0) -> int:
        """Return a number above ``after`` and above all numbers before it. May be called from any thread."""
        with self._lock:
            self._last = max(self._last + 1, after + 1, self._clock() // 1000)
            return self._last


frame_numbers = FrameNumbers()
"""The numbers of this process. All apps share them: a number only has to rise."""
