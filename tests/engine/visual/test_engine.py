"""The command line of a llama.cpp that runs DiffusionGemma, with a stand-in that prints what its source prints."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import stat
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
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
    RequestRefused,
    UnknownEngine,
    UnknownOption,
)
from unwritten_engine.visual.engine import VisualEngine
from unwritten_engine.visual.screen import Screen, ScreenFrames

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name != "posix", reason="needs a terminal of Unix")]

STAND_IN = """
import fcntl, json, struct, sys, termios, time
from pathlib import Path

arguments = sys.argv[1:]
value = lambda name: arguments[arguments.index(name) + 1]
prompt = Path(value("-f")).read_text()
Path(__file__).with_suffix(".json").write_text(json.dumps({
    "arguments": arguments, "prompt": prompt,
    "system": Path(value("-sysf")).read_text() if "-sysf" in arguments else ""}))
out = sys.stdout.buffer
print("load: some log", file=sys.stderr, flush=True)
if "crash" in prompt:
    print("error: failed to load model: unknown model architecture: 'diffusion-gemma'", file=sys.stderr)
    sys.exit(1)
if "hang" in prompt:
    time.sleep(300)

height, width = struct.unpack("HHHH", fcntl.ioctl(1, termios.TIOCGWINSZ, b" " * 8))[:2]
rows, columns, advanced, drawn = max(1, height - 1), max(1, width), 0, 0
CANVASES = [["xx yy\\nzz", "A lighthouse yy", "A lighthouse is tall.\\n\\nIt"], ["qq ww", "has a lamp for ships."]]
CANVASES = CANVASES[: int(value("-n")) // 256]
if "think" in prompt:
    CANVASES = [["thou", "thought\\nHm", "thought\\nA lamp."]]

def put(text):
    out.write(text if isinstance(text, bytes) else text.encode()); out.flush()

put("\\033[?25l" + "\\n" * rows + f"\\033[{rows}A")
for canvas in CANVASES:
    for step, text in enumerate(canvas):
        percent, bars = step * 100 // 48, step * 50 // 48
        lines = [f"diffusion step: {step}/48 [{'=' * bars}{' ' * (50 - bars)}] {percent}%".encode()]
        lines += (" " + text).encode().split(b"\\n")
        if "halves" in prompt:
            lines[-1] += "é".encode()[:1]
        frame = b"\\033[?2026h" + (f"\\033[{advanced}A".encode() if advanced else b"") + b"\\r"
        for row in range(rows):
            line = lines[row] if row < len(lines) else b""
            frame += line[:columns] + b"\\033[K" + (b"\\n" if row < rows - 1 else b"")
        put(frame + b"\\033[?2026l")
        advanced, drawn = rows - 1, drawn + 1
        time.sleep(300 if "stall" in prompt else 0.03)
        if "die" in prompt:
            sys.exit(3)
put((f"\\033[{advanced}A" if advanced else "") + "\\r\\033[J\\033[?25h")
whole = "".join(canvas[-1] + (" " if canvas[-1].endswith("It") else "") for canvas in CANVASES)
put(f"\\n{whole}\\n")
put(f"total time: 512.00ms, time per step: 102.40ms ({drawn} steps over {len(CANVASES)} blocks, entropy-bound)\\n")
put("throughput: 1000.0 tok/s (512 tok in 512.00ms), in-step parallel 2500 tok/s (256-tok canvas x 2.5 steps/block)\\n")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The stand-in, which can be run."""
    path = tmp_path / "llama-diffusion-cli"
    path.write_text(f"#!{sys.executable}\n{STAND_IN}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "d.gguf", MODEL | {"general.architecture": "diffusion-gemma"})


@pytest.fixture
async def engine(program: Path, model: Path) -> AsyncIterator[CleanEngine]:
    engine = open_engine(f"visual:{program}", model=str(model), start_timeout=PATIENCE, silence_timeout=PATIENCE)
    yield engine
    await engine.close()


async def frames_of(engine: CleanEngine, request: Request) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


async def test_pictures_become_frames(engine: CleanEngine) -> None:
    frames = await frames_of(engine, Request(Prompt("Lighthouses."), canvases=2, seed=5))
    *drafts, last = frames
    assert len(drafts) >= 3
    for frame, later in itertools.pairwise(frames):
        assert later.text.startswith(frame.text[: frame.fixed])
        assert all(frame.fixed <= start < end <= len(frame.text) for start, end in frame.unsettled)
        assert (frame.canvas, frame.step) < (later.canvas, later.step) or later.done
    assert drafts[0].unsettled and not drafts[0].done
    assert {frame.steps for frame in drafts} == {48}
    assert last.text == "A lighthouse is tall.\n\nIt has a lamp for ships." and last.fixed == len(last.text)
    usage = last.usage
    assert usage is not None
    assert (usage.steps, usage.canvases, usage.seed, usage.reason) == (5, 2, 5, "end")
    assert usage.tokens > 5 and usage.seconds > 0


async def test_a_slow_reader_does_not_block_the_program(engine: CleanEngine) -> None:
    stream = engine.generate(Request(Prompt("Lighthouses."), canvases=2))
    await anext(stream)
    assert isinstance(engine.engine, VisualEngine)
    await asyncio.gather(*(process.wait() for process in engine.engine._running))
    rest = [frame async for frame in stream]
    assert len(rest) <= 2


async def test_the_program_gets_its_arguments(engine: CleanEngine, program: Path, model: Path) -> None:
    prompt = Prompt("Tea.", system="You \\n write.", examples=(Example("Rain.", "Water."),))
    request = Request(prompt, canvases=1, seed=7, options={"steps": 12, "entropy_bound": 0.2})
    await frames_of(engine, request)
    called = json.loads(program.with_suffix(".json").read_text(encoding="utf-8"))
    arguments = called["arguments"]
    pairs = dict(itertools.pairwise(arguments))
    assert (pairs["-m"], pairs["-n"], pairs["-ngl"], pairs["--seed"]) == (str(model), "256", "99", "7")
    assert (pairs["--diffusion-eb-max-steps"], pairs["--diffusion-eb-entropy-bound"]) == ("12", "0.2")
    assert {"--diffusion-visual", "--diffusion-visual-progress", "--no-escape"} <= set(arguments)
    assert "-c" not in arguments
    assert called["system"] == "You \\n write."
    assert called["prompt"].index("Ask: Rain.\nAnswer: Water.") < called["prompt"].index("Tea.")
    assert not Path(pairs["-f"]).exists(), "what was asked does not stay on the disk"


async def test_a_long_prompt_gets_enough_context(engine: CleanEngine, program: Path) -> None:
    await frames_of(engine, Request(Prompt("word " * 2000)))
    pairs = dict(itertools.pairwise(json.loads(program.with_suffix(".json").read_text("utf-8"))["arguments"]))
    assert pairs["-c"] == pairs["-b"] == pairs["-ub"] and int(pairs["-c"]) > 5000


async def test_additional_arguments_are_passed(program: Path, model: Path) -> None:
    options: dict[str, Any] = {"extra": "--n-cpu-moe 12 --log-file 'a b'", "threads": 3, "gpu_layers": 0}
    engine = open_engine(f"visual:{program}", model=str(model), **options)
    async for _ in engine.generate(Request(Prompt("Tea."))):
        pass
    arguments = json.loads(program.with_suffix(".json").read_text("utf-8"))["arguments"]
    assert arguments[-4:] == ["--n-cpu-moe", "12", "--log-file", "a b"]
    assert dict(itertools.pairwise(arguments)).items() >= {"-t": "3", "-ngl": "0"}.items()
    await engine.close()


async def test_opening_and_stop_are_applied(engine: CleanEngine) -> None:
    prompt = Prompt("Lighthouses.", opening="A lighthouse")
    frames = await frames_of(engine, Request(prompt, canvases=2, stop=("lamp",)))
    assert all(frame.text.startswith("A lighthouse") for frame in frames)
    assert frames[-1].text == "A lighthouse is tall.\n\nIt has a"
    assert frames[-1].usage is not None and frames[-1].usage.reason == "stop"


async def test_thoughts_and_incomplete_characters_are_withheld(engine: CleanEngine) -> None:
    frames = await frames_of(engine, Request(Prompt("think")))
    assert frames[-1].text == "A lamp." and not any("thou" in frame.text for frame in frames)
    frames = await frames_of(engine, Request(Prompt("halves")))
    assert not any("\ufffd" in frame.text for frame in frames)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ("crash", r"ended with status 1 .*may not support the model: Its log ends: .*unknown model architecture"),
        ("die", "ended with status 3"),
    ],
)
async def test_failures_are_explained(engine: CleanEngine, ask: str, message: str) -> None:
    with pytest.raises(GenerationFailed, match=message):
        await frames_of(engine, Request(Prompt(ask)))


async def test_a_program_without_output_times_out(program: Path, model: Path) -> None:
    engine = open_engine(f"visual:{program}", model=str(model), start_timeout=0.5)
    with pytest.raises(GenerationFailed, match="drew nothing in time"):
        await frames_of(engine, Request(Prompt("hang")))
    await engine.close()


async def test_a_program_that_draws_no_further_times_out(program: Path, model: Path) -> None:
    engine = open_engine(f"visual:{program}", model=str(model), start_timeout=PATIENCE, silence_timeout=0.5)
    stream = engine.generate(Request(Prompt("stall")))
    await anext(stream)
    with pytest.raises(GenerationFailed, match="drew nothing in time"):
        await anext(stream)
    await engine.close()


async def test_closing_ends_the_program(engine: CleanEngine) -> None:
    stream = engine.generate(Request(Prompt("stall")))
    await anext(stream)
    assert isinstance(engine.engine, VisualEngine)
    process = next(iter(engine.engine._running))
    begun = time.monotonic()
    await stream.aclose()
    assert process.returncode is not None and time.monotonic() - begun < 20
    running = asyncio.create_task(frames_of(engine, Request(Prompt("hang"))))
    waiting = asyncio.create_task(frames_of(engine, Request(Prompt("hang"))))
    await asyncio.sleep(0.3)
    await engine.close()
    errors = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [EngineClosed, EngineClosed]


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
    with pytest.raises(UnknownOption, match=r"no option 'step'\. Did you mean 'steps'"):
        await frames_of(engine, Request(Prompt("A."), options={"step": 2}))


def test_invalid_options_are_reported_on_opening(program: Path, model: Path, tmp_path: Path) -> None:
    other = write_gguf(tmp_path / "other.gguf", MODEL)
    cases: list[tuple[str, dict[str, Any], type[EngineError], str]] = [
        ("visual:", {"model": str(model)}, UnknownEngine, "no program ''. Give visual:PATH"),
        ("visual:/nowhere/cli", {"model": str(model)}, UnknownEngine, "pull request 24423"),
        (f"visual:{program}", {}, BadOption, "needs a model file, such as model="),
        (f"visual:{program}", {"model": "none.gguf"}, ModelNotFound, "none.gguf"),
        (f"visual:{program}", {"model": str(other)}, BadOption, "is not a DiffusionGemma, but 'llama'"),
        (f"visual:{program}", {"model": str(model), "extra": "'"}, BadOption, "Check its quotes"),
        (f"visual:{program}", {"modle": str(model)}, UnknownOption, "Did you mean 'model'"),
    ]
    for spec, options, kind, message in cases:
        with pytest.raises(kind) as raised:
            open_engine(spec, **options)
        assert message in str(raised.value)


# -- the screen alone -------------------------------------------------------------------------------------


def picture(step: int, text: str, up: int = 0) -> bytes:
    """What the program draws for one step, in a terminal of five rows."""
    rows = [f"diffusion step: {step}/48 [{' ' * 50}] 0%", *f" {text}".split("\n")]
    drawn = "\033[K\n".join((rows + [""] * 4)[:4])
    return f"\033[?2026h{f'{chr(27)}[{up}A' if up else ''}\r{drawn}\033[K\033[?2026l".encode()


def test_output_may_be_split_at_any_byte() -> None:
    stream = b"\033[?25l\n\n\n\033[3A" + picture(0, "a\nb") + picture(1, "c", 3) + picture(0, "d", 3)
    stream += b"\033[3A\r\033[J\033[?25h\nc\ntotal time: soon\nd\n"
    stream += b"total time: 1.00ms, time per step: 0.33ms (3 steps over 2 blocks, entropy-bound)\nthroughput: 1\n"
    for size in (1, 7, len(stream)):
        screen = Screen()
        for at in range(0, len(stream), size):
            screen.feed(stream[at : at + size])
        assert [(canvas.step, canvas.text) for canvas in screen.canvases] == [(1, "c"), (0, "d")]
        assert screen.ended and screen.text() == ("c\ntotal time: soon\nd", 3, 2)


def test_changed_text_is_unsettled() -> None:
    screen, frames = Screen(), ScreenFrames(1)
    spans = []
    for step, text in enumerate(["one two three", "one 2 three", "one 2 three four", "one 2 three four"]):
        assert screen.feed(picture(step, text))
        frame = frames.draft(screen)
        spans.append([frame.text[start:end] for start, end in frame.unsettled])
    assert spans == [["one two three"], ["2"], [" four"], []]


def test_a_text_without_timing_is_accepted() -> None:
    screen = Screen()
    screen.feed(b"\r\033[J\033[?25h\nA text.\n")
    assert screen.text() == ("A text.", 0, 0)
    last = ScreenFrames(1).last(screen, seconds=1, queued=0, seed=1)
    assert last.text == "A text." and last.usage is not None and last.usage.canvases == 1
