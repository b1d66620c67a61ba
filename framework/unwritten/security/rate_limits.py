"""Rate limits: sliding windows that sum what was spent within the last seconds, in total or per client."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class Charge:
    """What a client is about to spend of one limit.

    Attributes:
        name: The name of the limit.
        client_id: The client; "" for a limit of all clients together.
        seconds: The length of the window.
        limit: Nothing may be spent once the sum has reached it. 0: no limit.
        amount: What is added if all charges pass.
        pending: What was spent and is not added yet, such as the seconds of running jobs.
    """

    name: str
    client_id: str
    seconds: float
    limit: float
    amount: float = 0.0
    pending: float = 0.0


class Windows(Protocol):
    """Sliding windows by name and client."""

    async def spend(self, charges: Sequence[Charge]) -> tuple[Charge, float] | None:
        """Check all limits, and add all amounts if none of them is used up.

        Returns:
            None, or the charge that was refused with the seconds until it may pass; 0 if that time is unknown. Then
            nothing was added.

        Raises:
            BrokerUnavailable: If the limits are counted by a broker that cannot be reached.
        """
        ...

    def add(self, charge: Charge) -> None:
        """Add an amount without a check."""
        ...


class LocalWindows:
    """Sliding windows in memory.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, ClientWindows] = {}

    async def spend(self, charges: Sequence[Charge]) -> tuple[Charge, float] | None:
        """See ``Windows``."""
        now = self._clock()
        for charge in charges:
            if charge.limit:
                window = self._window(charge)
                if window.total(now) + charge.pending >= charge.limit:
                    return charge, window.wait(now, charge.limit)
        for charge in charges:
            if charge.limit and charge.amount:
                self._window(charge).add(now, charge.amount)
        return None

    def add(self, charge: Charge) -> None:
        """See ``Windows``."""
        self._window(charge).add(self._clock(), charge.amount)

    def _window(self, charge: Charge) -> SlidingWindow:
        clients = self._windows.get(charge.name)
        if clients is None:
            clients = self._windows[charge.name] = ClientWindows(charge.seconds)
        return clients[charge.client_id]
