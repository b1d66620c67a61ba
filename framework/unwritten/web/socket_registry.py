"""The open live sockets of one app: counted by client, and notified of changes of the app itself."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol


class OpenSocket(Protocol):
    """What the registry requires of a live socket."""

    client_id: str

    def send_soon(self, message: dict[str, Any]) -> None:
        """Send a message that belongs to no page. It does not wait."""


class LiveSockets:
    """The open live sockets of one app."""

    def __init__(self) -> None:
        self._open: set[OpenSocket] = set()
        self._by_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def count(self, client_id: str) -> int:
        """Return the number of open sockets of a client."""
        return self._by_client[client_id]

    def add(self, socket: OpenSocket) -> None:
        """Add a socket that was accepted."""
        self._open.add(socket)
        self._by_client[socket.client_id] += 1

    def remove(self, socket: OpenSocket) -> None:
        """Remove a socket that is closing."""
        self._open.discard(socket)
        self._by_client[socket.client_id] -= 1
        if not self._by_client[socket.client_id]:
            del self._by_client[socket.client_id]

    def broadcast(self, message: dict[str, Any]) -> None:
        """Send a message to every open tab. Call it in the app's event loop."""
        for socket in self._open:
            socket.send_soon(message)
