"""Feeds: what the owner of a page publishes, as the processes that follow it receive it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any


class RedisFeed:
    """What the owner of one page publishes. See ``Feed``."""

    def __init__(self, key: str, num_readers: Callable[[], int]) -> None:
        self.key = key
        self.num_readers = num_readers
        self.others = 0
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
