"""Leases of two brokers on one Redis server, without an app."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from tests.support.redis_server import RedisServer

from unwritten.broker import redis_scripts
from unwritten.broker.base import RELEASED
from unwritten.broker.open import open_broker
from unwritten.broker.redis_broker import RedisBroker

pytestmark = [pytest.mark.timeout(30), pytest.mark.anyio]

KEY = "/wiki/Lighthouse"


@pytest.fixture
async def brokers(redis: RedisServer) -> AsyncIterator[tuple[RedisBroker, RedisBroker]]:
    """The brokers of two processes."""
    secret = secrets.token_bytes()
    one, two = open_broker(redis.url, secret), open_broker(redis.url, secret)
    assert isinstance(one, RedisBroker) and isinstance(two, RedisBroker)
    for broker in (one, two):
        await broker.start()
    yield one, two
    for broker in (one, two):
        await broker.close()


async def test_a_lease_is_given_to_one_process_until_it_ends(brokers: tuple[RedisBroker, RedisBroker]) -> None:
    one, two = brokers
    lease = await one.claim(KEY)
    assert lease is not None and await lease.confirm()
    assert await two.claim(KEY) is None
    lease.end(RELEASED)
    assert not await lease.confirm()
    while await two.claim(KEY) is None:
        await asyncio.sleep(0.02)
    assert await one.claim(KEY) is None


async def test_a_renewal_that_ends_late_does_not_affect_the_next_lease(
    brokers: tuple[RedisBroker, RedisBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = brokers
    lease = await one.claim(KEY)
    assert lease is not None
    run = one._connection.run

    async def run_late(script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        result = await run(script, keys, arguments)
        if script is redis_scripts.RENEW:
            await asyncio.sleep(0.3)
        return result

    monkeypatch.setattr(one._connection, "run", run_late)
    renewal = asyncio.create_task(lease.confirm())
    await asyncio.sleep(0.1)
    lease.end(RELEASED)
    assert await one.claim(KEY) is not None
    assert not await renewal
    assert await two.claim(KEY) is None


async def test_messages_that_cannot_be_read_interrupt_nothing(brokers: tuple[RedisBroker, RedisBroker]) -> None:
    one, two = brokers
    pubsub, client, channel = two._messages._pubsub, one._connection.client, one._connection.name("all")
    for text in ("no JSON", "[1]", "{}", '{"type":"ended"}'):
        await client.publish(channel, text)
    assert await one.claim(KEY) is not None
    await wait_until_elsewhere(two, KEY)
    assert two._messages._pubsub is pubsub


async def wait_until_elsewhere(broker: RedisBroker, key: str) -> None:
    async with asyncio.timeout(10):
        while not broker.is_elsewhere(key):
            await asyncio.sleep(0.02)


async def test_a_quiet_connection_is_pinged_and_kept(
    brokers: tuple[RedisBroker, RedisBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = brokers
    monkeypatch.setattr("unwritten.broker.redis_messages._SILENCE", 0.05)
    two._messages.start()
    await asyncio.sleep(0.2)
    pubsub = two._messages._pubsub
    await asyncio.sleep(0.5)
    assert pubsub is not None and two._messages._pubsub is pubsub
    assert await one.claim(KEY) is not None
    await wait_until_elsewhere(two, KEY)


@pytest.mark.parametrize("error", [None, RuntimeError("a fault of the client")])
async def test_a_broken_connection_is_opened_again(
    brokers: tuple[RedisBroker, RedisBroker], error: Exception | None
) -> None:
    one, two = brokers
    broken = two._messages._pubsub

    async def get_nothing(**options: Any) -> None:
        await asyncio.sleep(0.02)  # as if a firewall had dropped the connection
        if error is not None:
            raise error

    broken.get_message = get_nothing
    await one._connection.client.publish(one._connection.name("all"), "{}")  # ends the call that has begun
    async with asyncio.timeout(10):
        while two._messages._pubsub in {None, broken}:
            await asyncio.sleep(0.02)
    assert await one.claim(KEY) is not None
    await wait_until_elsewhere(two, KEY)
