"""Two processes of one app, as the tests of the queue see them: with a broker, and without one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from starlette.testclient import TestClient
from tests.support.apps import browser
from tests.support.redis_server import MISSING, PROGRAM, RedisServer, redis_server

from unwritten import App
from unwritten_engine import Request
from unwritten_engine.scripted import Answer, ScriptedEngine, scripted


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
    for name, seconds in (("HEARTBEAT", 0.1), ("LEASE_LIFETIME", 0.5), ("LEASE_REACQUISITION_TIME", 0.3)):
        monkeypatch.setattr(f"unwritten.broker.redis_timing.{name}", seconds)


class Processes:
    """Two processes that serve one app. Without a broker they are the same one.

    Attributes:
        a: A client of the first process.
        b: A client of the second one.
        engines: Their engines.
    """

    def __init__(self, a: TestClient, b: TestClient, engines: list[ScriptedEngine]) -> None:
        self.a = a
        self.b = b
        self.engines = engines

    @property
    def requests(self) -> list[Request]:
        """The requests to all engines."""
        return [request for engine in self.engines for request in engine.requests]

    @property
    def running(self) -> int:
        """The number of running generations."""
        return sum(engine.running for engine in self.engines)

    @property
    def stopped(self) -> int:
        """The number of generations that were stopped."""
        return sum(engine.stopped for engine in self.engines)


Serve: TypeAlias = Callable[..., Processes]


@pytest.fixture(params=["local", "redis"])
def serve(request: pytest.FixtureRequest, tmp_path: Path, fast_leases: None) -> Iterator[Serve]:
    """Return a function that serves an app in two processes, or in one: ``serve(make_app, script, **settings)``."""
    with contextlib.ExitStack() as stack:
        redis = request.getfixturevalue("redis") if request.param == "redis" else None

        def run(make: Callable[..., App], answer: Answer, delay: float = 0.0, **settings: Any) -> Processes:
            if redis is not None:
                settings["broker"] = redis.url
            engines = [scripted(answer, delay=delay) for _ in range(2 if redis else 1)]
            clients = [stack.enter_context(browser(make(tmp_path, engine, **settings))) for engine in engines]
            return Processes(clients[0], clients[-1], engines)

        yield run
