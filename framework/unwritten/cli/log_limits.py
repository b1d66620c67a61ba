"""Limits for the log: a fault that repeats a thousand times a second must not fill the disk."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

MAX_REPEATS = 20
"""How often a message of one kind is logged within ``PERIOD``. Then they are counted."""

PERIOD = 60.0
"""Seconds after which a kind of message is logged again, after one line with the number of those that were not."""

_MAX_KINDS = 200
"""Kinds of messages that are counted. Beyond that, all others count as one kind."""


class RepeatLimit(logging.Filter):
    """Drops messages that repeat too often. A kind is a message before its values are filled in.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, int, str], list[float]] = {}  # the start of the period, and the number since
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a message that is not logged. The first one of a period reports those before it."""
        kind = record.name, record.levelno, str(record.msg).partition("\n")[0]
        now = self._clock()
        with self._lock:
            if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
                self._kinds = {kind: entry for kind, entry in self._kinds.items() if now - entry[0] < PERIOD}
                if len(self._kinds) >= _MAX_KINDS:
                    kind = "", 0, ""
            started, number = self._kinds.setdefault(kind, [now, 0])
            dropped = 0
            if now - started >= PERIOD:
                dropped, started, number = max(0, int(number) - MAX_REPEATS), now, 0
            number += 1
            self._kinds[kind] = [started, number]
        if number > MAX_REPEATS:
            return False
        notes = [f"{dropped:,} like this were not logged in between"] if dropped else []
        if number == MAX_REPEATS:
            notes.append(f"no more like this are logged for up to {PERIOD:g} s")
        if notes:
            record.msg, record.args = f"{record.getMessage()} ({'; '.join(notes)})", None
        return True


@contextlib.contextmanager
def limited_repeats(*loggers: str) -> Iterator[None]:
    """Limit meanwhile what the handlers of these loggers write. "" is the root logger."""
    limit = RepeatLimit()
    handlers = [handler for name in loggers for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(limit)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(limit)
