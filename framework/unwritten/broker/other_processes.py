"""What a process knows about the others: which pages they generate, and how many visitors wait for them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from cachetools import TTLCache

from . import redis_timing as timing

OUTCOME_LIFETIME = 60.0
"""Seconds for which outcomes are remembered."""


class OtherPages:
    """The pages that other processes generate, and the outcomes of those that have ended a short time ago."""

    def __init__(self) -> None:
        self._heard_at: dict[str, float] = {}
        self._outcomes: TTLCache[str, Mapping[str, Any]] = TTLCache[str, Mapping[str, Any]](1024, OUTCOME_LIFETIME)

    def __contains__(self, key: str) -> bool:
        return key in self._heard_at

    def outcome(self, key: str) -> Mapping[str, Any] | None:
        """Return the outcome of a page that has ended a short time ago, or None."""
        outcome: Mapping[str, Any] | None = self._outcomes.get(key)
        return outcome

    def start(self, key: str) -> None:
        """Record that another process has started a page."""
        self.add(key)
        self._outcomes.pop(key, None)

    def add(self, key: str) -> None:
        """Record that another process has the lease of a page."""
        self._heard_at[key] = time.monotonic()

    def end(self, key: str, outcome: Mapping[str, Any]) -> None:
        """Record that another process has ended a page, or given it back."""
        self.discard(key)
        if outcome["state"] != "released":
            self._outcomes[key] = outcome

    def discard(self, key: str) -> None:
        """Record that no other process generates a page."""
        self._heard_at.pop(key, None)

    def update(self, keys: Collection[str]) -> None:
        """Compare with the leases of other processes, as the server lists them."""
        now = time.monotonic()
        # A message may be newer than the list.
        recent = {key for key, heard in self._heard_at.items() if heard > now - 2 * timing.HEARTBEAT}
        listed = {key for key in keys if key not in self._outcomes or key in self._heard_at}
        self._heard_at = {key: self._heard_at.get(key, 0.0) for key in recent | listed}


class OtherClicks:
    """The numbers of pages that visitors of other processes wait for."""

    def __init__(self) -> None:
        self._by_process: dict[str, tuple[int, float]] = {}

    @property
    def number(self) -> int:
        """The number of all these pages."""
        return sum(number for number, _ in self._by_process.values())

    def set(self, process: str, number: int) -> None:
        """Record what another process has reported."""
        self._by_process[process] = number, time.monotonic()

    def forget_silent(self) -> bool:
        """Forget processes that have disappeared. Return True if there were some."""
        since = time.monotonic() - timing.LEASE_LIFETIME
        silent = [process for process, (_, heard_at) in self._by_process.items() if heard_at < since]
        for process in silent:
            del self._by_process[process]
        return bool(silent)
