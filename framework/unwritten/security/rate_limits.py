"""TODO."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class SlidingWindow:
    """What was spent within a time that moves along.

    Args:
        seconds: how long what was spent counts.
    """

    seconds: float
    spent: float = 0.0
    _entries: deque[tuple[float, float]] = field(default_factory=deque)

    def total(self, now: float) -> float:
        """What counts now."""
        while self._entries and self._entries[0][0] <= now - self.seconds:
            self.spent -= self._entries.popleft()[1]
        if not self._entries:
            self.spent = 0.0  # no crumbs of rounding are left
        return self.spent

    def add(self, now: float, amount: float) -> None:
        """Spend."""
        self._entries.append((now, amount))
        self.spent += amount

    def wait(self, now: float, limit: float) -> float:
        """Seconds until less than ``limit`` counts."""
        left = self.total(now)
        for at, amount in self._entries:
            left -= amount
            if left < limit:
                return at + self.seconds - now
        return 0.0
