"""Rate limits: sliding windows that sum what was spent within the last seconds, in total or per client."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cachetools import LRUCache

MAX_CLIENTS = 20_000
"""Maximum number of clients per limit. Beyond that, the least recently active one is forgotten."""


@dataclass
class SlidingWindow:
    """The sum of what was spent within the last seconds.

    Times are monotonic seconds, which the caller passes.

    Args:
        seconds: The length of the window.
    """

    seconds: float
    _spent: float = 0.0
    _entries: deque[tuple[float, float]] = field(default_factory=deque)

    def total(self, now: float) -> float:
        """Return the sum at a time."""
        while self._entries and self._entries[0][0] <= now - self.seconds:
            self._spent -= self._entries.popleft()[1]
        if not self._entries:
            self._spent = 0.0  # rounding errors do not add up
        return self._spent

    def add(self, now: float, amount: float = 1.0) -> None:
        """Add an amount."""
        self._entries.append((now, amount))
        self._spent += amount

    def wait(self, now: float, limit: float) -> float:
        """Return the seconds until the sum is below ``limit``."""
        left = self.total(now)
        for at, amount in self._entries:
            left -= amount
            if left < limit:
                return at + self.seconds - now
        return 0.0


class ClientWindows(LRUCache[str, SlidingWindow]):
    """One sliding window per client, by the identifier of ``client_address.client_id``.

    Args:
        seconds: The length of each window.
        max_clients: Maximum number of clients.
    """

    def __init__(self, seconds: float, max_clients: int = MAX_CLIENTS) -> None:
        super().__init__(max_clients)
        self._seconds = seconds

    def __missing__(self, client_id: str) -> SlidingWindow:
        window = self[client_id] = SlidingWindow(self._seconds)
        return window
