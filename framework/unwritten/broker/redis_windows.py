"""Sliding windows in Redis, which are counted over all processes.

The server keeps one hash of buckets for each window. An amount counts until its whole bucket is out of the window, so
limits are up to a three-hundredth of the window stricter than those in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ..security.rate_limits import Charge
from . import redis_scripts
from .redis_connection import RedisConnection, milliseconds

_BUCKETS = 300

_MAX_UNSENT = 10_000
"""Maximum number of windows whose additions are remembered while the server is unavailable."""

_BATCH_LIFETIME = 86_400.0
"""Seconds for which the server knows the last batch of a process."""


class RedisWindows:
    """Sliding windows of a Redis broker. See ``security.rate_limits.Windows``.

    Additions are sent in numbered batches. A batch without a response may have been added, so it is sent again, and the
    server adds it once.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._unsent: dict[tuple[str, str], Charge] = {}
        self._batch: list[Charge] = []
        self._batch_number = 0
        self._flushing = asyncio.Lock()

    async def spend(self, charges: Sequence[Charge]) -> tuple[Charge, float] | None:
        """See ``Windows``."""
        limited = [charge for charge in charges if charge.limit]
        if not limited:
            return None
        arguments: list[float] = [_BUCKETS]
        for charge in limited:
            arguments += [1000 * charge.seconds, charge.limit, charge.amount, charge.pending]
        with self._connection.required():
            await self.flush()
            refused, *wait = await self._connection.run(redis_scripts.SPEND, self._names(limited), arguments)
        return (limited[refused - 1], wait[0] / 1000) if refused else None

    def add(self, charge: Charge) -> None:
        """See ``Windows``. What cannot be sent now is sent when the server is available again."""
        key = charge.name, charge.client_id
        unsent = self._unsent.get(key)
        if unsent is not None or len(self._unsent) < _MAX_UNSENT:
            self._unsent[key] = replace(charge, amount=charge.amount + (unsent.amount if unsent else 0.0))
        self._connection.send_soon(self.flush, "charging clients")

    async def flush(self) -> None:
        """Send what was added.

        Raises:
            RedisError, OSError, TimeoutError: If the server is unavailable. Nothing is lost.
        """
        async with self._flushing:
            while self._batch or self._unsent:
                if not self._batch:
                    self._batch, self._unsent = list(self._unsent.values()), {}
                    self._batch_number += 1
                await self._send_batch()
                self._batch = []

    async def _send_batch(self) -> None:
        keys = [self._connection.name("batch", self._connection.process), *self._names(self._batch)]
        arguments: list[float] = [self._batch_number, milliseconds(_BATCH_LIFETIME), _BUCKETS]
        for charge in self._batch:
            arguments += [1000 * charge.seconds, charge.amount]
        await self._connection.run(redis_scripts.ADD, keys, arguments)

    def _names(self, charges: Sequence[Charge]) -> list[str]:
        connection = self._connection
        return [connection.name("window", f"{charge.name}:{connection.hashed(charge.client_id)}") for charge in charges]
