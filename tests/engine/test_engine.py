from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine_servers import EngineServerThread

import unwritten_engine
from unwritten_engine import Engine, Frame, Prompt, Recorder, Request, TapeEngine, open_engine, scripted
from unwritten_engine.__main__ import main
from unwritten_engine.errors import EngineClosed
from unwritten_engine.llamacpp.engine import LlamaCppEngine
from unwritten_engine.remote.client import RemoteEngine
from unwritten_engine.scripted import ScriptedEngine

pytestmark = pytest.mark.anyio

KINDS: list[type[Engine]] = [LlamaCppEngine, Recorder, RemoteEngine, ScriptedEngine, TapeEngine]
"""Every engine, held to the protocol by the type checker."""

TEXT = "A lighthouse is a tower by the sea."


def _scripted(folder: Path) -> Engine:
    return scripted(TEXT, delay=0.01)


def _recorder(folder: Path) -> Engine:
    return Recorder(_scripted(folder), folder / "b.tape")


def _tape(folder: Path) -> Engine:
    async def record() -> None:
        async for _ in Recorder(_scripted(folder), folder / "a.tape").generate(Request(Prompt("x"))):
            pass

    asyncio.run(record())
    return TapeEngine(folder / "a.tape")


@contextlib.contextmanager
def _remote(folder: Path) -> Iterator[Engine]:
    server = EngineServerThread(_scripted(folder))
    try:
        yield open_engine(server.url).engine
    finally:
        server.close()


engines = pytest.mark.parametrize("make", [_scripted, _recorder, _tape, _remote])


@pytest.fixture
def engine(make: Callable[[Path], Any], tmp_path: Path) -> Iterator[Engine]:
    made = make(tmp_path)
    with contextlib.nullcontext(made) if hasattr(made, "generate") else made as engine:
        yield engine


@engines
async def test_texts_are_cumulative_and_the_last_frame_has_the_usage(engine: Engine) -> None:
    frames = [frame async for frame in engine.generate(Request(Prompt("x")))]
    assert [frame.done for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert frames[-1].text == TEXT
    assert frames[-1].unsettled == ()
    before = Frame("")
    for frame in frames:
        assert frame.text.startswith(before.text[: before.fixed])
        before = frame


@engines
async def test_several_generations_run_at_once(engine: Engine) -> None:
    async def write() -> str:
        return [frame async for frame in engine.generate(Request(Prompt("x")))][-1].text

    assert await asyncio.gather(*(write() for _ in range(5))) == [TEXT] * 5


@engines
async def test_a_generation_may_be_closed_at_any_frame(engine: Engine) -> None:
    for count in range(4):
        running = engine.generate(Request(Prompt("x")))
        for _ in range(count):
            await anext(running)
        await running.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(running)


@engines
async def test_a_closed_engine_refuses_requests(engine: Engine) -> None:
    async def write() -> None:
        async with contextlib.aclosing(engine.generate(Request(Prompt("x")))) as frames:
            async for _ in frames:
                pass

    task = asyncio.ensure_future(write())
    await asyncio.sleep(0.02)
    await engine.close()
    with pytest.raises(EngineClosed):
        await task
    with pytest.raises(EngineClosed):
        await write()
    await engine.close()


@engines
async def test_warming_is_always_allowed(engine: Engine) -> None:
    await engine.warm([Prompt("x")])


def test_public_names_are_pinned() -> None:
    assert unwritten_engine.__all__ == [
        "Abilities",
        "About",
        "Draft",
        "Engine",
        "EngineError",
        "Example",
        "Frame",
        "Priority",
        "Progress",
        "Prompt",
        "Recorder",
        "Request",
        "Span",
        "StopReason",
        "TapeEngine",
        "Usage",
        "open_engine",
        "scripted",
    ]


def test_importing_the_engine_loads_no_model_library() -> None:
    code = "import sys, unwritten_engine; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"xllamacpp", "torch", "huggingface_hub"} & set(found.stdout.split()) == set()


def test_frames_in_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tape(tmp_path)
    assert main(["x", "--engine", str(tmp_path / "a.tape")]) == 0
    shown = capsys.readouterr()
    assert TEXT in shown.out
    assert "a script on a tape: 8 tokens" in shown.err.replace("\n", " ")


def test_an_error_in_a_terminal_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x", "--engine", "embeded"]) == 1
    assert "Did you mean 'embedded'?" in capsys.readouterr().err.replace("\n", " ")
