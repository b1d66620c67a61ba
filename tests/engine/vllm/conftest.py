"""A vLLM on the CPU with a small random model, for the tests that need a real one.

They run where vLLM is installed, and are skipped elsewhere. ``.ci/vllm`` makes such an environment and runs them.
"""

from __future__ import annotations

import asyncio
import os
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from unwritten_engine import Engine, open_engine
from unwritten_engine.vllm.internals import installed_version

ON_CPU = Path(__file__).parent / "on_cpu"
OPTIONS: dict[str, Any] = {"context": 1024, "eager": True, "dtype": "float32"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need vLLM where it is not installed."""
    if installed_version() is not None:
        return
    for item in items:
        if "needs_vllm" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="vLLM is not installed here; .ci/vllm runs this test"))


@pytest.fixture(scope="session")
def needs_vllm() -> None:
    """Prepare this process and its children to run vLLM on a CPU."""
    os.environ.setdefault("TRITON_INTERPRET", "1")
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # compiling the sampler takes longer than all tests
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ON_CPU), os.environ.get("PYTHONPATH", "")]))
    runpy.run_path(str(ON_CPU / "sitecustomize.py"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small random model that vLLM can run."""
    from unwritten_engine.vllm.checkpoint import write_random

    return write_random(tmp_path_factory.mktemp("checkpoint"), canvas=64)


@pytest.fixture(scope="session")
async def engine(needs_vllm: None, anyio_backend: str, checkpoint: Path) -> AsyncIterator[Engine]:
    """Return the engine, started once. All its tests share one event loop."""
    engine = await asyncio.to_thread(open_engine, "vllm", model=str(checkpoint), **OPTIONS)
    yield engine
    await engine.close()
