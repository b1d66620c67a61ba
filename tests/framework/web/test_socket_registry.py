"""Sending in turns: many subscribers of one page do not keep the event loop from requests."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.servers import PATIENCE

from unwritten.web.socket_registry import SendingTurns

pytestmark = pytest.mark.anyio


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def test_other_work_runs_between_turns_and_all_get_one_in_order() -> None:
    turns, order = SendingTurns(), list[int | str]()

    async def send(number: int) -> None:
        await turns.take()
        compute(0.005)
        order.append(number)

    async def request() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        order.append("request")

    sending = [asyncio.create_task(send(number)) for number in range(40)]
    await request()
    await asyncio.gather(*sending)
    assert [entry for entry in order if entry != "request"] == list(range(40))
    assert order.index("request") < 15, "a request does not wait for all of them"


async def test_sending_leaves_a_share_of_the_time() -> None:
    turns, ran = SendingTurns(), 0

    async def send() -> None:
        await turns.take()
        compute(0.01)

    async def count() -> None:
        nonlocal ran
        while True:
            await asyncio.sleep(0)
            ran += 1

    counting = asyncio.create_task(count())
    started, processor = time.monotonic(), time.thread_time()
    await asyncio.gather(*(send() for _ in range(20)))
    seconds = time.monotonic() - started
    counting.cancel()
    assert seconds > 1.5 * 20 * 0.01 and ran > 100, (seconds, time.thread_time() - processor)


async def test_a_socket_that_closes_while_it_waits_keeps_no_turn() -> None:
    turns, served = SendingTurns(), list[int]()

    async def send(number: int) -> None:
        await turns.take()
        served.append(number)

    tasks = [asyncio.create_task(send(number)) for number in range(5)]
    await asyncio.sleep(0)
    for task in tasks[1:4]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(turns.take(), PATIENCE)
    assert served == [0, 4]
