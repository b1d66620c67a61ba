"""Fixtures that several test files share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unwritten_engine import Engine, open_engine


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio; the engine and the framework need nothing else."""
    return "asyncio"


@pytest.fixture(scope="session")
async def embedded(anyio_backend: str) -> AsyncIterator[Engine]:
    """The embedded model, loaded once for all tests. They share one event loop with it."""
    engine = await asyncio.to_thread(open_engine, "embedded", context=2048)
    yield engine
    await engine.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person with an empty home, in an empty folder, which is returned."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("UNWRITTEN_")]:
        monkeypatch.delenv(name)
    return folder
