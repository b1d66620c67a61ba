"""The open live sockets of one app: counted by client, and notified of changes of the app itself."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from ..broker.base import Broker


class OpenSocket(Protocol):
    """What the registry requires of a live socket."""

    client_id: str

    def send_soon(self, message: dict[str, Any]) -> None:
        """Send a message that belongs to no page. It does not wait."""


class LiveSockets:
    """The open live sockets of one process.

    Args:
        broker: Counts the sockets of each client over all processes.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._open: set[OpenSocket] = set()
        self._by_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def count(self, client_id: str) -> int:
        """Return the number of open sockets of a client."""
        return self._by_client[client_id]

    async def admit(self, socket: OpenSocket, limit: float) -> bool:
        """Add a socket that was accepted. Return False if its client has too many.

        Args:
            socket: The socket.
            limit: The largest number of sockets of one client, over all processes. 0: no limit.
        """
        self._open.add(socket)
        self._by_client[socket.client_id] += 1
        if limit and not await self._broker.admit_socket(socket.client_id, self.count(socket.client_id), limit):
            self.remove(socket)
            return False
        return True

    def remove(self, socket: OpenSocket) -> None:
        """Remove a socket that is closing."""
        self._open.discard(socket)
        self._by_client[socket.client_id] -= 1
        self._broker.release_socket(socket.client_id, self._by_client[socket.client_id])
        if not self._by_client[socket.client_id]:
            del self._by_client[socket.client_id]

    def broadcast(self, message: dict[str, Any]) -> None:
        """Send a message to every open tab. Call it in the app's event loop."""
        for socket in self._open:
            socket.send_soon(message)
