"""Fixtures that several test files share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio; the engine and the framework need nothing else."""
    return "asyncio"
