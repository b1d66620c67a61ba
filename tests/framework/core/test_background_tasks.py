"""Background tasks are kept alive, logged if they fail, and ended by ``close``."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from unwritten.core.background_tasks import BackgroundTasks

pytestmark = pytest.mark.anyio


class Gate:
    """An event that only a task refers to."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


async def test_a_task_is_kept_until_it_ends() -> None:
    tasks, ended, gates = BackgroundTasks(), asyncio.Event(), weakref.WeakSet[Gate]()

    async def work() -> None:
        gate = Gate()
        gates.add(gate)
        try:
            await gate.future  # the loop does not refer to it
        finally:
            ended.set()

    tasks.start(work(), "waiting")
    await asyncio.sleep(0)
    gc.collect()
    assert not ended.is_set(), "the task was destroyed"
    next(iter(gates)).future.set_result(None)
    await tasks.wait(1)
    assert ended.is_set()


async def test_a_failure_is_logged_unless_it_is_handled(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(error: Exception) -> None:
        raise error

    tasks = BackgroundTasks(lambda error: isinstance(error, OSError))
    tasks.start(fail(OSError("expected")), "connecting")
    tasks.start(fail(ValueError("unexpected")), "reading")
    await tasks.wait(1)
    assert [record.getMessage() for record in caplog.records] == ["The task 'reading' failed"]
    assert caplog.records[0].exc_info is not None


async def test_closing_ends_all_tasks_also_those_that_swallow_a_cancellation() -> None:
    tasks, swallowed, ended = BackgroundTasks(), 0, asyncio.Event()

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        ended.set()

    tasks.start(stubborn(), "swallowing")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.close(repeat_after=0.01)
    assert ended.is_set() and swallowed == 2
