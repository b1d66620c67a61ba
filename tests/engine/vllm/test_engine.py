"""The vLLM engine with a real vLLM on the CPU and a small random model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from unwritten_engine import Draft, Engine, Frame, Priority, Prompt, Request, Usage, open_engine
from unwritten_engine.errors import (
    BadOption,
    GenerationFailed,
    ModelUnsupported,
    PromptTooLong,
    RequestRefused,
    UnknownOption,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("needs_vllm")]


async def frames_of(engine: Engine, request: Request) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


def usage_of(frames: Sequence[Frame]) -> Usage:
    usage = frames[-1].usage
    assert usage is not None
    return usage


def last_of_each_canvas(frames: Sequence[Frame]) -> list[Frame]:
    """Return the last draft of each canvas."""
    return list({frame.canvas: frame for frame in frames[:-1]}.values())


async def test_drafts_of_every_step_end_in_the_committed_text(engine: Engine) -> None:
    frames = await frames_of(engine, Request(Prompt("A lighthouse."), canvases=2))
    *drafts, last = frames
    assert {draft.canvas for draft in drafts} == {0, 1}
    for one, two in pairwise(drafts):
        assert (one.canvas, one.step) < (two.canvas, two.step), "canvases and steps in order"
        assert two.text.startswith(one.text[: two.fixed]), "finished canvases do not change"
    assert len(drafts) >= 0.8 * usage_of(frames).steps, "no more than a few drafts are lost"
    assert drafts[0].unsettled and not drafts[-1].unsettled
    assert drafts[-1].text == last.text and last.fixed == len(last.text)
    assert usage_of(frames).canvases == 2 and usage_of(frames).tokens > 64
    assert [frame.step for frame in last_of_each_canvas(frames)][-1] < 48, "it stops when the text is stable"


async def test_concurrent_requests_get_their_own_drafts(engine: Engine) -> None:
    openings = [f"{word} is " for word in ("Alpha", "Beta", "Gamma", "Delta")]
    requests = [Request(Prompt("Write.", opening=opening), canvases=2) for opening in openings]
    results = await asyncio.gather(*(frames_of(engine, request) for request in requests))
    for opening, frames in zip(openings, results, strict=True):
        assert len(frames) > 4
        assert all(frame.text.startswith(opening) for frame in frames)
    assert len({frames[-1].text for frames in results}) == len(openings)


async def test_pins_hold_at_every_step_of_an_edit(engine: Engine) -> None:
    text = "The Tower stands by the sea.\nIt was built of stone long ago."
    start = text.index("It was")
    draft = Draft(text, keep=((0, 10), (start, start + 6)))
    frames = await frames_of(engine, Request(Prompt("Rewrite it."), draft=draft))
    assert len(frames) > 2
    for frame in frames:
        assert frame.text.startswith("The Tower ") and "It was" in frame.text
        assert not any(a < 10 for a, _ in frame.unsettled), "kept text is settled"
    assert frames[-1].text != text


async def test_every_draft_of_a_schema_is_valid_json(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "kind": {"enum": ["tower", "ship"]},
            "lit": {"type": "boolean"},
        },
        "required": ["name", "kind", "lit"],
    }
    frames = await frames_of(engine, Request(Prompt("x"), canvases=2, schema=schema, options={"steps": 6}))
    value = json.loads(frames[-1].text)
    assert value["kind"] in ("tower", "ship") and isinstance(value["lit"], bool) and len(value["name"]) <= 20
    for frame in frames:
        assert frame.text.startswith('{"name":"')


async def test_quality_and_budget_limit_steps_and_width(engine: Engine) -> None:
    frames = await frames_of(engine, Request(Prompt("x"), max_tokens=20, options={"steps": 2}))
    assert usage_of(frames).steps == 2 and usage_of(frames).tokens <= 20
    assert {frame.steps for frame in frames} == {2}


async def test_closing_the_iterator_aborts_the_request(engine: Engine) -> None:
    request = Request(Prompt("Wait."), canvases=8)
    async with contextlib.aclosing(engine.generate(request)) as frames:
        async for frame in frames:
            if frame.step >= 2:
                break
    backend: Any = engine.engine._backend  # type: ignore[attr-defined]
    assert backend._client.get_num_unfinished_requests() == 0
    assert not backend._callbacks, "drafts that still arrive are ignored"
    assert (await frames_of(engine, Request(Prompt("Next."), options={"steps": 2})))[-1].done


async def test_a_click_waits_for_no_prefetch(engine: Engine) -> None:
    prefetches = [
        asyncio.create_task(frames_of(engine, Request(Prompt(f"{n}"), canvases=3, priority=Priority.PREFETCH)))
        for n in range(6)
    ]
    await asyncio.sleep(0.5)
    frames = await frames_of(engine, Request(Prompt("Click."), options={"steps": 4}))
    assert usage_of(frames).queued_seconds < 0.5
    assert not all(task.done() for task in prefetches)
    for task in prefetches:
        task.cancel()
    await asyncio.gather(*prefetches, return_exceptions=True)


async def test_what_vllm_refuses_is_reported_and_rejected(engine: Engine, checkpoint: Path) -> None:
    reasons = " ".join(engine.about.reasons)
    for refused in ("a seed", "temperature", "structured output", "pattern", "images"):
        assert refused in reasons
    with pytest.raises(RequestRefused, match="no seed repeats a text"):
        engine.check(Request(Prompt("x"), seed=1))
    with pytest.raises(UnknownOption, match="no option 'temperature'"):
        engine.check(Request(Prompt("x"), options={"temperature": 1}))
    with pytest.raises(PromptTooLong, match="does not fit into the context of 1,024"):
        engine.check(Request(Prompt("x"), canvases=40))
    with pytest.raises(UnknownOption, match="no option 'seed'"):
        open_engine("vllm", model=str(checkpoint), seed=1)
    with pytest.raises(BadOption, match="give 'mp' or 'ray'"):
        open_engine("vllm", model=str(checkpoint), backend="slurm")


async def test_a_checkpoint_that_vllm_cannot_load_is_an_error(engine: Engine, checkpoint: Path) -> None:
    with pytest.raises(ModelUnsupported, match=r"vLLM cannot run .*quantization"):
        await asyncio.to_thread(open_engine, "vllm", model=str(checkpoint), quantization="no-such-method")


async def test_the_next_request_works_after_vllm_has_died(engine: Engine) -> None:
    backend: Any = engine.engine._backend  # type: ignore[attr-defined]
    processes = backend._client.engine_core.resources.engine_manager.processes
    with pytest.raises(GenerationFailed, match="The next request starts it again"):
        async for frame in engine.generate(Request(Prompt("Die."), canvases=8)):
            if frame.step == 2:
                os.kill(processes[0].pid, signal.SIGKILL)
    frames = await frames_of(engine, Request(Prompt("Again."), options={"steps": 3}))
    assert usage_of(frames).steps == 3 and len(frames) > 1, "with drafts"
