"""Messages between processes, on channels of Redis: about one page, to one process, or to all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from . import redis_timing as timing
from .redis_connection import ERRORS, RedisConnection, decode, encode

log = logging.getLogger("unwritten")

_SILENCE = 5.0
"""Seconds without a message after which the server is pinged."""


class RedisMessages:
    """Sends messages, and receives those for this process.

    Args:
        connection: The connection to Redis.
        on_message: Called with every message of another process to this one, or to all.
        on_page_message: Called with every message about a subscribed page.
        on_page_subscribed: Called when the messages about a page arrive from now on. Earlier ones may have been lost.
        on_reconnected: Called when messages arrive again. Some may have been lost.
    """

    def __init__(
        self,
        connection: RedisConnection,
        *,
        on_message: Callable[[Mapping[str, Any]], None],
        on_page_message: Callable[[str, Mapping[str, Any]], None],
        on_page_subscribed: Callable[[str], None],
        on_reconnected: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._on_message = on_message
        self._on_page_message = on_page_message
        self._on_page_subscribed = on_page_subscribed
        self._on_reconnected = on_reconnected
        self._pages: set[str] = set()
        self._reader: asyncio.Task[None] | None = None
        self._pubsub: Any = None  # None while its connection is broken
        self._has_connected = asyncio.Event()

    # -- sending ------------------------------------------------------------------------------------------

    def encode(self, kind: str, **values: Any) -> str:
        """Return a message of this process."""
        return encode({"type": kind, "process": self._connection.process, **values})

    async def publish(self, kind: str, **values: Any) -> None:
        """Send a message to all processes.

        Raises:
            RedisError, OSError, TimeoutError: If the server is unavailable.
        """
        await self._connection.client.publish(self._connection.name("all"), self.encode(kind, **values))

    def publish_soon(self, kind: str, **values: Any) -> None:
        """Send a message to all processes, unless the server is unavailable."""
        self._connection.send_soon(lambda: self.publish(kind, **values), f"publishing {kind!r}")

    # -- receiving ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Receive messages from now on, on a new connection."""
        if self._reader is not None:
            self._reader.cancel()
        self._reader = self._connection.start_task(self._read(), "reading the broker's messages")

    async def wait_until_connected(self, seconds: float) -> None:
        """Wait until messages arrive, at most for some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._has_connected.wait()

    async def subscribe(self, key: str) -> None:
        """Receive the messages about a page."""
        self._pages.add(key)
        if self._pubsub is not None:  # otherwise ``_read`` subscribes as soon as it is connected
            with contextlib.suppress(*ERRORS):
                await self._pubsub.subscribe(self._connection.name("page", key))

    async def unsubscribe(self, key: str) -> None:
        """Receive the messages about a page no longer."""
        self._pages.discard(key)
        if self._pubsub is not None:
            with contextlib.suppress(*ERRORS):
                await self._pubsub.unsubscribe(self._connection.name("page", key))

    async def _read(self) -> None:
        """Receive messages. A broken connection is opened again."""
        connection = self._connection
        while self._is_current():
            pubsub = connection.subscriber.pubsub()
            try:
                await pubsub.subscribe(connection.name("all"), connection.name("process", connection.process))
                self._pubsub = pubsub
                if self._pages:
                    await pubsub.subscribe(*(connection.name("page", key) for key in self._pages))
                if self._has_connected.is_set():
                    self._on_reconnected()
                self._has_connected.set()
                await self._read_from(pubsub)
            except ERRORS as error:
                log.debug("The broker's messages are interrupted: %s", error)
                connection.failure.set()  # the next heartbeat says whether the server is unavailable
            except Exception:  # this process must go on listening
                log.exception("The broker's messages are interrupted")
            finally:
                if self._pubsub is pubsub:
                    self._pubsub = None
                with contextlib.suppress(*ERRORS):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(timing.HEARTBEAT / 4)

    async def _read_from(self, pubsub: Any) -> None:
        """Handle messages until the connection is broken.

        Raises:
            TimeoutError: If the server does not respond to a ping, because a firewall has dropped the quiet connection.
        """
        is_pinged = False
        while self._is_current():
            received = await pubsub.get_message(timeout=_SILENCE)
            if received is not None:
                is_pinged = False
                self._receive(received)
            elif is_pinged:
                raise TimeoutError("the server does not respond to a ping")
            else:
                is_pinged = True
                await pubsub.ping()

    def _is_current(self) -> bool:
        """True unless ``start`` was called again. The client of Redis may swallow the cancellation."""
        return self._reader is asyncio.current_task()

    def _receive(self, received: Mapping[str, Any]) -> None:
        try:
            kind, channel = received["type"], received["channel"] or ""
            message = decode(received["data"]) if kind == "message" else None
            pages = self._connection.name("page")
            key = channel.removeprefix(pages)
            if channel.startswith(pages) and kind == "subscribe":
                self._on_page_subscribed(key)
            elif channel.startswith(pages) and message is not None:
                self._on_page_message(key, message)
            elif message is not None and message.get("process") != self._connection.process:
                self._on_message(message)
        except Exception:  # for example from another version of Unwritten. The next message may be readable.
            log.exception("A message of the broker could not be read")
