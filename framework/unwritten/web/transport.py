"""Abort a connection, and tell that its client has disconnected without calling ``receive``. ASGI offers neither.

It can only close a connection, which first sends what is still in its buffers. Receiving from it may take a part of
the request's body, which the app has not read yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope

_ABORT = "unwritten.abort"
_CYCLE = "unwritten.cycle"


def remember_transport(scope: Scope, receive: Receive) -> None:
    """Store what ``abort`` and ``is_disconnected`` need. Call it before other middleware wraps ``receive``.

    uvicorn's ``receive`` is a method of an object that has the transport. With other servers nothing is stored.
    """
    cycle: Any = getattr(receive, "__self__", None)
    transport: Any = getattr(cycle, "transport", None)
    if callable(getattr(transport, "abort", None)):
        scope[_ABORT] = transport.abort
        scope[_CYCLE] = cycle


def abort(scope: Scope) -> bool:
    """Abort a connection at once, and discard unsent data. Return False if the server does not support it."""
    cut: Callable[[], None] | None = scope.get(_ABORT)
    if cut is not None:
        cut()
    return cut is not None


def is_disconnected(scope: Scope) -> bool:
    """True if the client of an HTTP request has disconnected before the response was complete.

    False for WebSockets, and with servers that do not show it.
    """
    return bool(getattr(scope.get(_CYCLE), "disconnected", False))
