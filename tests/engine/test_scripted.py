from __future__ import annotations

import asyncio
import itertools

import pytest

from unwritten_engine import scripted
from unwritten_engine.errors import EngineClosed, GenerationFailed, RequestRefused
from unwritten_engine.frames import Frame, Prompt, Request
from unwritten_engine.scripted import CUT, HANG, ScriptedEngine, denoising_frames

pytestmark = pytest.mark.anyio


async def frames_of(engine: ScriptedEngine, ask: str = "A lighthouse.", opening: str = "") -> list[Frame]:
    return [frame async for frame in engine.generate(Request(Prompt(ask, opening=opening)))]


async def test_a_text_arrives_word_by_word() -> None:
    frames = await frames_of(scripted("A tall  tower.\n"))
    assert [f.text for f in frames] == ["A", "A tall", "A tall  tower.\n", "A tall  tower.\n"]
    assert frames[1].unsettled == ((2, 6),)
    assert [f.done for f in frames] == [False, False, False, True]
    assert frames[-1].fixed == len(frames[-1].text)
    assert frames[-1].usage is not None
    assert frames[-1].usage.reason == "end"


async def test_the_opening_is_in_every_frame() -> None:
    frames = await frames_of(scripted("a tower."), opening="It is ")
    assert [f.text for f in frames] == ["It is a", "It is a tower.", "It is a tower."]


async def test_answers_are_found_by_substring_and_by_function() -> None:
    engine = scripted(lambda request: request.prompt.ask.upper(), by_ask={"facts": "{}"})
    assert (await frames_of(engine, "quick facts"))[-1].text == "{}"
    assert (await frames_of(engine, "lead"))[-1].text == "LEAD"
    assert [r.prompt.ask for r in engine.requests] == ["quick facts", "lead"]


async def test_a_missing_answer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestRefused, match=r"no answer for 'lead'.*'facts'"):
        await frames_of(scripted(by_ask={"facts": "{}"}), "lead")


async def test_frames_are_yielded_as_they_are() -> None:
    script = [Frame("Light", unsettled=((0, 5),), canvas=1, canvases=2), Frame("Lamp", fixed=4)]
    frames = await frames_of(scripted(script))
    assert frames[:2] == script
    assert frames[2].done


async def test_a_failure_during_generation_is_raised() -> None:
    engine = scripted(["A light", GenerationFailed("The lamp broke.")])
    seen = []
    with pytest.raises(GenerationFailed, match="lamp"):
        async for frame in engine.generate(Request(Prompt("x"))):
            seen.append(frame.text)
    assert seen == ["A light"]
    assert (engine.running, engine.stopped) == (0, 0)


async def test_a_cut_script_has_no_last_frame() -> None:
    assert [f.done for f in await frames_of(scripted(["A", CUT]))] == [False]


async def test_a_hanging_script_ends_when_it_is_stopped() -> None:
    engine = scripted(["A", HANG])
    running = engine.generate(Request(Prompt("x")))
    assert (await anext(running)).text == "A"
    task = asyncio.ensure_future(anext(running))
    await asyncio.sleep(0.01)
    assert engine.running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (engine.running, engine.stopped) == (0, 1)


async def test_closing_the_engine_ends_a_hanging_script() -> None:
    engine = scripted([HANG])
    task = asyncio.ensure_future(frames_of(engine))
    await asyncio.sleep(0.01)
    await engine.close()
    with pytest.raises(EngineClosed):
        await task
    with pytest.raises(EngineClosed):
        await frames_of(engine)


def test_diffused_frames_settle_canvas_by_canvas() -> None:
    text = "A lighthouse is a tower with a lamp, and it stands by the sea."
    frames = denoising_frames(text, canvases=2, steps=4)
    assert len(frames) == 8
    assert frames[-1].text == text
    assert [(f.canvas, f.step) for f in frames[3:5]] == [(0, 4), (1, 1)]
    for frame, later in itertools.pairwise(frames):
        assert later.text.startswith(frame.text[: frame.fixed])
        for start, end in frame.unsettled:
            assert frame.fixed <= start < end <= len(frame.text)
    assert frames[0].unsettled
    assert not frames[-1].unsettled
