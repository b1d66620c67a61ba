"""The broker of a single process: every page is its own, and nothing is announced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from ..security.rate_limits import LocalWindows
from .base import BrokerListener, BrokerState, Command, JobSource, Lease, Subscription


class LocalLease:
    """The lease of a page in a single process. It cannot be lost."""

    partial_results: Mapping[str, Mapping[str, Any]] = {}

    def attach(self, source: JobSource) -> None:
        """Do nothing."""

    async def confirm(self) -> bool:
        """Return True."""
        return True

    def end(self, outcome: Mapping[str, Any], *, keep: bool = False) -> None:
        """Do nothing."""


LOCAL_LEASE = LocalLease()


class LocalBroker:
    """The broker of a single process. See ``Broker``."""

    other_clicks = 0
    state: BrokerState = "none"

    def __init__(self) -> None:
        self.windows = LocalWindows()

    async def start(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def listen(self, *listeners: BrokerListener) -> None:
        """Do nothing: there are no other processes."""

    def is_elsewhere(self, key: str) -> bool:
        """Return False."""
        return False

    def outcome(self, key: str) -> Mapping[str, Any] | None:
        """Return None."""
        return None

    async def claim(self, key: str) -> Lease | None:
        """Return a lease."""
        return LOCAL_LEASE

    def follow(self, key: str, num_subscribers: Callable[[], int]) -> AbstractAsyncContextManager[Subscription]:
        """Raise, because there is no other process to follow."""
        raise NotImplementedError("A single process has no other process to follow.")

    def send(self, key: str, command: Command) -> None:
        """Do nothing."""

    def report_clicks(self, number: int) -> None:
        """Do nothing."""

    def announce(self, kind: Literal["edited", "data"], **values: Any) -> None:
        """Do nothing."""

    async def admit_socket(self, client_id: str, own: int, limit: float) -> bool:
        """Return True unless this process has too many sockets of the client."""
        return own <= limit

    def release_socket(self, client_id: str, own: int) -> None:
        """Do nothing."""
