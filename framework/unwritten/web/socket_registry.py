"""The open live sockets of one app: counted per visitor, and told about changes of the app itself."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol


class OpenSocket(Protocol):
    """A live socket, as far as the registry knows it."""

    visitor: str

    def say(self, message: dict[str, Any]) -> None:
        """Send a message that belongs to no page."""


class LiveSockets:
    """The open live sockets of one app.

    Attributes:
        by_visitor: How many sockets each visitor has open.
    """

    def __init__(self) -> None:
        self.by_visitor: Counter[str] = Counter()
        self._open: set[OpenSocket] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, socket: OpenSocket) -> None:
        """Add a socket that was accepted."""
        self.by_visitor[socket.visitor] += 1
        self._open.add(socket)

    def remove(self, socket: OpenSocket) -> None:
        """Remove a socket that is closing."""
        self._open.discard(socket)
        self.by_visitor[socket.visitor] -= 1
        if not self.by_visitor[socket.visitor]:
            del self.by_visitor[socket.visitor]

    def broadcast(self, message: dict[str, Any]) -> None:
        """Send a message to every open tab. Call it in the app's event loop."""
        for socket in self._open:
            socket.say(message)
