"""Schedule requests onto the cache slots of a runtime.

A *slot* keeps the KV cache of the last prompt that it ran. A request with the same *prefix* (system text and examples)
reuses it, so it is sent to such a slot if one is free. There may be more slots than running requests; the spare slots
keep prefixes warm.

The queue is ordered by priority, then by arrival. Requests with ``Priority.PREFETCH`` use at most half of the places,
so that a click finds a free one.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from .errors import EngineClosed
from .frames import Priority


@dataclass(slots=True)
class Slot:
    """One slot of the cache.

    Attributes:
        number: the runtime's index.
        prefix: prefix of the last prompt; None if unused.
        is_evaluated: True if the cache is known to hold all of this prefix. Set by the engine.
        last_used: when it was last acquired, as a running number; 0 for never.
        priority: priority of the running request; None while the slot is free.
        request: the running request.
    """

    number: int
    prefix: str | None = None
    is_evaluated: bool = False
    last_used: int = 0
    priority: Priority | None = None
    request: object = None


@dataclass(order=True, slots=True)
class _QueuedRequest:
    priority: Priority
    number: int
    prefix: str = field(compare=False)
    request: object = field(compare=False)
    future: asyncio.Future[Slot] = field(compare=False)


class SlotScheduler:
    """Assigns slots to requests. Call all methods from one event loop.

    Args:
        count: slots of the cache.
        max_running: slots that may run at the same time.
    """

    def __init__(self, count: int, max_running: int) -> None:
        self._slots = [Slot(number) for number in range(count)]
        self._max_running = min(max_running, count)
        self._max_prefetches = max(1, self._max_running // 2)
        self._waiting: list[_QueuedRequest] = []
        self._numbers = itertools.count(1)
        self._closed = False

    @property
    def busy(self) -> int:
        """Number of slots that are in use."""
        return sum(slot.priority is not None for slot in self._slots)

    @property
    def waiting(self) -> int:
        """Number of queued requests."""
        return sum(not waiting.future.done() for waiting in self._waiting)

    def __len__(self) -> int:
        return len(self._slots)

    async def acquire(self, prefix: str, priority: Priority, request: object = None) -> Slot:
        """Wait for a place, and return the free slot that suits this prefix best.

        Args:
            prefix: the part of the prompt that other prompts share.
            priority: scheduling priority.
            request: identifies the request for ``promote``.

        Raises:
            EngineClosed: the scheduler is closed, or was closed meanwhile.
        """
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, _QueuedRequest(priority, next(self._numbers), prefix, request, future))
        self._schedule()
        try:
            return await future
        except asyncio.CancelledError:
            # A slot may have been assigned at the moment of the cancellation: pass it on.
            if future.done() and not future.cancelled() and not future.exception():
                self.release(future.result())
            raise

    def release(self, slot: Slot) -> None:
        """Free a slot."""
        slot.priority = slot.request = None
        self._schedule()

    @contextlib.asynccontextmanager
    async def until_ended(self, slot: Slot, task: asyncio.Task[None]) -> AsyncIterator[None]:
        """At the end of the block, cancel the task of a request, wait until it has ended, and free its slot."""
        try:
            yield
        finally:
            task.cancel()
            try:
                await asyncio.wait([task])
            finally:
                self.release(slot)

    def promote(self, request: object) -> None:
        """Raise a queued or running request to ``Priority.CLICK``."""
        for waiting in self._waiting:
            if waiting.request is request:
                waiting.priority = Priority.CLICK
        heapq.heapify(self._waiting)
        for slot in self._slots:
            if slot.priority is not None and slot.request is request:
                slot.priority = Priority.CLICK
        self._schedule()

    def close(self) -> None:
        """Reject all queued requests."""
        self._closed = True
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_exception(EngineClosed("The engine was closed before the generation started."))
        self._waiting.clear()

    def _schedule(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            if first.future.done():  # cancelled while it waited
                heapq.heappop(self._waiting)
                continue
            ahead = sum(slot.priority is Priority.PREFETCH for slot in self._slots)
            if self.busy >= self._max_running or (
                first.priority is Priority.PREFETCH and ahead >= self._max_prefetches
            ):
                return
            heapq.heappop(self._waiting)
            slot = self._best_slot(first.prefix)
            slot.is_evaluated = slot.is_evaluated and slot.prefix == first.prefix
            slot.prefix = first.prefix
            slot.priority, slot.request = first.priority, first.request
            slot.last_used = next(self._numbers)
            first.future.set_result(slot)

    def _best_slot(self, beginning: str) -> Slot:
        """Return a free slot with this prefix, else the one whose prefix is least valuable."""
        free = [slot for slot in self._slots if slot.priority is None]
        same = [slot for slot in free if slot.prefix == beginning]
        if same:
            return max(same, key=lambda slot: slot.last_used)
        slots_by_prefix = Counter(slot.prefix for slot in self._slots)
        return min(free, key=lambda slot: (slot.last_used > 0, slots_by_prefix[slot.prefix] == 1, slot.last_used))
