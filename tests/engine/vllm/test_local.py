"""The part of the engine that starts vLLM, without vLLM."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

pytest.importorskip("zmq")
from unwritten_engine.errors import MissingPackage, ModelUnsupported
from unwritten_engine.vllm import local
from unwritten_engine.vllm.draft_channel import DraftWriter, settings_of

ARGUMENTS = {"model": "a-model", "distributed_executor_backend": "ray"}


class AsyncLLM:
    """A vLLM whose plugin connects, or does not."""

    has_plugin = True
    error: Exception | None = None
    errored = False
    seconds = 0.0
    starts = 0
    writer: DraftWriter | None = None

    @classmethod
    def from_engine_args(cls, arguments: Any) -> AsyncLLM:
        if cls.error is not None:
            raise cls.error
        time.sleep(cls.seconds)
        cls.starts += 1
        started = cls()
        copied = os.environ["VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"].split(",")
        settings = settings_of({name: os.environ[name] for name in copied if name in os.environ})
        if cls.has_plugin and settings is not None:
            started.writer = DraftWriter(settings)
        return started

    def shutdown(self) -> None:
        if self.writer is not None:
            self.writer.close()


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[AsyncLLM]:
    fakes = {"AsyncLLM": type("Fresh", (AsyncLLM,), {}), "AsyncEngineArgs": dict, "get_ip": lambda: "127.0.0.1"}
    monkeypatch.setattr(local, "vllm_object", lambda path: fakes[path.rpartition(".")[2]])
    monkeypatch.setattr(local, "_CONNECT_SECONDS", 5)
    return fakes["AsyncLLM"]  # type: ignore[return-value]


@pytest.mark.anyio
@pytest.mark.parametrize("arguments", [ARGUMENTS, {"model": "a-model"}])
async def test_the_plugin_connects_also_from_another_machine(
    arguments: dict[str, str], vllm: type[AsyncLLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_RAY_EXTRA_ENV_VARS_TO_COPY", "MINE")
    started = local.LocalVLLM(arguments)
    assert started._channel.address.startswith("connect+tcp://127.0.0.1:" if len(arguments) > 1 else "ipc://")
    assert "UNWRITTEN_DRAFTS_KEY" not in os.environ
    assert os.environ["VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"] == "MINE"
    await started.close()


@pytest.mark.anyio
async def test_a_cancelled_request_does_not_start_vllm_twice(vllm: type[AsyncLLM]) -> None:
    started = local.LocalVLLM({"model": "a-model"})
    started._client.errored = True
    vllm.seconds = 0.5
    first = started._call(started._running_client())
    await asyncio.sleep(0.1)
    first.cancel()
    client = await asyncio.wrap_future(started._call(started._running_client()))
    assert client is started._client and not client.errored
    assert vllm.starts == 2
    await started.close()


def test_a_vllm_without_the_plugin_is_an_error(vllm: type[AsyncLLM], monkeypatch: pytest.MonkeyPatch) -> None:
    vllm.has_plugin = False
    monkeypatch.setattr(local, "_CONNECT_SECONDS", 0.3)
    with pytest.raises(MissingPackage, match=r"publishes no drafts.*On every machine"):
        local.LocalVLLM(ARGUMENTS)


def test_an_unreachable_ray_is_an_error_with_its_commands(vllm: type[AsyncLLM]) -> None:
    vllm.error = ConnectionError("Could not find any running Ray instance.")
    with pytest.raises(ModelUnsupported, match=r"any running Ray instance\. .* ray status.*'ray start --head'"):
        local.LocalVLLM(ARGUMENTS)
    with pytest.raises(ModelUnsupported, match=r"use a smaller context=…"):
        local.LocalVLLM({"model": "a-model"})
