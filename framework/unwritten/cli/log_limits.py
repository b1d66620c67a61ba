"""Limits for the log, so that an error that repeats a thousand times a second does not fill the disk."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_REPEATS = 20
"""Maximum number of messages of one kind that are logged within ``PERIOD``. The others are counted."""

PERIOD = 60.0
"""Seconds after which a kind of message is logged again. The first one says how many were not logged."""

_MAX_KINDS = 200
"""Maximum number of kinds that are counted. All others together count as one."""


@dataclass(slots=True)
class _Period:
    """The current period of one kind of message: when it began, and how many messages there have been."""

    started_at: float
    count: int = 0


class RepeatLimit(logging.Filter):
    """Drops messages that repeat too often.

    A kind of message is its text before values are filled in, or the ``kind`` that an error was logged with.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._periods: dict[tuple[str, int, str], _Period] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a message that is not logged. The first and the last one of a period mention the others."""
        with self._lock:
            count, unlogged = self._count(record)
        if count > MAX_REPEATS:
            return False
        notes = [f"{unlogged:,} like this were not logged in between"] if unlogged else []
        if count == MAX_REPEATS:
            notes.append(f"no more like this are logged for up to {PERIOD:g} s")
        if notes:
            record.msg, record.args = f"{record.getMessage()} ({'; '.join(notes)})", None
        return True

    def _count(self, record: logging.LogRecord) -> tuple[int, int]:
        """Return the number of a message in its period. If it is the first, also how many were not logged before it."""
        text = getattr(record, "kind", None) or str(record.msg).partition("\n")[0]
        kind = record.name, record.levelno, text
        now = self._clock()
        if kind not in self._periods and len(self._periods) >= _MAX_KINDS:
            self._periods = {
                known: period for known, period in self._periods.items() if now - period.started_at < PERIOD
            }
            if len(self._periods) >= _MAX_KINDS:
                kind = "", 0, ""
        period = self._periods.setdefault(kind, _Period(now))
        unlogged = 0
        if now - period.started_at >= PERIOD:
            unlogged = max(0, period.count - MAX_REPEATS)
            period.started_at, period.count = now, 0
        period.count += 1
        return period.count, unlogged


@contextlib.contextmanager
def limited_repeats(*loggers: str) -> Iterator[None]:
    """Limit what the handlers of these loggers write inside this context. "" is the root logger."""
    limit = RepeatLimit()
    handlers = [handler for name in loggers for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(limit)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(limit)
