"""The live sockets of each client, counted over all processes.

Each process reports how many sockets it has, once they change and every few minutes. A process without a heartbeat does
not count.
"""

from __future__ import annotations

from . import redis_scripts
from .redis_connection import ERRORS, Connection

REPORT_INTERVAL = 300.0
"""Seconds after which the numbers of sockets are reported again. They are forgotten after twice this time."""


class RedisSockets:
    """The numbers of live sockets.

    Args:
        connection: The connection to Redis.
        process_lifetime: Seconds since its last heartbeat after which a process does not count.
    """

    def __init__(self, connection: Connection, process_lifetime: float) -> None:
        self._connection = connection
        self._process_lifetime = process_lifetime
        self._own: dict[str, int] = {}

    async def admit(self, client_id: str, own: int, limit: float) -> bool:
        """Return False if a client has too many sockets. See ``Broker.admit_socket``.

        While the server is away, only this process counts.
        """
        if own > limit:
            return False
        self._own[client_id] = own
        if self._connection.state == "away":
            return True
        try:
            return bool(await self._run(client_id, own, limit))
        except ERRORS as error:
            self._connection.failed(error)
            return True

    def release(self, client_id: str, own: int) -> None:
        """Report that a client has ``own`` sockets left in this process."""
        if self._own.pop(client_id, None) is not None:
            if own:
                self._own[client_id] = own

            async def report() -> None:
                await self._run(client_id, self._own.get(client_id, 0), 0)

            self._connection.send_soon(report)

    def release_all(self) -> None:
        """Report that no client has a socket in this process."""
        for client_id in list(self._own):
            self.release(client_id, 0)

    def report_soon(self) -> None:
        """Report all numbers again."""

        async def report() -> None:
            for client_id in list(self._own):
                await self._run(client_id, self._own.get(client_id, 0), 0)

        self._connection.send_soon(report)

    async def _run(self, client_id: str, own: int, limit: float) -> int:
        connection = self._connection
        lifetimes = [round(1000 * self._process_lifetime), round(1000 * 2 * REPORT_INTERVAL)]
        admitted: int = await connection.run(
            redis_scripts.ADMIT,
            [connection.name("sockets", connection.hashed(client_id)), connection.name("processes")],
            [connection.process, own, limit, *lifetimes],
        )
        return admitted
