"""Fixtures that several test files share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.postgres import PostgresServer, running_postgres

from unwritten_engine import Engine, open_engine

SLOW = (
    *("tests/browser", "tests/torture", "tests/benchmarks", "tests/engine"),
    *("tests/framework/storage", "tests/framework/cli", "tests/framework/broker", "tests/project"),
)
"""Folders whose tests take longest. A parallel run starts with them, so that no worker is left with one at the end."""

SHARED = (("tests/browser/", "browser"), ("tests/framework/storage/", "postgres"))
"""Folders whose tests run on one worker, because they share a browser or a PostgreSQL server."""

# Threads that wait for each other sleep early. On a busy machine spinning makes small models up to 50 times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # Each worker and its child processes use their share of the processors. OpenMP reads this once. With the limit
    # alone, torch plans for more threads than it gets, and some products of bfloat16 are left incomplete.
    for variable in ("OMP_THREAD_LIMIT", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(max(1, (os.cpu_count() or 1) // int(workers))))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a parallel run, keep the tests of a file on one worker, and those of some folders."""
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        file = item.nodeid.partition("::")[0]
        shared = next((name for folder, name in SHARED if file.startswith(folder)), file)
        item.add_marker(pytest.mark.xdist_group(shared))
    items.sort(key=lambda item: next((at for at, name in enumerate(SLOW) if item.nodeid.startswith(name)), len(SLOW)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="session")
async def embedded(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """Return the embedded model, loaded once. All its tests share one event loop."""
    prefixes = tmp_path_factory.mktemp("prefixes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unwritten_engine.llamacpp.engine.prefixes_folder", lambda: prefixes)
        engine = await asyncio.to_thread(open_engine, "embedded", context=2048)
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a running PostgreSQL server. Tests that stop it start it again. Skips if PostgreSQL is not installed."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, with an empty home and no settings in the environment. Return the folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("UNWRITTEN_")]:
        monkeypatch.delenv(name)
    return folder
