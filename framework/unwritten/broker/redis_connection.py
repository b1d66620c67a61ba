"""What the parts of the Redis broker share: the connection as they see it, and the coding of messages."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from redis.exceptions import RedisError

from .base import BrokerState

ERRORS = (RedisError, OSError, TimeoutError)
"""What a server raises that is away, or that refuses commands."""

AWAY = "New pages cannot be written at the moment. Stored pages can be read meanwhile. Try again in a few seconds."


class Connection(Protocol):
    """A connection to Redis.

    Attributes:
        process: The identity of this process.
        state: Whether the server can be reached.
    """

    process: str
    state: BrokerState

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script."""
        ...

    def name(self, kind: str, key: str = "") -> str:
        """Return the name of a key."""
        ...

    def hashed(self, client_id: str) -> str:
        """Return a client as a part of a key."""
        ...

    def failed(self, error: BaseException) -> None:
        """Record that the server could not be used."""
        ...

    def check_state(self) -> None:
        """Raise BrokerAway if the server is away."""
        ...

    def send_soon(self, send: Callable[[], Awaitable[None]]) -> None:
        """Call ``send`` soon, unless the server is away. Its errors are recorded."""
        ...


def encode(value: object) -> str:
    """Return a value as compact JSON. ASCII, because a text may have halves of surrogate pairs."""
    return json.dumps(value, separators=(",", ":"))


def decode(text: object) -> dict[str, Any] | None:
    """Return a JSON object, or None for anything else, which no process of this world has sent."""
    try:
        value = json.loads(str(text))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
