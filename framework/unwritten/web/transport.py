"""Abort a connection. ASGI can only close it, which first sends what is still in its buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope

_ABORT = "unwritten.abort"


def remember_transport(scope: Scope, receive: Receive) -> None:
    """Store a connection's transport for ``abort``. Call it before other middleware wraps ``receive``.

    uvicorn's ``receive`` is a method of an object that has the transport. With other servers nothing is stored.
    """
    transport: Any = getattr(getattr(receive, "__self__", None), "transport", None)
    if callable(getattr(transport, "abort", None)):
        scope[_ABORT] = transport.abort


def abort(scope: Scope) -> bool:
    """Abort a connection at once, and discard unsent data. Return False if the server does not support it."""
    cut: Callable[[], None] | None = scope.get(_ABORT)
    if cut is not None:
        cut()
    return cut is not None
