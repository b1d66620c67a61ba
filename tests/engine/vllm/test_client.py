"""The client of a vLLM server with drafts, without a server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from unwritten_engine.errors import GenerationFailed

pytest.importorskip("zmq")
httpx2 = pytest.importorskip("httpx2")
CODE = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from pathlib import Path
from transformers import AutoTokenizer
import unwritten_engine.vllm.server
from unwritten_engine import Prompt
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import PromptTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
detokenizer = Detokenizer(tokenizer, frozenset({1}), 0)
print(len(PromptTokenizer(tokenizer, detokenizer, None, "random").tokenize(Prompt("A lighthouse.")).ids))
"""


def test_a_client_needs_no_torch(tmp_path: Path) -> None:
    from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer

    make_tokenizer(1024).save_pretrained(tmp_path)
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 5


@pytest.mark.anyio
async def test_a_server_that_stops_to_answer_fails_the_page() -> None:
    from unwritten_engine.vllm.backend import CanvasRequest
    from unwritten_engine.vllm.draft_channel import ChannelSettings, new_key
    from unwritten_engine.vllm.server import ServerVLLM

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client hangs up
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        backend = ServerVLLM(
            f"http://127.0.0.1:{port}/v1",
            "m",
            [ChannelSettings("tcp://127.0.0.1:9", new_key())],
            http=httpx2,
            headers={},
            local=True,
            timeout=5,
            answer_timeout=0.3,
        )
        with pytest.raises(GenerationFailed, match=r"no canvas within 0\.3 seconds\. .* first_timeout=…"):
            await backend.write_canvas(CanvasRequest((1,), 32, True, {}, None, 0), lambda draft: None)
        assert not backend._callbacks
        await backend.close()


@pytest.mark.anyio
@pytest.mark.timeout(60)
async def test_malformed_drafts_are_ignored_and_later_ones_are_read() -> None:
    from unwritten_engine.vllm.backend import CanvasRequest, StepDraft
    from unwritten_engine.vllm.draft_channel import DraftWriter, channel_settings, new_key, pack_draft
    from unwritten_engine.vllm.server import ServerVLLM

    drafts: list[StepDraft] = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    key = new_key()
    sender = DraftWriter(channel_settings("5600", key))  # or the next free port
    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        backend = ServerVLLM(
            f"http://127.0.0.1:{port}/v1",
            "m",
            [channel_settings(sender.address, key)],
            http=httpx2,
            headers={},
            local=True,
            timeout=5,
            answer_timeout=60,
        )
        canvas = asyncio.create_task(backend.write_canvas(CanvasRequest((1,), 32, True, {}, None, 0), drafts.append))
        while not backend._callbacks:
            await asyncio.sleep(0)
        topic = f"cmpl-{next(iter(backend._callbacks))}-0-abc".encode()
        listener = backend._listener
        assert listener is not None
        for malformed in (None, [topic], [topic, b"", b"", b""], [topic, b"UWD1"]):
            if malformed is not None:
                sender._socket.send_multipart(malformed)
                await asyncio.sleep(0.05)  # earlier drafts may be under way
            drafts.clear()
            while not drafts:  # at first nothing is subscribed
                sender.send(topic.decode(), pack_draft(3, bytes(4)))
                await asyncio.sleep(0.02)
            assert not listener.done()
        canvas.cancel()
        await asyncio.wait([canvas])
        await backend.close()
    sender.close()
    assert {draft.step for draft in drafts} == {3}
