from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from unwritten_engine import scripted
from unwritten_engine.engine import Abilities, Engine
from unwritten_engine.errors import (
    BadOption,
    EngineClosed,
    GenerationFailed,
    ModelBroken,
    ModelNotFound,
    RequestRefused,
)
from unwritten_engine.frames import Example, Frame, Priority, Prompt, Request
from unwritten_engine.scripted import ABOUT, HANG, denoising_frames
from unwritten_engine.tape import Recorder, TapeEngine, read_tape

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>\u2028\u0085 ‮ \ud800 🗼"


async def frames_of(engine: Engine, request: Request) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


async def test_frames_are_played_back_as_recorded(tmp_path: Path) -> None:
    engine = scripted(by_ask={"lead": [*denoising_frames("A tower by the sea.", canvases=2)], "odd": HOSTILE})
    recorder = Recorder(engine, tmp_path / "a.tape")
    asked = [Request(Prompt("lead"), canvases=2), Request(Prompt("odd"), seed=5)]
    recorded = [await frames_of(recorder, request) for request in asked]
    played = [await frames_of(TapeEngine(tmp_path / "a.tape", speed=0), request) for request in asked]
    assert played == recorded
    assert played[1][-1].text == HOSTILE


async def test_about_describes_the_recorded_engine(tmp_path: Path) -> None:
    Recorder(scripted(""), tmp_path / "a.tape")
    about = TapeEngine(tmp_path / "a.tape").about
    assert about.engine == "tape"
    assert about.model == "a script"
    assert any("a.tape" in reason for reason in about.reasons)
    assert about.abilities == replace(ABOUT.abilities, prefetch=False, seeds=False)


async def test_a_schema_is_refused_if_the_recorded_engine_supported_none(tmp_path: Path) -> None:
    shaped = Request(Prompt("x"), schema={"type": "null"})
    for shapes in (True, False):
        about = replace(ABOUT, abilities=Abilities(schemas=shapes))
        path = tmp_path / f"{shapes}.tape"
        recorder = Recorder(scripted("", about=about), path)
        for engine in (recorder, TapeEngine(path)):
            engine.check(Request(Prompt("what the tape does not hold")))
            if shapes:
                engine.check(shaped)
            else:
                with pytest.raises(RequestRefused, match="does not support schemas"):
                    engine.check(shaped)


async def test_timing_is_kept_and_scaled(tmp_path: Path) -> None:
    recorder = Recorder(scripted("one two three", delay=0.1), tmp_path / "a.tape")
    await frames_of(recorder, Request(Prompt("x")))
    took: list[float] = []
    while not took or (min(took) > 0.28 and len(took) < 20):  # other processes can only make it longer
        begun = time.monotonic()
        await frames_of(TapeEngine(tmp_path / "a.tape", speed=2.0), Request(Prompt("x")))
        took.append(time.monotonic() - begun)
    assert 0.13 < min(took) < 0.28


async def test_requests_match_with_any_seed_and_priority(tmp_path: Path) -> None:
    await frames_of(Recorder(scripted("text"), tmp_path / "a.tape"), Request(Prompt("x"), seed=1))
    strict = TapeEngine(tmp_path / "a.tape", speed=0, strict=True)
    assert (await frames_of(strict, Request(Prompt("x"), seed=2, priority=Priority.PREFETCH)))[-1].text == "text"


async def test_other_examples_match_unless_strict(tmp_path: Path) -> None:
    await frames_of(Recorder(scripted("text"), tmp_path / "a.tape"), Request(Prompt("x")))
    changed = Request(Prompt("x", system="New.", examples=(Example("a", "b"),)), options={"temperature": 1.0})
    assert (await frames_of(TapeEngine(tmp_path / "a.tape", speed=0), changed))[-1].text == "text"
    with pytest.raises(RequestRefused):
        await frames_of(TapeEngine(tmp_path / "a.tape", speed=0, strict=True), changed)


async def test_options_and_schemas_may_be_any_mapping(tmp_path: Path) -> None:
    def request(kind: Callable[[dict[str, object]], Mapping[str, object]]) -> Request:
        prompt = Prompt("x", examples=(Example("a", "b"),), images=(b"1",))
        return Request(prompt, schema=kind({"type": "object", "a": 1}), options=kind({"b": 2}))

    await frames_of(Recorder(scripted("text"), tmp_path / "a.tape"), request(MappingProxyType))
    strict = TapeEngine(tmp_path / "a.tape", speed=0, strict=True)
    assert (await frames_of(strict, request(dict)))[-1].text == "text"


async def test_takes_of_one_request_are_played_in_turn(tmp_path: Path) -> None:
    texts = iter(["first", "second"])
    recorder = Recorder(scripted(lambda _: next(texts)), tmp_path / "a.tape")
    for _ in range(2):
        await frames_of(recorder, Request(Prompt("x")))
    tape = TapeEngine(tmp_path / "a.tape", speed=0)
    played = [(await frames_of(tape, Request(Prompt("x"))))[-1].text for _ in range(3)]
    assert played == ["first", "second", "first"]


async def test_an_unknown_ask_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    await frames_of(Recorder(scripted("text"), tmp_path / "a.tape"), Request(Prompt("A lighthouse.")))
    with pytest.raises(RequestRefused, match=r"has no recording of 'A whale.'. It has 'A lighthouse.'"):
        await frames_of(TapeEngine(tmp_path / "a.tape"), Request(Prompt("A whale.")))


async def test_failures_are_played_back(tmp_path: Path) -> None:
    recorder = Recorder(scripted(["A li", GenerationFailed("The lamp broke.")]), tmp_path / "a.tape")
    with pytest.raises(GenerationFailed):
        await frames_of(recorder, Request(Prompt("x")))
    running = TapeEngine(tmp_path / "a.tape", speed=0).generate(Request(Prompt("x")))
    assert (await anext(running)).text == "A li"
    with pytest.raises(GenerationFailed, match="lamp"):
        await anext(running)


async def test_stopped_generations_are_not_recorded_and_recorders_append(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    stopped = Recorder(scripted(["A", HANG]), path).generate(Request(Prompt("x")))
    await anext(stopped)
    await stopped.aclose()
    assert read_tape(path)[1] == ()
    await frames_of(Recorder(scripted("text"), path), Request(Prompt("x")))
    assert [take.ask for take in read_tape(path)[1]] == ["x"]


async def test_a_tape_of_another_model_is_not_extended(tmp_path: Path) -> None:
    engine = scripted("text")
    Recorder(engine, tmp_path / "a.tape")
    other = scripted("text", about=replace(engine.about, model="another script"))
    with pytest.raises(ModelBroken, match="another script"):
        Recorder(other, tmp_path / "a.tape")


async def test_closing_ends_running_tapes(tmp_path: Path) -> None:
    await frames_of(Recorder(scripted("one two", delay=0.2), tmp_path / "a.tape"), Request(Prompt("x")))
    tape = TapeEngine(tmp_path / "a.tape", speed=0.01)
    task = asyncio.ensure_future(frames_of(tape, Request(Prompt("x"))))
    await asyncio.sleep(0.02)
    await tape.close()
    with pytest.raises(EngineClosed):
        await task


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tape"),
        (b"\x89PNG\xff\xfe", "not UTF-8 text"),
        (b'{"a":1}\n', "not a tape"),
        (b'{"unwritten_tape":99,"about":{}}\n', "format 99"),
        (b'{"unwritten_tape":1,"about":{"engine":"x"}}\n', "damaged in its first line"),
    ],
)
def test_a_file_that_is_not_a_tape_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tape").write_bytes(content)
    with pytest.raises(ModelBroken, match=message):
        TapeEngine(tmp_path / "a.tape")


async def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    recorder = Recorder(scripted("text"), path)
    for ask in "xyz":
        await frames_of(recorder, Request(Prompt(ask)))
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:40], *lines[3:]]), encoding="utf-8")
    with pytest.raises(ModelBroken, match="damaged in line 3"):
        TapeEngine(path)


@pytest.mark.parametrize("value", ["1e999", "NaN", "null", "[]", "{}", '"x"', "9" * 5000, "[" * 100_000])
async def test_wrong_values_are_damage(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.tape"
    await frames_of(Recorder(scripted("text"), path), Request(Prompt("x")))
    header, line = path.read_text(encoding="utf-8").splitlines()
    for frames in (
        value,
        f"[{value}]",
        f"[[{value}]]",
        f"[[0,{value},{value},[],0,0,0,0,0]]",
        f'[[0,0,"x",[],{value},0,0,0,0]]',
        f'[[{value},0,"x",[],0,0,0,0,0]]',
    ):
        path.write_text(f'{header}\n{{"key":"","loose":"","ask":"","frames":{frames}}}\n', encoding="utf-8")
        with contextlib.suppress(ModelBroken):
            assert all(0 <= seconds < 10**9 for take in read_tape(path)[1] for seconds, _ in take.frames)
    for broken in (value, f'{{"unwritten_tape":{value}}}', f'{{"unwritten_tape":1,"about":{value}}}'):
        path.write_text(f"{broken}\n{line}\n", encoding="utf-8")
        with pytest.raises(ModelBroken):
            read_tape(path)


def test_a_missing_tape_and_a_bad_speed(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no tape at"):
        TapeEngine(tmp_path / "none.tape")
    Recorder(scripted(""), tmp_path / "a.tape")
    with pytest.raises(BadOption, match="speed"):
        TapeEngine(tmp_path / "a.tape", speed=-1)
