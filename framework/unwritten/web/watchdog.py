"""The watchdog: measures, counts and logs how long the event loop was blocked, and by what.

A heartbeat in the event loop is due ten times a second. A thread checks whether it is late, and then records what the
loop's thread is doing. Time in which the whole process did not run, because it was stopped or the laptop slept, does
not count.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

log = logging.getLogger("unwritten")

STALL_SECONDS = 0.25
"""How late a heartbeat must be to count as a stall."""

HANG_SECONDS = 10.0
"""Seconds after which a stall is logged although it has not ended."""

LOG_SECONDS = 60.0
"""Seconds from one logged stall to the next. Those in between are only counted."""

_HEARTBEAT_SECONDS = 0.1
_CHECK_SECONDS = 0.05


class Watchdog:
    """Watches one event loop.

    Attributes:
        stalls: How often the loop was blocked for more than ``STALL_SECONDS``.
        longest: The longest stall, in seconds.
        total: All stalls together, in seconds.
    """

    def __init__(self) -> None:
        self.stalls = 0
        self.longest = 0.0
        self.total = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._clock_id: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._heartbeat_at = self._heartbeat_cpu_seconds = 0.0
        self._stalled_seconds = 0.0  # since the last heartbeat, as the watching thread has measured
        self._stack = ""
        self._logged_at = float("-inf")
        self._unlogged = 0

    def start(self) -> None:
        """Watch the running event loop, unless that is watched already."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        self.stop()
        self._loop, self._stopped = loop, threading.Event()
        self._thread_id = threading.get_ident()
        get_clock_id = getattr(time, "pthread_getcpuclockid", None)  # not on Windows and macOS
        self._clock_id = get_clock_id(self._thread_id) if get_clock_id else None
        self._heartbeat_at, self._heartbeat_cpu_seconds = time.monotonic(), self._cpu_seconds()
        self._timer = loop.call_later(_HEARTBEAT_SECONDS, self._heartbeat)
        threading.Thread(target=self._watch, args=[loop, self._stopped], name="unwritten-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching. Call it in the event loop's thread, or after the loop has ended."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    # -- in the event loop ------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        now, cpu_seconds = time.monotonic(), self._cpu_seconds()
        late = now - self._heartbeat_at - _HEARTBEAT_SECONDS
        if late > STALL_SECONDS:
            # While a C function holds the interpreter, the watching thread does not run. Then the CPU time
            # tells a stall from a process that was stopped.
            seconds = min(late, max(self._stalled_seconds, cpu_seconds - self._heartbeat_cpu_seconds))
            if seconds > STALL_SECONDS:
                self._count(seconds)
        self._heartbeat_at, self._heartbeat_cpu_seconds, self._stalled_seconds, self._stack = now, cpu_seconds, 0.0, ""
        assert self._loop is not None
        self._timer = self._loop.call_later(_HEARTBEAT_SECONDS, self._heartbeat)

    def _count(self, seconds: float) -> None:
        self.stalls += 1
        self.longest = max(self.longest, seconds)
        self.total += seconds
        now = time.monotonic()
        if now - self._logged_at < LOG_SECONDS:
            self._unlogged += 1
            return
        more = f" {self._unlogged} more stalls before it were not logged." if self._unlogged else ""
        self._logged_at, self._unlogged = now, 0
        log.warning(
            "The event loop was blocked for %.2f s: no request was answered in that time.%s%s",
            seconds,
            more,
            self._stack,
        )

    # -- in the watching thread -------------------------------------------------------------------------------

    def _watch(self, loop: asyncio.AbstractEventLoop, stopped: threading.Event) -> None:
        last, logged = time.monotonic(), 0.0
        while not stopped.wait(_CHECK_SECONDS):
            now = time.monotonic()
            if not loop.is_running():
                if loop.is_closed():
                    return
                last, self._stalled_seconds = now, 0.0
                continue
            heartbeat_at = self._heartbeat_at
            late = now - heartbeat_at - _HEARTBEAT_SECONDS
            if late > 0:
                # After a longer gap, this thread did not run either.
                self._stalled_seconds += min(now - last, late, 4 * _CHECK_SECONDS)
                if late > STALL_SECONDS and not self._stack:
                    self._stack = _describe(sys._current_frames().get(self._thread_id))
                if self._stalled_seconds > HANG_SECONDS and logged != heartbeat_at:
                    logged = heartbeat_at
                    log.error(
                        "The event loop has been blocked for %.0f s, and still is.%s",
                        self._stalled_seconds,
                        self._stack,
                    )
            last = now

    def _cpu_seconds(self) -> float:
        """Return the CPU time of the event loop's thread, or of the process where threads have no clock."""
        return time.process_time() if self._clock_id is None else time.clock_gettime(self._clock_id)


def _describe(frame: FrameType | None) -> str:
    """Return the innermost calls of a thread, one per line."""
    stack = traceback.extract_stack(frame) if frame is not None else []
    calls = [f"{entry.filename}:{entry.lineno} in {entry.name}" for entry in stack if "/asyncio/" not in entry.filename]
    return "".join(f"\n  {call}" for call in calls[-12:])
