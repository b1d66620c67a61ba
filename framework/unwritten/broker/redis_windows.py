"""Sliding windows in Redis, which are counted over all processes.

The server keeps one hash of buckets for each window. An amount counts until its whole bucket is out of the window, so
limits are up to a three-hundredth of the window stricter than those in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import BrokerAway
from ..security.rate_limits import Charge
from . import redis_scripts
from .redis_connection import AWAY, ERRORS, Connection

_BUCKETS = 300

_MAX_UNSENT = 10_000
"""Maximum number of windows whose additions are remembered while the server is away."""


class RedisWindows:
    """Sliding windows of a Redis broker. See ``security.rate_limits.Windows``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unsent: dict[tuple[str, str], Charge] = {}

    async def spend(self, charges: Sequence[Charge]) -> tuple[Charge, float] | None:
        """See ``Windows``."""
        limited = [charge for charge in charges if charge.limit]
        if not limited:
            return None
        self._connection.check_state()
        try:
            await self.flush()
            refused, *wait = await self._run(limited)
        except ERRORS as error:
            self._connection.failed(error)
            raise BrokerAway(AWAY, 5) from error
        return (limited[refused - 1], wait[0] / 1000) if refused else None

    def add(self, charge: Charge) -> None:
        """See ``Windows``. What cannot be sent now is sent when the server is back."""
        key = charge.name, charge.client_id
        unsent = self._unsent.get(key)
        if unsent is not None or len(self._unsent) < _MAX_UNSENT:
            self._unsent[key] = replace(charge, limit=0.0, amount=charge.amount + (unsent.amount if unsent else 0.0))
        self._connection.send_soon(self.flush)

    async def flush(self) -> None:
        """Send what was added.

        Raises:
            RedisError, OSError, TimeoutError: If the server is away. Nothing is lost.
        """
        unsent, self._unsent = self._unsent, {}
        if unsent:
            try:
                await self._run(list(unsent.values()))
            except ERRORS:
                for charge in unsent.values():
                    self.add(charge)
                raise

    async def _run(self, charges: Sequence[Charge]) -> Any:
        keys = [
            self._connection.name("window", f"{charge.name}:{self._connection.hashed(charge.client_id)}")
            for charge in charges
        ]
        arguments: list[float] = [_BUCKETS]
        for charge in charges:
            arguments += [1000 * charge.seconds, charge.limit, charge.amount, charge.pending]
        return await self._connection.run(redis_scripts.SPEND, keys, arguments)
