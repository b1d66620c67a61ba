"""Limits for connections, which uvicorn does not have: time-outs for slow clients, and a maximum number.

A connection is closed if it does not send the header of a request in time, sends a body too slowly, or does not read.
If there are too many, idle ones are closed first. This protects a server without a proxy; see ``deployment.md``.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Container
from functools import partial
from typing import Any, Literal, TypeAlias

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..core.process import max_descriptors
from ..generation.metrics import Metrics
from ..security.client_address import client_id, is_loopback

if sys.platform == "linux":
    import fcntl
    import termios

HEADER_TIMEOUT = 10.0
"""Seconds in which a client must send the whole header of a request."""

BODY_TIMEOUT = 20.0
"""Seconds for which a client may fall behind ``MIN_RATE`` while it sends the body of a request."""

MIN_RATE = 500.0
"""Bytes per second that a client must send of a body, or read of a response."""

SEND_TIMEOUT = 30.0
"""Seconds for which a client may read less than ``MIN_RATE``."""

MAX_CONNECTIONS = 10_000
"""Maximum number of connections. It is lower if the process may open fewer files."""

MAX_CONNECTIONS_PER_CLIENT = 256
"""Maximum number of connections of one client. This machine and trusted proxies have no limit of their own."""

MAX_HEADER_SIZE = 32 * 1024
"""Maximum size in bytes of the header of a request."""

_SWEEP_SECONDS = 1.0
_RESERVED_DESCRIPTORS = 4
"""One of this many descriptors is reserved for the database, files, engines and page functions."""


def _response(status: bytes, text: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (status, len(text), text)


_UNAVAILABLE = _response(b"503 Service Unavailable", b"Too many connections. Try again later.\n")
_TIMED_OUT = _response(b"408 Request Timeout", b"The request was not sent in time.\n")

Phase: TypeAlias = Literal["header", "body", "other"]


class ConnectionLimits:
    """The connections of one server, and their limits.

    Args:
        metrics: Counts open, refused and closed connections.
        exempt: Addresses of clients without a limit of their own.
        max_connections: Maximum number of connections. None: ``MAX_CONNECTIONS``, or fewer if the process may not open
            enough files.
    """

    def __init__(
        self, metrics: Metrics, *, exempt: Container[str] = frozenset(), max_connections: int | None = None
    ) -> None:
        self._metrics = metrics
        self._exempt = exempt
        descriptors = max_descriptors()
        self._max_connections = max_connections or min(
            MAX_CONNECTIONS, max(16, descriptors - descriptors // _RESERVED_DESCRIPTORS)
        )
        self._open: dict[asyncio.Transport, _Connection] = {}  # the oldest first
        self._by_client: Counter[str] = Counter()
        self._sweeping: asyncio.TimerHandle | None = None
        self._idle: deque[_Connection] = deque()  # those that the last search has found, the oldest first
        self._all_busy_until = 0.0

    def uvicorn_options(self) -> dict[str, Any]:
        """Return the options of ``uvicorn.Config`` that apply the limits."""
        return {
            # Always h11, also if httptools is installed: it has a maximum size for headers.
            "http": partial(_HTTPProtocol, self),
            "ws": partial(_WebSocketProtocol, self),
            "h11_max_incomplete_event_size": MAX_HEADER_SIZE,
        }

    def add(self, transport: asyncio.Transport, http: H11Protocol) -> _Connection:
        """Register a new connection. It is refused if there are too many."""
        now = http.loop.time()
        client = http.client[0] if http.client else ""
        counted = (
            "" if not client or is_loopback(client) or client in self._exempt else client_id({"client": http.client})
        )
        connection = self._open[transport] = _Connection(transport, http, counted, now)
        if counted:
            self._by_client[counted] += 1
        if counted and self._by_client[counted] > MAX_CONNECTIONS_PER_CLIENT:
            self._refuse(connection, "client_connections")
        elif len(self._open) > self._max_connections and not self._close_idle(connection, now):
            self._refuse(connection, "connections")
        self._metrics.connections = len(self._open)
        if self._sweeping is None:
            self._sweeping = http.loop.call_later(_SWEEP_SECONDS, self._sweep, http.loop)
        return connection

    def find(self, transport: asyncio.Transport) -> _Connection | None:
        """Return an open connection, which may have become a WebSocket."""
        return self._open.get(transport)

    def remove(self, transport: asyncio.Transport) -> None:
        """Forget a connection that was closed."""
        connection = self._open.pop(transport, None)
        if connection is not None and connection.client:
            self._by_client[connection.client] -= 1
            if not self._by_client[connection.client]:
                del self._by_client[connection.client]
        self._metrics.connections = len(self._open)

    def _refuse(self, connection: _Connection, reason: str) -> None:
        self._metrics.refused[reason] += 1
        connection.transport.write(_UNAVAILABLE)
        self._abort(connection, flush=True)

    def _close_idle(self, new: _Connection, now: float) -> bool:
        """Close the oldest connection without a running request. Return False if all others are busy."""
        while True:
            while self._idle:
                connection = self._idle.popleft()
                if connection.is_idle and connection.transport in self._open:
                    self._metrics.closed_connections["idle"] += 1
                    self._abort(connection)
                    return True
            if now < self._all_busy_until:
                return False
            self._idle.extend(other for other in self._open.values() if other is not new and other.is_idle)
            if not self._idle:
                self._all_busy_until = now + _SWEEP_SECONDS  # do not search among all for every new connection

    def _abort(self, connection: _Connection, *, flush: bool = False) -> None:
        self.remove(connection.transport)
        if flush and not connection.transport.is_closing():
            connection.transport.close()  # a few bytes into an empty buffer are sent at once
        connection.transport.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close connections that were too slow."""
        now = loop.time()
        for connection in list(self._open.values()):
            reason = connection.time_out(now)
            if reason:
                self._metrics.closed_connections[reason] += 1
                if reason == "header" and not connection.transport.is_closing():
                    connection.transport.write(_TIMED_OUT)
                self._abort(connection, flush=reason == "header")
        self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep, loop) if self._open else None


class _Connection:
    """One connection: what it waits for, and since when."""

    def __init__(self, transport: asyncio.Transport, http: H11Protocol, client: str, now: float) -> None:
        self.transport = transport
        self.client = client
        self.is_websocket = False
        self._http = http
        self._header_until: float | None = now + HEADER_TIMEOUT
        self._body_until: float | None = None
        self._unsent = 0
        self._has_read = False
        self._read_until = now + SEND_TIMEOUT

    @property
    def phase(self) -> Phase:
        """What the client must send next."""
        if self._http.conn.their_state is h11.IDLE:
            return "header"
        return "body" if self._http.conn.their_state is h11.SEND_BODY else "other"

    @property
    def is_idle(self) -> bool:
        """True if no request is running."""
        return not self.is_websocket and self.phase == "header"

    def on_data(self, size: int) -> None:
        """Move the deadlines, because the client has sent this many bytes."""
        phase, now = self.phase, self._http.loop.time()
        if phase != "header":
            self._header_until = None
        elif self._header_until is None:
            self._header_until = now + HEADER_TIMEOUT
        if phase != "body":
            self._body_until = None
        elif self._body_until is None:
            self._body_until = now + BODY_TIMEOUT
        elif not self._http.cycle.response_complete:  # otherwise the rest of the body is discarded
            self._body_until = min(now + BODY_TIMEOUT, self._body_until + size / MIN_RATE)

    def on_resume(self) -> None:
        """Move the deadline, because the client has read most of what was buffered for it."""
        self._has_read = True

    def time_out(self, now: float) -> str:
        """Return what has taken too long: the "header", the "body" or to "send". Empty: nothing."""
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            unsent += _queued_bytes(self.transport)  # a slow client reads from there for a while first
        if self._has_read or unsent <= max(0, self._unsent - MIN_RATE * _SWEEP_SECONDS):
            self._read_until = now + SEND_TIMEOUT
        self._unsent, self._has_read = unsent, False
        if now > self._read_until:
            return "send"
        if self.is_websocket:
            return ""  # uvicorn sends pings
        if self._header_until is not None and now > self._header_until:
            return "header"
        if self._body_until is not None and self._http.flow.read_paused:
            self._body_until = now + BODY_TIMEOUT  # the app does not read
        if self._body_until is not None and now > self._body_until:
            return "body"
        return ""


def _queued_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes the system holds that the client has not confirmed yet. 0 if it does not say."""
    if sys.platform != "linux":
        return 0
    try:
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, AttributeError):  # it is closed
        return 0
    return int.from_bytes(queued, sys.byteorder)


class _HTTPProtocol(H11Protocol):
    """uvicorn's protocol for HTTP, with limits."""

    def __init__(self, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection = self._limits.add(transport, self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._connection.on_data(len(data))

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._connection.is_websocket = True
        super().handle_websocket_upgrade(event)

    def resume_writing(self) -> None:
        self._connection.on_resume()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.remove(self.transport)
        super().connection_lost(exc)


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol for WebSockets, with limits. The connection was registered by the request that opened it."""

    def __init__(self, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits

    def resume_writing(self) -> None:
        connection = self._limits.find(self.transport)
        if connection is not None:
            connection.on_resume()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.remove(self.transport)
        super().connection_lost(exc)
