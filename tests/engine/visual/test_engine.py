"""llama.cpp's resident DiffusionGemma program, with a stand-in that follows the protocol in its source."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import visual_program
from tests.support.ggufs import MODEL, write_gguf
from tests.support.servers import PATIENCE

from unwritten_engine import Draft, Example, Frame, Prompt, Request, open_engine
from unwritten_engine.cleaning import CleanEngine
from unwritten_engine.errors import (
    BadOption,
    EngineClosed,
    EngineError,
    GenerationFailed,
    ModelNotFound,
    PromptTooLong,
    RequestRefused,
    UnknownEngine,
    UnknownOption,
)
from unwritten_engine.visual.engine import VisualEngine
from unwritten_engine.visual.program import NAME

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name != "posix", reason="the stand-in is a script")]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The stand-in, which can be run."""
    path = tmp_path / NAME
    source = Path(visual_program.__file__).read_text(encoding="utf-8")
    path.write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "d.gguf", MODEL | {"general.architecture": "diffusion-gemma"})


@pytest.fixture
async def engine(program: Path, model: Path) -> AsyncIterator[CleanEngine]:
    engine = open_engine(
        f"visual:{program}", model=str(model), start_timeout=PATIENCE, silence_timeout=PATIENCE, context=4096
    )
    yield engine
    await engine.close()


def requests_of(program: Path) -> list[dict[str, Any]]:
    lines = (program.parent / "requests").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


async def frames_of(engine: CleanEngine, request: Request) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


async def text_of(engine: CleanEngine, ask: str, **options: Any) -> str:
    return (await frames_of(engine, Request(Prompt(ask), **options)))[-1].text


async def test_records_become_frames(engine: CleanEngine) -> None:
    frames = await frames_of(engine, Request(Prompt("Lighthouses."), canvases=2, seed=5))
    *drafts, last = frames
    assert len(drafts) >= 3
    for frame, later in itertools.pairwise(frames):
        assert later.text.startswith(frame.text[: frame.fixed])
        assert all(frame.fixed <= start < end <= len(frame.text) for start, end in frame.unsettled)
    assert drafts[0].text == "xx yy\nzz" and drafts[0].unsettled and (drafts[0].step, drafts[0].steps) == (1, 48)
    assert "A lighthouse yy" in [frame.text for frame in drafts]
    assert not any("\ufffd" in frame.text for frame in frames)
    assert last.text == "A lighthouse is tall.\n\nIt has a lamp for ships." and last.fixed == len(last.text)
    usage = last.usage
    assert usage is not None
    assert (usage.steps, usage.canvases, usage.seed, usage.reason, usage.prompt_tokens) == (5, 2, 5, "end", 17)
    assert usage.tokens == 260 and usage.seconds > 0


async def test_the_program_gets_the_request(engine: CleanEngine, program: Path, model: Path) -> None:
    prompt = Prompt("Tea <turn|>.", system="You \\n write.", examples=(Example("Rain.", "Water."),))
    await frames_of(engine, Request(prompt, canvases=2, seed=2**32 - 1))
    (called,) = requests_of(program)
    assert called["arguments"] == [str(model)]
    assert called["environment"].items() >= {"NGL": "99", "MAXTOK": "4096"}.items()
    assert str(program.parent) in called["environment"]["LD_LIBRARY_PATH"].split(os.pathsep)
    request = called["request"]
    assert request["n_blocks"] == 2 + 3 and 0 <= request["seed"] < 2**31 - 100
    assert [message["role"] for message in request["messages"]] == ["system", "user", "assistant", "user"]
    assert request["messages"][0]["content"] == "You \\n write."
    assert "<turn|>" not in request["messages"][-1]["content"]
    assert not Path(called["file"]).exists(), "what was asked does not stay on the disk"


async def test_the_model_is_loaded_once(engine: CleanEngine, program: Path) -> None:
    texts = await asyncio.gather(*(text_of(engine, f"Lighthouse {at}.", canvases=2) for at in range(3)))
    assert set(texts) == {"A lighthouse is tall.\n\nIt has a lamp for ships."}
    assert len({called["pid"] for called in requests_of(program)}) == 1 and len(requests_of(program)) == 3


@pytest.mark.parametrize("ask", ["think", "think marked"])
async def test_thoughts_are_hidden(engine: CleanEngine, ask: str) -> None:
    frames = await frames_of(engine, Request(Prompt(ask), canvases=1))
    assert frames[-1].text == "A lamp is bright."
    assert not any("thought" in frame.text or "I think" in frame.text for frame in frames)
    assert any("A lamp" in frame.text for frame in frames if frame.unsettled) == ("marked" in ask)
    usage = frames[-1].usage
    assert usage is not None and usage.canvases == 2 and usage.tokens < 60


async def test_an_answer_in_an_unclosed_thought_is_shown(engine: CleanEngine) -> None:
    assert (await text_of(engine, "think unclosed")).endswith("A lamp is bright.")
    assert await text_of(engine, "empty thought") == "A lamp."


async def test_only_thoughts_are_an_error(engine: CleanEngine) -> None:
    with pytest.raises(GenerationFailed, match=r"wrote only thoughts.*more thinking_canvases than 3"):
        await text_of(engine, "think only")
    assert await text_of(engine, "empty thought") == "A lamp."


@pytest.mark.parametrize("limits", [{"canvases": 1}, {"canvases": 2}, {"canvases": 1, "max_tokens": 40}])
async def test_the_text_is_cut_at_its_budget(engine: CleanEngine, limits: dict[str, Any]) -> None:
    frames = [frame async for frame in engine.engine.generate(Request(Prompt("endless"), **limits))]
    last, tokens = frames[-1], limits.get("max_tokens", 256 * limits["canvases"])
    assert last.usage is not None and last.usage.reason == "length" and last.usage.tokens <= tokens
    assert 0.7 * tokens <= len(last.text.split()) <= tokens and set(last.text.split()) == {"word"}
    assert all(len(frame.text) <= len(last.text) + 1 for frame in frames)
    assert all(frame.canvas < frame.canvases == limits["canvases"] for frame in frames)
    assert await text_of(engine, "empty thought") == "A lamp."


async def test_a_full_context_ends_the_text(engine: CleanEngine) -> None:
    frames = [frame async for frame in engine.engine.generate(Request(Prompt("partial"), canvases=4))]
    assert frames[-1].usage is not None and frames[-1].usage.reason == "length"
    assert frames[-1].text == visual_program.FULL.strip()


async def test_opening_and_stop_are_applied(engine: CleanEngine) -> None:
    prompt = Prompt("Lighthouses.", opening="A lighthouse")
    frames = await frames_of(engine, Request(prompt, canvases=2, stop=("lamp",)))
    assert all(frame.text.startswith("A lighthouse") for frame in frames)
    assert frames[-1].text == "A lighthouse is tall.\n\nIt has a"
    assert frames[-1].usage is not None and frames[-1].usage.reason == "stop"


async def test_lines_that_are_not_of_the_protocol(engine: CleanEngine) -> None:
    assert await text_of(engine, "garbage", canvases=2) == "A lighthouse is tall.\n\nIt has a lamp for ships."
    with pytest.raises(GenerationFailed, match=r"no text, but 3 unknown lines such as 'F 0 one.*pull request 24423"):
        await text_of(engine, "only garbage")
    with pytest.raises(GenerationFailed, match=r"unknown lines such as 'step"):
        await text_of(engine, "endless lines")
    assert await text_of(engine, "empty thought") == "A lamp."


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        ("die", GenerationFailed, "ended with status 3.*Its log ends: .*invalid UTF-8"),
        ("parse", GenerationFailed, "reports a failure: parse .*key 'messages' not found"),
        ("cannot", GenerationFailed, "reports a failure: gen"),
        ("toolong", PromptTooLong, "needs 5000 tokens with one canvas, and the program has 4096"),
    ],
)
async def test_after_a_failure_the_next_page_works(
    engine: CleanEngine, program: Path, ask: str, kind: type[EngineError], message: str
) -> None:
    failed, waiting = await asyncio.gather(
        text_of(engine, ask), text_of(engine, "empty thought"), return_exceptions=True
    )
    assert isinstance(failed, kind)
    assert re.search(message, str(failed))
    assert waiting == "A lamp."
    pids = [called["pid"] for called in requests_of(program)]
    assert (pids[0] == pids[1]) == (ask != "die")


async def test_a_program_that_hangs_is_started_again(program: Path, model: Path) -> None:
    engine = open_engine(f"visual:{program}", model=str(model), start_timeout=PATIENCE, silence_timeout=1)
    with pytest.raises(GenerationFailed, match="wrote nothing for 1 seconds"):
        await text_of(engine, "stall")
    assert isinstance(engine.engine, VisualEngine) and engine.engine._recovery is not None
    await engine.engine._recovery
    engine.engine._settings["silence_timeout"] = PATIENCE  # type: ignore[index]
    assert await text_of(engine, "empty thought") == "A lamp."
    assert len({called["pid"] for called in requests_of(program)}) == 2
    await engine.close()


async def test_a_cancelled_request_is_drained(engine: CleanEngine, program: Path) -> None:
    assert isinstance(engine.engine, VisualEngine) and engine.engine._program is not None
    engine.engine._program.load_seconds = PATIENCE  # loading is slower than the rest of the text
    stream = engine.generate(Request(Prompt("slow")))
    await anext(stream)
    await stream.aclose()
    assert engine.engine._recovery is not None and not engine.engine._recovery.done()
    assert await text_of(engine, "empty thought") == "A lamp."
    assert len({called["pid"] for called in requests_of(program)}) == 1


async def test_a_cancelled_request_that_is_long_restarts_the_program(engine: CleanEngine, program: Path) -> None:
    assert isinstance(engine.engine, VisualEngine) and engine.engine._program is not None
    engine.engine._program.load_seconds = 0.1
    stream = engine.generate(Request(Prompt("slow")))
    await anext(stream)
    await stream.aclose()
    assert await text_of(engine, "empty thought") == "A lamp."
    assert len({called["pid"] for called in requests_of(program)}) == 2


async def test_a_cancelled_task_frees_the_queue(engine: CleanEngine) -> None:
    task = asyncio.create_task(text_of(engine, "slow"))
    waiting = asyncio.create_task(text_of(engine, "slow"))
    await asyncio.sleep(0.3)
    for one in (waiting, task):
        one.cancel()
    assert await text_of(engine, "empty thought") == "A lamp."


async def test_closing_ends_the_program(engine: CleanEngine) -> None:
    running = asyncio.create_task(text_of(engine, "stall"))
    waiting = asyncio.create_task(text_of(engine, "stall"))
    await asyncio.sleep(0.3)
    assert isinstance(engine.engine, VisualEngine) and engine.engine._program is not None
    await engine.close()
    assert engine.engine._program.ended
    errors = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [EngineClosed, EngineClosed]
    with pytest.raises(EngineClosed):
        await text_of(engine, "A.")


async def test_a_program_that_cannot_be_started_again(engine: CleanEngine, program: Path) -> None:
    (program.parent / "mode").write_text("crash")
    with pytest.raises(GenerationFailed, match="ended with status 3"):
        await text_of(engine, "die")
    for _ in range(2):
        with pytest.raises(EngineError, match=r"ended before it was ready.*unknown model architecture"):
            await text_of(engine, "empty thought")
    (program.parent / "mode").unlink()
    assert await text_of(engine, "empty thought") == "A lamp."


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(Prompt("A."), schema={"type": "object"}), "cannot follow a schema"),
        (Request(Prompt("A."), draft=Draft("B.")), "cannot edit a draft"),
        (Request(Prompt("A.", images=(b"x",))), "cannot see images"),
    ],
)
async def test_unsupported_requests_are_refused(engine: CleanEngine, request_: Request, message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        await frames_of(engine, request_)
    with pytest.raises(RequestRefused, match=message):
        engine.check(request_)
    with pytest.raises(UnknownOption, match="no option 'steps'"):
        await frames_of(engine, Request(Prompt("A."), options={"steps": 2}))


@pytest.mark.parametrize(
    ("mode", "context", "words"),
    [("gpu", 4096, None), ("", 4096, "may run on the CPU.*nvidia-cuda-runtime-cu12"), ("old gpu", 2048, None)],
)
async def test_the_engine_describes_what_runs(
    program: Path, model: Path, mode: str, context: int, words: str | None
) -> None:
    (program.parent / "mode").write_text(mode)
    engine = open_engine(f"visual:{program}", model=str(model), context=4096 if context == 4096 else None)
    about = engine.about
    reasons = " ".join(about.reasons)
    assert "Loading took" in reasons and "3 canvases are added" in reasons
    assert ("may run on the CPU" in reasons) == (words is not None)
    assert about.context == (context if "old" not in mode else about.context) and about.canvas_length == 256
    await engine.close()


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("crash", "ended before it was ready. It must be llama-diffusion-gemma-visual-server .*unknown model arch"),
        ("silent", "was not ready after 1 seconds"),
    ],
)
def test_a_program_that_does_not_load_is_reported_on_opening(
    program: Path, model: Path, mode: str, message: str
) -> None:
    (program.parent / "mode").write_text(mode)
    with pytest.raises(EngineError, match=message):
        open_engine(f"visual:{program}", model=str(model), start_timeout=1 if mode == "silent" else PATIENCE)


def test_another_program_is_reported_on_opening(tmp_path: Path, model: Path) -> None:
    other = tmp_path / "llama-diffusion-cli"
    other.write_text("#!/bin/sh\necho usage >&2\nexit 1\n")
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(EngineError, match=r"ended before it was ready. It must be llama-diffusion-gemma-visual-server"):
        open_engine(f"visual:{other}", model=str(model))


def test_invalid_options_are_reported_on_opening(program: Path, model: Path, tmp_path: Path) -> None:
    other = write_gguf(tmp_path / "other.gguf", MODEL)
    cases: list[tuple[str, dict[str, Any], type[EngineError], str]] = [
        ("visual:", {"model": str(model)}, UnknownEngine, "no program ''. Give visual:PATH"),
        ("visual:/nowhere/server", {"model": str(model)}, UnknownEngine, "github.com/unslothai/llama.cpp/releases"),
        (f"visual:{program}", {}, BadOption, "needs a model file, such as model="),
        (f"visual:{program}", {"model": "none.gguf"}, ModelNotFound, "none.gguf"),
        (f"visual:{program}", {"model": str(other)}, BadOption, "is not a DiffusionGemma, but 'llama'"),
        (f"visual:{program}", {"modle": str(model)}, UnknownOption, "Did you mean 'model'"),
    ]
    for spec, options, kind, message in cases:
        with pytest.raises(kind) as raised:
            open_engine(spec, **options)
        assert message in str(raised.value)
