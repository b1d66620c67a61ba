"""The live sockets of each client, counted over all processes.

Each process reports how many sockets it has when that changes, and every few minutes. A process without a heartbeat
does not count.
"""

from __future__ import annotations

import time

from . import redis_scripts
from . import redis_timing as timing
from .redis_connection import RedisConnection, milliseconds

REPORT_INTERVAL = 300.0
"""Seconds after which the numbers of sockets are reported again. They are forgotten after twice this time."""


class RedisSockets:
    """The numbers of live sockets."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._own: dict[str, int] = {}
        self._reported_at = float("-inf")

    async def admit(self, client_id: str, own: int, limit: float) -> bool:
        """Return False if a client has too many sockets. See ``Broker.admit_socket``.

        While the server is unavailable, only this process counts.
        """
        if own > limit:
            return False
        self._own[client_id] = own
        if self._connection.state == "ok":
            with self._connection.recording_errors():
                return await self._report(client_id, own, limit)
        return True

    def release(self, client_id: str, own: int) -> None:
        """Report that a client has ``own`` sockets left in this process."""
        if self._own.pop(client_id, None) is None:
            return
        if own:
            self._own[client_id] = own

        async def report() -> None:
            await self._report(client_id, self._own.get(client_id, 0))

        self._connection.send_soon(report, "reporting a closed socket")

    def release_all(self) -> None:
        """Report that no client has a socket in this process."""
        for client_id in list(self._own):
            self.release(client_id, 0)

    def report_if_due(self) -> None:
        """Report all numbers again, if the server may have forgotten them."""
        now = time.monotonic()
        if now - self._reported_at > REPORT_INTERVAL and self._connection.state == "ok":
            self._reported_at = now
            self._connection.send_soon(self._report_all, "reporting the numbers of sockets")

    def report_again(self) -> None:
        """Report all numbers at the next call of ``report_if_due``."""
        self._reported_at = float("-inf")

    async def _report_all(self) -> None:
        for client_id in list(self._own):
            await self._report(client_id, self._own.get(client_id, 0))

    async def _report(self, client_id: str, own: int, limit: float = 0) -> bool:
        """Report a number, unless the client has more sockets than allowed in all processes. 0: no limit."""
        connection = self._connection
        lifetimes = [milliseconds(2 * timing.LEASE_LIFETIME), milliseconds(2 * REPORT_INTERVAL)]
        return bool(
            await connection.run(
                redis_scripts.ADMIT,
                [connection.name("sockets", connection.hashed(client_id)), connection.name("processes")],
                [connection.process, own, limit, *lifetimes],
            )
        )
