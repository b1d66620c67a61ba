"""The transport of a connection, to cut it off. ASGI itself can only close it, which waits for what is not read yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope

_ABORT = "unwritten.abort"


def remember_transport(scope: Scope, receive: Receive) -> None:
    """Note how a connection is cut off. Call it before other middleware wraps ``receive``.

    uvicorn passes a method of an object that has the transport. With other servers nothing is noted.
    """
    transport: Any = getattr(getattr(receive, "__self__", None), "transport", None)
    if callable(getattr(transport, "abort", None)):
        scope[_ABORT] = transport.abort


def abort(scope: Scope) -> bool:
    """Cut off a connection at once, whatever is not sent yet. Return False if that is not possible."""
    cut: Callable[[], None] | None = scope.get(_ABORT)
    if cut is not None:
        cut()
    return cut is not None
