"""Subscriptions: what the lease holders of pages publish, as the processes that follow them receive it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from . import redis_scripts
from . import redis_timing as timing
from .base import Listeners
from .redis_connection import RedisConnection, decode, milliseconds
from .redis_messages import RedisMessages


class RedisSubscription:
    """A subscription to one page. See ``Subscription``."""

    def __init__(self, key: str, num_subscribers: Callable[[], int]) -> None:
        self.key = key
        self.num_subscribers = num_subscribers
        self._changed = asyncio.Event()
        self._status: Mapping[str, Any] = {}
        self._regions: dict[str, Any] = {}
        self._has_frames = False
        self._events: list[Mapping[str, Any]] = []

    async def next(self) -> Mapping[str, Any]:
        """Wait for the next message."""
        while True:
            if self._has_frames:
                message = {"type": "frames", "status": self._status, "regions": self._regions}
                self._status, self._regions, self._has_frames = {}, {}, False
                return message
            if self._events:
                return self._events.pop(0)
            self._changed.clear()
            await self._changed.wait()

    def add(self, message: Mapping[str, Any]) -> None:
        """Add a message. Newer frames replace older ones, and events are not repeated."""
        if message["type"] == "frames":
            self._has_frames = True
            self._status = message.get("status") or self._status
            for name, region in message["regions"].items():
                known = self._regions.get(name)
                if known is None or known["number"] <= region["number"]:
                    self._regions[name] = region
        elif message not in self._events:
            self._events.append(message)
        self._changed.set()


class RedisSubscriptions:
    """The subscriptions of this process.

    Args:
        connection: The connection to Redis.
        messages: Receives what is published.
        listeners: Notified of the number of subscribers in other processes.
    """

    def __init__(self, connection: RedisConnection, messages: RedisMessages, listeners: Listeners) -> None:
        self._connection = connection
        self._messages = messages
        self._listeners = listeners
        self._by_key: dict[str, RedisSubscription] = {}

    @contextlib.asynccontextmanager
    async def follow(self, key: str, num_subscribers: Callable[[], int]) -> AsyncIterator[RedisSubscription]:
        """See ``Broker.follow``."""
        subscription = self._by_key[key] = RedisSubscription(key, num_subscribers)
        try:
            await self._messages.subscribe(key)
            yield subscription
        finally:
            if self._by_key.get(key) is subscription:
                del self._by_key[key]
            self._connection.start_task(self._leave(key), f"leaving {key}")

    async def _leave(self, key: str) -> None:
        if key not in self._by_key:
            await self._messages.unsubscribe(key)
            await self._connection.client.hdel(self._connection.name("subscribers", key), self._connection.process)

    def receive(self, key: str, message: Mapping[str, Any]) -> None:
        """Add a message about a page to its subscription."""
        subscription = self._by_key.get(key)
        if subscription is not None:
            subscription.add(message)

    def load_soon(self, key: str) -> None:
        """Fetch the latest frames of a page, because earlier messages may have been lost."""
        subscription = self._by_key.get(key)
        if subscription is not None:
            self._connection.start_task(self._load(subscription), f"loading {key}")

    async def _load(self, subscription: RedisSubscription) -> None:
        frames = await self._connection.client.hgetall(self._connection.name("frames", subscription.key))
        regions = {name: value for name, text in frames.items() if (value := decode(text)) is not None}
        subscription.add({"type": "frames", "status": regions.pop("", None), "regions": regions})
        await self._check(subscription)

    async def check_all(self) -> None:
        """Find pages without a lease holder, and report how many subscribers this process has.

        Raises:
            RedisError, OSError, TimeoutError: If the server is unavailable.
        """
        await asyncio.gather(*map(self._check, list(self._by_key.values())))

    async def _check(self, subscription: RedisSubscription) -> None:
        connection, key = self._connection, subscription.key
        holder, outcome, others = await connection.run(
            redis_scripts.WATCH,
            connection.names(key, "lease", "ended", "subscribers"),
            [connection.process, subscription.num_subscribers(), milliseconds(timing.LEASE_LIFETIME)],
        )
        self._listeners.notify(lambda listener: listener.on_other_subscribers(key, others))
        if not holder:
            message = decode(outcome) if outcome else None
            subscription.add(message or {"type": "orphaned"})

    def report_unavailable(self) -> None:
        """Tell all subscriptions that the server is unavailable."""
        for subscription in self._by_key.values():
            subscription.add({"type": "unavailable"})
