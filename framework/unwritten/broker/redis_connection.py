"""The connection of one process to Redis, which all parts of the Redis broker share: commands, names, and errors."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from ..core.background_tasks import BackgroundTasks
from ..core.errors import BrokerUnavailable
from ..core.localization import gettext_lazy as _
from . import redis_scripts
from . import redis_timing as timing
from .base import BrokerState

log = logging.getLogger("unwritten")

ERRORS = (RedisError, OSError, TimeoutError)
"""Raised by commands if the server is unavailable, or refuses them."""

_MAX_CONNECTIONS = 16

_REPEAT_CANCEL = 0.1
"""Seconds after which tasks are cancelled again: the client of Redis may swallow a cancellation."""


class RedisConnection:
    """A connection to the Redis server of a world. ``open`` it first.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        address: The URL as it may be shown, without a password.
        world: The identity of the world.

    Attributes:
        process: The identity of this process.
        state: Whether the server can be reached.
        failure: Set when a command has failed, so that the next heartbeat is due at once.
        client: Sends commands.
        subscriber: Receives messages. It does not repair its connection, because messages may have been lost.
    """

    client: Redis
    subscriber: Redis

    def __init__(self, url: str, address: str, world: str) -> None:
        self.process = secrets.token_hex(6)
        self.state: BrokerState = "unavailable"
        self.failure = asyncio.Event()
        self.address = address
        self._url = url
        self._world = world
        self._prefix = f"unwritten:{world}:"
        self._scripts: dict[str, Callable[..., Any]] = {}
        self._tasks = BackgroundTasks(self._handle_error)
        self._sending = BackgroundTasks(self._handle_error)

    def open(self) -> None:
        """Create the clients. They connect when they are used."""
        options: dict[str, Any] = {
            "decode_responses": True,
            "socket_timeout": timing.COMMAND_TIMEOUT,
            "socket_connect_timeout": timing.COMMAND_TIMEOUT,
        }
        pool = BlockingConnectionPool.from_url(
            self._url,
            max_connections=_MAX_CONNECTIONS,
            timeout=timing.COMMAND_TIMEOUT,
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 2, supported_errors=(RedisConnectionError,)),
            **options,
        )
        self._prefix = f"unwritten:{self._world}:{pool.connection_kwargs.get('db') or 0}:"
        self.client = Redis(connection_pool=pool)
        self.subscriber = Redis.from_url(self._url, retry=Retry(ExponentialBackoff(), 0), **options)
        self._scripts = {
            text: self.client.register_script(text)
            for name, text in vars(redis_scripts).items()
            if name.isupper() and not name.startswith("_")
        }

    async def close(self) -> None:
        """Disconnect. What is being sent is sent first, unless the server does not respond."""
        await self._sending.wait(timing.COMMAND_TIMEOUT)
        await self._tasks.close(repeat_after=_REPEAT_CANCEL)  # first, because tasks may send
        await self._sending.close(repeat_after=_REPEAT_CANCEL)
        self.state = "unavailable"  # a component that is closed later sends nothing
        with contextlib.suppress(*ERRORS):
            await self.subscriber.aclose()
            await self.client.aclose()
            await self.client.connection_pool.disconnect()

    # -- commands -----------------------------------------------------------------------------------------

    def name(self, kind: str, key: str = "") -> str:
        """Return the name of a key or channel, of a page for example."""
        return f"{self._prefix}{kind}:{key}"

    def names(self, key: str, *kinds: str) -> list[str]:
        """Return the names of several keys of one page."""
        return [self.name(kind, key) for kind in kinds]

    def hashed(self, client_id: str) -> str:
        """Return a client as a part of a name. Addresses are not stored as they are."""
        return hashlib.sha256(f"{self._world} {client_id}".encode()).hexdigest()[:24]

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script of ``redis_scripts``.

        Raises:
            RedisError, OSError, TimeoutError: If the server is unavailable, or refuses it.
        """
        return await self._scripts[script](keys=keys, args=arguments)

    def start_task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine until it ends or the connection is closed. Errors of the server are recorded."""
        return self._tasks.start(work, name)

    def start_sending(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Like ``start_task``, but ``close`` lets it end first."""
        return self._sending.start(work, name)

    def send_soon(self, send: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Call ``send`` soon, unless the server is unavailable. Errors of the server are recorded."""
        if self.state == "ok":
            self.start_sending(send(), name)

    # -- errors -------------------------------------------------------------------------------------------

    def record(self, error: BaseException) -> None:
        """Record that the server could not be used. The next heartbeat, which is due at once, tries again."""
        if self.state == "ok":
            self.state = "unavailable"
            self.report(error)
            self.failure.set()

    def report(self, error: BaseException) -> None:
        """Log that the server is unavailable."""
        reason = str(error).rstrip(".") or "it does not respond"
        log.warning(
            "The broker %s is unavailable: %s. Pages that are being written are finished and stored, stored pages are "
            "served, and new pages are refused until it is available again.",
            self.address,
            reason,
        )

    @contextlib.contextmanager
    def recording_errors(self) -> Iterator[None]:
        """Record errors of the server that are raised inside this context, and continue after it."""
        try:
            yield
        except ERRORS as error:
            self.record(error)

    @contextlib.contextmanager
    def required(self) -> Iterator[None]:
        """Raise BrokerUnavailable if the server cannot be used inside this context."""
        if self.state != "ok":
            raise unavailable()
        try:
            yield
        except ERRORS as error:
            self.record(error)
            raise unavailable() from error

    def _handle_error(self, error: BaseException) -> bool:
        if not isinstance(error, ERRORS):
            return False
        self.record(error)
        return True


def unavailable() -> BrokerUnavailable:
    """Return the error for visitors whose page cannot be started."""
    return BrokerUnavailable(
        _("New pages cannot be written at the moment. Stored pages can be read meanwhile. Try again in a few seconds."),
        5,
    )


def milliseconds(seconds: float) -> int:
    """Return seconds as milliseconds, which Redis uses for lifetimes."""
    return round(1000 * seconds)


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
