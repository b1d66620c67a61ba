"""The open live sockets of one app: counted by client, notified of changes of the app itself, and sending in turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from typing import Any, Protocol

from ..broker.base import Broker


class OpenSocket(Protocol):
    """What the registry requires of a live socket."""

    client_id: str

    def send_soon(self, message: dict[str, Any]) -> None:
        """Send a message that belongs to no page. It does not wait."""


SENDING_SHARE = 0.5
"""Share of the event loop's time that sockets may use to send. The rest is for requests."""

_SHORT_SECONDS = 0.0005
"""A turn that took less is followed by the next one at once."""

_MAX_REST = 0.05
"""Maximum number of seconds between two turns."""


class SendingTurns:
    """Lets one socket at a time render and send.

    A frame wakes all subscribers of a page. Without turns the event loop would serve all of them before it looks at the
    next request.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False
        self._started = 0.0

    async def take(self) -> None:
        """Wait for a turn. It ends by itself when the event loop has run once."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken, self._started = True, time.thread_time()
            loop.call_soon(self._end, loop)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        # What else ran in the loop counts as well: if it is busy, sockets wait longer.
        seconds = time.thread_time() - self._started
        if seconds < _SHORT_SECONDS:
            self._begin(loop)
        else:
            loop.call_later(min(_MAX_REST, seconds * (1 / SENDING_SHARE - 1)), self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # otherwise its socket was closed
                turn.set_result(None)
                self._started = time.thread_time()
                loop.call_soon(loop.call_soon, self._end, loop)  # after the socket's task, which runs next
                return
        self._is_taken = False


class LiveSockets:
    """The open live sockets of one process.

    Args:
        broker: Counts the sockets of each client over all processes.

    Attributes:
        turns: Lets one socket at a time render and send.
    """

    def __init__(self, broker: Broker) -> None:
        self.turns = SendingTurns()
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
