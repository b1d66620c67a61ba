from __future__ import annotations

import asyncio

import pytest
from tests.support.servers import PATIENCE

from unwritten_engine.errors import EngineClosed
from unwritten_engine.frames import Priority
from unwritten_engine.request_slots import Slot, SlotScheduler

pytestmark = pytest.mark.anyio

CLICK, AHEAD = Priority.CLICK, Priority.PREFETCH


async def turn() -> None:
    """Let everybody who can go on do so."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_clicks_go_before_prefetches_in_order_of_arrival() -> None:
    slots = SlotScheduler(1, 1)
    held = await slots.acquire("", CLICK)
    order: list[str] = []

    async def ask(name: str, priority: Priority) -> None:
        slot = await slots.acquire("", priority)
        order.append(name)
        slots.release(slot)

    waiting = [
        asyncio.ensure_future(ask(name, priority))
        for name, priority in [("ahead 1", AHEAD), ("click 1", CLICK), ("ahead 2", AHEAD), ("click 2", CLICK)]
    ]
    await turn()
    assert slots.waiting == 4
    slots.release(held)
    await asyncio.gather(*waiting)
    assert order == ["click 1", "click 2", "ahead 1", "ahead 2"]
    assert (slots.busy, slots.waiting) == (0, 0)


async def test_a_request_gets_the_slot_with_its_prefix() -> None:
    slots = SlotScheduler(3, 3)
    lead, facts = await slots.acquire("lead", CLICK), await slots.acquire("facts", CLICK)
    assert lead is not facts
    slots.release(lead)
    slots.release(facts)
    again = [await slots.acquire("facts", CLICK), await slots.acquire("lead", CLICK)]
    assert again == [facts, lead]


async def test_a_new_prefix_takes_an_unused_slot_then_a_duplicate_then_the_oldest() -> None:
    slots = SlotScheduler(4, 4)
    taken = [await slots.acquire(beginning, CLICK) for beginning in ("a", "b", "b")]
    for slot in taken:
        slots.release(slot)
    unused = await slots.acquire("c", CLICK)
    assert unused not in taken
    slots.release(unused)
    duplicate = await slots.acquire("d", CLICK)
    assert duplicate in taken[1:]
    slots.release(duplicate)
    assert await slots.acquire("e", CLICK) is taken[0]


async def test_prefetches_leave_half_of_the_slots_free() -> None:
    slots = SlotScheduler(4, 4)
    ahead = [asyncio.ensure_future(slots.acquire("", AHEAD)) for _ in range(4)]
    await turn()
    assert sum(task.done() for task in ahead) == 2
    clicks = [await asyncio.wait_for(slots.acquire("", CLICK), PATIENCE) for _ in range(2)]
    assert len(clicks) == 2
    for task in ahead:
        task.cancel()
    await asyncio.gather(*ahead, return_exceptions=True)


async def test_the_limit_applies_even_with_more_slots() -> None:
    slots = SlotScheduler(4, 2)
    tasks = [asyncio.ensure_future(slots.acquire("", CLICK)) for _ in range(4)]
    await turn()
    assert (slots.busy, slots.waiting) == (2, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_cancelled_request_takes_no_slot() -> None:
    slots = SlotScheduler(1, 1)
    held = await slots.acquire("", CLICK)
    leaving, staying = (asyncio.ensure_future(slots.acquire("", CLICK)) for _ in range(2))
    await turn()
    leaving.cancel()
    await turn()
    slots.release(held)
    assert isinstance(await staying, Slot)


async def test_a_slot_granted_during_cancellation_is_passed_on() -> None:
    slots = SlotScheduler(1, 1)
    held = await slots.acquire("", CLICK)
    leaving, staying = (asyncio.ensure_future(slots.acquire("", CLICK)) for _ in range(2))
    await turn()
    slots.release(held)  # the turn of the first is set, but it has not gone on yet
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert isinstance(await asyncio.wait_for(staying, PATIENCE), Slot)
    assert slots.busy == 1


async def test_closing_rejects_waiting_requests() -> None:
    slots = SlotScheduler(1, 1)
    await slots.acquire("", CLICK)
    waiting = asyncio.ensure_future(slots.acquire("", CLICK))
    await turn()
    slots.close()
    with pytest.raises(EngineClosed):
        await waiting
    with pytest.raises(EngineClosed):
        await slots.acquire("", CLICK)


async def test_a_promoted_request_goes_first() -> None:
    slots = SlotScheduler(2, 2)
    held = await slots.acquire("", CLICK)
    first, wanted = object(), object()
    at_work = await slots.acquire("", AHEAD, first)
    order: list[object] = []

    async def ask(request: object) -> None:
        slot = await slots.acquire("", AHEAD, request)
        order.append(request)
        slots.release(slot)

    other = object()
    waiting = [asyncio.ensure_future(ask(request)) for request in (other, wanted)]
    await turn()
    slots.promote(wanted)
    slots.promote(object())  # nobody knows it
    slots.release(held)
    await asyncio.gather(*waiting[1:])
    assert order == [wanted]  # the other one is ahead, and all places for that are taken
    slots.promote(first)
    await asyncio.gather(*waiting)
    assert at_work.priority is CLICK and order == [wanted, other]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_slot_of_a_request_is_freed_when_its_task_has_ended(cancelled: bool) -> None:
    slots, abort, started = SlotScheduler(1, 1), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await abort.wait()

    async def request() -> None:
        slot = await slots.acquire("", CLICK)
        task = asyncio.create_task(work())
        async with slots.until_ended(slot, task):
            started.set()
            await asyncio.sleep(0 if not cancelled else 1000)

    reader = asyncio.create_task(request())
    await started.wait()
    if cancelled:
        reader.cancel()
    await turn()
    assert slots.busy == 1 and not reader.done(), "the runtime still works on it"
    abort.set()
    await asyncio.wait_for(asyncio.wait([reader]), PATIENCE)
    assert slots.busy == 0 and reader.cancelled() == cancelled
