"""Who waits, who works, and in which slot.

A *slot* keeps the evaluated tokens (the KV cache) of the last prompt that went through it. A request that has
the same *beginning* (the system part and the examples) need not evaluate it again, so it is sent to such a slot
if one is free. There may be more slots than requests at work: the spare ones keep beginnings warm.

The next to work is the one with the lowest priority number, and among equals the one who came first. Requests
that nobody waits for (``Priority.AHEAD``) never take more than half of the places, so that a click finds one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field

from .errors import EngineClosed
from .frames import Priority


@dataclass(slots=True)
class Slot:
    """One slot of the cache.

    Attributes:
        number: as the model's runtime counts it.
        beginning: of the prompt that went through it last; None for none.
        used: when it was last taken, as a running number; 0 for never.
        priority: of the request at work in it; None while it is free.
        request: the one at work in it.
    """

    number: int
    beginning: str | None = None
    used: int = 0
    priority: Priority | None = None
    request: object = None


@dataclass(order=True, slots=True)
class _QueuedRequest:
    priority: Priority
    number: int
    beginning: str = field(compare=False)
    request: object = field(compare=False)
    turn: asyncio.Future[Slot] = field(compare=False)


class SlotScheduler:
    """Hands out slots. All methods are called from one event loop.

    Args:
        count: slots of the cache.
        places: how many of them may work at the same time.
    """

    def __init__(self, count: int, places: int) -> None:
        self._slots = [Slot(number) for number in range(count)]
        self._places = min(places, count)
        self._places_ahead = max(1, self._places // 2)
        self._waiting: list[_QueuedRequest] = []
        self._numbers = itertools.count(1)
        self._closed = False

    @property
    def busy(self) -> int:
        """Slots at work."""
        return sum(slot.priority is not None for slot in self._slots)

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return sum(not waiting.turn.done() for waiting in self._waiting)

    def __len__(self) -> int:
        return len(self._slots)

    async def take(self, beginning: str, priority: Priority, request: object = None) -> Slot:
        """Wait for a place, and take the free slot that suits this beginning best.

        Args:
            beginning: what the prompt shares with others.
            priority: who is waiting.
            request: what ``promote`` may name later.

        Raises:
            EngineClosed: while waiting, or before.
        """
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, _QueuedRequest(priority, next(self._numbers), beginning, request, turn))
        self._hand_out()
        try:
            return await turn
        except asyncio.CancelledError:
            # The turn may have come in the very moment of the cancellation: pass it on.
            if turn.done() and not turn.cancelled() and not turn.exception():
                self.give_back(turn.result())
            raise

    def give_back(self, slot: Slot) -> None:
        """Free a slot."""
        slot.priority = slot.request = None
        self._hand_out()

    def promote(self, request: object) -> None:
        """Somebody waits for this request now: it goes before all that is written ahead."""
        for waiting in self._waiting:
            if waiting.request is request:
                waiting.priority = Priority.CLICK
        heapq.heapify(self._waiting)
        for slot in self._slots:
            if slot.priority is not None and slot.request is request:
                slot.priority = Priority.CLICK
        self._hand_out()

    def close(self) -> None:
        """Turn away everyone who waits."""
        self._closed = True
        for waiting in self._waiting:
            if not waiting.turn.done():
                waiting.turn.set_exception(EngineClosed("The engine was closed before the work began."))
        self._waiting.clear()

    def _hand_out(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            if first.turn.done():  # cancelled while it waited
                heapq.heappop(self._waiting)
                continue
            ahead = sum(slot.priority is Priority.PREFETCH for slot in self._slots)
            if self.busy >= self._places or (first.priority is Priority.PREFETCH and ahead >= self._places_ahead):
                return
            heapq.heappop(self._waiting)
            slot = self._best(first.beginning)
            slot.beginning = first.beginning
            slot.priority, slot.request = first.priority, first.request
            slot.used = next(self._numbers)
            first.turn.set_result(slot)

    def _best(self, beginning: str) -> Slot:
        """A free slot with this beginning, else the one that will be missed least."""
        free = [slot for slot in self._slots if slot.priority is None]
        same = [slot for slot in free if slot.beginning == beginning]
        if same:
            return max(same, key=lambda slot: slot.used)
        held = Counter(slot.beginning for slot in self._slots)
        return min(free, key=lambda slot: (slot.used > 0, held[slot.beginning] == 1, slot.used))
