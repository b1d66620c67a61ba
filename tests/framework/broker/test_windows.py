"""The contract of sliding windows: in memory, and in Redis for all processes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from tests.support.redis_server import MISSING, PROGRAM, redis_server

from unwritten.broker.base import Broker, BrokerState
from unwritten.broker.open import open_broker
from unwritten.broker.redis_broker import RedisBroker
from unwritten.core.errors import BrokerUnavailable
from unwritten.security.rate_limits import Charge, LocalWindows, Windows

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_leases")]


@pytest.fixture(params=["local", "redis"])
async def windows(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Windows, Windows]]:
    """The windows as two processes see them."""
    if request.param == "local":
        local = LocalWindows()
        yield local, local
        return
    url, secret = request.getfixturevalue("redis").url, secrets.token_bytes()
    brokers = [open_broker(url, secret) for _ in range(2)]
    for broker in brokers:
        await broker.start()
    yield brokers[0].windows, brokers[1].windows
    for broker in brokers:
        await broker.close()


async def wait_for_state(broker: Broker, state: BrokerState) -> None:
    async with asyncio.timeout(10):
        while broker.state != state:
            await asyncio.sleep(0.05)


def pages(client_id: str = "a", limit: float = 3, seconds: float = 60.0, pending: float = 0.0) -> Charge:
    return Charge("pages", client_id, seconds, limit, 1.0, pending)


async def test_a_limit_holds_for_each_client_over_all_processes(windows: tuple[Windows, Windows]) -> None:
    one, two = windows
    for process in (one, two, one):
        assert await process.spend([pages()]) is None
    for process in (one, two):
        refused = await process.spend([pages()])
        assert refused is not None and refused[0] == pages()
        assert 50 < refused[1] <= 60.2
    assert await two.spend([pages("b")]) is None


async def test_what_was_spent_counts_until_the_window_has_passed(windows: tuple[Windows, Windows]) -> None:
    one, two = windows
    charge = pages(limit=2, seconds=0.6)
    assert await one.spend([charge]) is None
    await asyncio.sleep(0.3)
    assert await two.spend([charge]) is None
    refused = await one.spend([charge])
    assert refused is not None and 0 < refused[1] < 0.35
    await asyncio.sleep(refused[1] + 0.01)
    assert await two.spend([charge]) is None
    assert await one.spend([charge]) is not None


async def test_nothing_is_spent_if_one_of_several_limits_is_used_up(windows: tuple[Windows, Windows]) -> None:
    one, two = windows
    small = Charge("small", "a", 60.0, 1, 1.0)
    assert await one.spend([pages(), small]) is None
    for process in (two, one, two):
        refused = await process.spend([pages(), small])
        assert refused is not None and refused[0] == small
    assert await one.spend([pages()]) is None
    assert await two.spend([pages()]) is None
    assert await one.spend([pages()]) is not None


async def test_fractions_and_pending_amounts_count(windows: tuple[Windows, Windows]) -> None:
    one, two = windows
    seconds = Charge("seconds", "", 60.0, 1.0)
    for process in (one, two, one):
        process.add(Charge("seconds", "", 60.0, 0.0, 0.3))
    await asyncio.sleep(0.2)
    assert await two.spend([seconds]) is None
    refused = await two.spend([Charge("seconds", "", 60.0, 1.0, pending=0.2)])
    assert refused is not None
    refused = await two.spend([Charge("seconds", "", 60.0, 0.1, pending=0.2)])
    assert refused is not None and refused[1] > 50
    refused = await one.spend([Charge("other", "", 60.0, 0.1, pending=0.2)])
    assert refused == (Charge("other", "", 60.0, 0.1, pending=0.2), 0.0), "only pending amounts: the time is unknown"


async def test_concurrent_requests_cannot_exceed_a_limit(windows: tuple[Windows, Windows]) -> None:
    one, two = windows
    results = await asyncio.gather(*(process.spend([pages(limit=10)]) for process in (one, two) for _ in range(30)))
    assert sum(result is None for result in results) == 10


async def test_what_is_spent_while_the_broker_is_away_is_counted_when_it_is_back() -> None:
    if PROGRAM is None:
        pytest.skip(MISSING)
    with redis_server() as server:
        broker = open_broker(server.url, b"secret")
        await broker.start()
        server.stop()
        broker.windows.add(Charge("seconds", "a", 60.0, 0.0, 5.0))
        with pytest.raises(BrokerUnavailable):
            await broker.windows.spend([Charge("seconds", "a", 60.0, 5.0)])
        await asyncio.to_thread(server.start)
        await wait_for_state(broker, "ok")
        assert await broker.windows.spend([Charge("seconds", "a", 60.0, 5.0)]) is not None
        await broker.close()


async def test_what_is_added_while_the_broker_does_not_respond_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    if PROGRAM is None:
        pytest.skip(MISSING)
    monkeypatch.setattr("unwritten.broker.redis_timing.COMMAND_TIMEOUT", 0.3)
    with redis_server() as server:
        broker = open_broker(server.url, b"secret")
        assert isinstance(broker, RedisBroker)
        await broker.start()
        broker.windows.add(Charge("seconds", "a", 60.0, 0.0, 1.0))
        await broker.windows.flush()  # the server knows the script from now on
        server.pause()
        broker.windows.add(Charge("seconds", "a", 60.0, 0.0, 4.0))  # it is sent, and carried out after ``resume``
        await wait_for_state(broker, "unavailable")
        server.resume()
        await wait_for_state(broker, "ok")
        assert await broker.windows.spend([Charge("seconds", "a", 60.0, 9.0)]) is None
        assert await broker.windows.spend([Charge("seconds", "a", 60.0, 5.0)]) is not None
        await broker.close()
