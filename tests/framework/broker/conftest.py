"""Two processes of one app, as the tests of the queue see them: with a broker, and without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.redis_server import MISSING, PROGRAM, RedisServer, redis_server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis server. Tests that stop it start it again."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with redis_server() as server:
        yield server


@pytest.fixture
def fast_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let leases end after half a second."""
    for name, seconds in (("HEARTBEAT", 0.1), ("LEASE_LIFETIME", 0.5), ("SETTLE_TIME", 0.3)):
        monkeypatch.setattr(f"unwritten.broker.redis_broker.{name}", seconds)
