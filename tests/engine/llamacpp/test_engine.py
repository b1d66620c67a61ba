from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from tests.support.servers import PATIENCE

from unwritten_engine import Draft, Engine, Example, Frame, Priority, Prompt, Request, open_engine
from unwritten_engine.errors import (
    BadOption,
    EngineClosed,
    EngineError,
    PromptTooLong,
    RequestRefused,
    UnknownOption,
)

pytestmark = [pytest.mark.anyio, pytest.mark.model]

PROMPT = Prompt(
    "An encyclopedia article about lighthouses.",
    system="A small encyclopedia, calm and exact. Names of other articles stand in [[double brackets]].",
    examples=(
        Example(
            "An encyclopedia article about violins.", "A violin is a wooden [[String instrument]] with four strings."
        ),
        Example("An encyclopedia article about rain.", "Rain is water that falls from [[Cloud|clouds]] in drops."),
    ),
)
FREE = {"grammar": "root ::= [a-z ]+", "dry_multiplier": 0}
"""Never ends by itself, and begins quickly."""


async def frames_of(engine: Engine, request: Request) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


async def last_of(engine: Engine, request: Request) -> Frame:
    return (await frames_of(engine, request))[-1]


async def idle(engine: Engine) -> None:
    """Wait until nothing is at work."""
    async with asyncio.timeout(PATIENCE):
        while engine.engine._slots.busy:  # type: ignore[attr-defined]
            await asyncio.sleep(0.002)


async def test_about_describes_the_model(embedded: Engine) -> None:
    about = embedded.about
    assert (about.engine, about.model, about.quantization) == ("embedded", "Gemma 3 270M (base, Q4_K_M)", "Q4_K_M")
    assert "https://ai.google.dev/gemma/terms" in about.licence
    assert about.abilities.schemas and not about.abilities.instruct
    assert about.context == 2048 and about.parallel == 4 and about.canvas_length == 256
    assert about.memory_bytes > 250_000_000
    assert all(reason.endswith(".") for reason in about.reasons)
    assert any("needs no download" in reason for reason in about.reasons)


async def test_frames_are_cumulative_and_fixed_text_stays(embedded: Engine) -> None:
    frames = await frames_of(embedded, Request(PROMPT, max_tokens=40, seed=3))
    assert len(frames) > 3
    for frame, later in itertools.pairwise(frames):
        assert later.text.startswith(frame.text[: frame.fixed])
        assert later.step >= frame.step and not frame.done
        assert all(frame.fixed <= start < end <= len(frame.text) for start, end in frame.unsettled)
    last = frames[-1]
    assert last.usage is not None
    assert last.unsettled == () and last.fixed == len(last.text)
    assert 0 < last.usage.tokens <= 40 and last.usage.prompt_tokens > 20
    assert last.usage.seconds > 0 and last.usage.seed == 3


async def test_the_opening_is_part_of_every_frame(embedded: Engine) -> None:
    prompt = replace(PROMPT, opening="A lighthouse is")
    frames = await frames_of(embedded, Request(prompt, max_tokens=12))
    assert all(frame.text.startswith("A lighthouse is") for frame in frames)
    assert len(frames[-1].text) > len("A lighthouse is")


async def test_the_same_seed_gives_the_same_text(embedded: Engine) -> None:
    one, again, other = [await last_of(embedded, Request(PROMPT, max_tokens=24, seed=s)) for s in (5, 5, 6)]
    assert one.text == again.text != other.text


async def test_a_random_seed_is_drawn_and_reported(embedded: Engine) -> None:
    seeds = [(await last_of(embedded, Request(PROMPT, max_tokens=1))).usage.seed for _ in range(3)]  # type: ignore[union-attr]
    assert len(set(seeds)) == 3


async def test_a_common_prefix_is_evaluated_once(embedded: Engine) -> None:
    prompt = replace(PROMPT, system="Another system part, which no other test has. " * 8)
    await embedded.warm([prompt, prompt])
    last = await last_of(embedded, Request(replace(prompt, ask="An encyclopedia article about tea."), max_tokens=2))
    assert last.usage is not None
    assert last.usage.prompt_tokens > 120
    assert last.usage.prompt_tokens - last.usage.cached_tokens < 20


async def test_two_prefixes_keep_their_own_slots(embedded: Engine) -> None:
    lead, facts = (replace(PROMPT, system=f"The {part} part. " * 20) for part in ("leading", "factual"))
    await embedded.warm([lead, facts])
    for prompt in (lead, facts, lead, facts):
        last = await last_of(embedded, Request(replace(prompt, ask="An article about bees."), max_tokens=1))
        assert last.usage is not None and last.usage.cached_tokens > 80


async def test_warming_never_raises(embedded: Engine) -> None:
    await embedded.warm([replace(PROMPT, system="word " * 5000)])


async def test_a_stop_string_is_not_part_of_the_text(embedded: Engine) -> None:
    request = Request(PROMPT, max_tokens=60, stop=("bc",), options={"grammar": 'root ::= "aaaa bbb bcd" [a-z ]+'})
    frames = await frames_of(embedded, request)
    last = frames[-1]
    assert last.text == "aaaa bbb" and last.usage is not None and last.usage.reason == "stop"
    assert not any("bc" in frame.text for frame in frames)


async def test_the_budget_ends_the_text(embedded: Engine) -> None:
    # Held to many letters, since the model might end a free text of its own accord.
    request = Request(PROMPT, max_tokens=7, options={"grammar": "root ::= [a-z ]{200}"})
    last = await last_of(embedded, request)
    assert last.usage is not None and (last.usage.reason, last.usage.tokens) == ("length", 7)


async def test_a_slow_reader_skips_frames_and_gets_the_last(embedded: Engine) -> None:
    frames = []
    async for frame in embedded.generate(Request(PROMPT, max_tokens=40, options=FREE)):
        frames.append(frame)
        if not frame.done:
            await asyncio.sleep(1)  # several tokens on the slowest machine
    assert frames[-1].done and len(frames) < 30


async def test_closing_the_iterator_stops_generation(embedded: Engine) -> None:
    running = embedded.generate(Request(PROMPT, canvases=4, options=FREE))
    for _ in range(3):
        await anext(running)
    await running.aclose()
    await idle(embedded)
    before = time.process_time()
    await asyncio.sleep(0.4)
    assert time.process_time() - before < 0.2


async def test_a_long_prompt_can_be_stopped_before_it_is_evaluated(embedded: Engine) -> None:
    task = asyncio.ensure_future(last_of(embedded, Request(Prompt("some words " * 850))))
    await asyncio.sleep(0.1)
    before = time.process_time()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await idle(embedded)
    assert time.process_time() - before < 3  # all of it takes more than ten


async def test_a_long_prompt_does_not_delay_others(embedded: Engine) -> None:
    running = embedded.generate(Request(PROMPT, canvases=4, options=FREE))
    await anext(running)
    long = asyncio.ensure_future(last_of(embedded, Request(Prompt("some words " * 400), max_tokens=1)))
    frames = 0
    async for _ in running:  # on a slow machine it may end first
        if long.done():
            break
        frames += 1
    await running.aclose()
    await long
    assert frames > 4


async def test_cancelling_the_task_stops_generation(embedded: Engine) -> None:
    task = asyncio.ensure_future(last_of(embedded, Request(PROMPT, canvases=4, options=FREE)))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await idle(embedded)


async def test_more_requests_than_slots_all_finish(embedded: Engine) -> None:
    async def write(subject: str, priority: Priority) -> Frame:
        prompt = replace(PROMPT, ask=f"An encyclopedia article about {subject}.")
        return await last_of(embedded, Request(prompt, max_tokens=12, priority=priority))

    subjects = ["tea", "owls", "salt", "rivers", "chess", "iron", "maps", "snow"]
    frames = await asyncio.gather(
        *(write(s, Priority.PREFETCH if n % 2 else Priority.CLICK) for n, s in enumerate(subjects))
    )
    assert all(f.usage and 0 < f.usage.tokens <= 12 for f in frames)
    assert max(f.usage.queued_seconds for f in frames if f.usage) > 0.05


async def test_many_requests_leak_nothing(embedded: Engine) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    async def some(count: int) -> None:
        for number in range(count):
            running = embedded.generate(Request(PROMPT, max_tokens=2, options=FREE))
            if number % 3:
                async for _ in running:
                    pass
            else:
                await anext(running)
                await running.aclose()
        await idle(embedded)

    await some(10)
    threads, growth = threading.active_count(), []
    for _ in range(3):  # a leak shows in every round, and the allocator's own growth does not
        before = resident()
        await some(30)
        growth.append(resident() - before)
    assert min(growth) < 6_000_000
    assert threading.active_count() <= threads + 1


class Facts(BaseModel):
    kind: Literal["place", "person", "thing"]
    founded: int | None
    heights: list[int] = Field(min_length=2, max_length=3)
    known_for: list[str] = Field(max_length=3)
    note: str = Field(max_length=60)
    open: bool


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_schema_is_followed(embedded: Engine, seed: int) -> None:
    request = Request(Prompt("Facts about Paris."), canvases=2, seed=seed, schema=Facts.model_json_schema())
    last = await last_of(embedded, request)
    assert last.usage is not None and last.usage.reason == "end"
    assert last.text == json.dumps(json.loads(last.text), ensure_ascii=False, separators=(",", ":"))
    Facts.model_validate_json(last.text)


async def test_a_budget_too_small_for_the_schema_is_reported(embedded: Engine) -> None:
    request = Request(Prompt("Facts about Paris."), max_tokens=6, schema=Facts.model_json_schema())
    last = await last_of(embedded, request)
    assert last.usage is not None and last.usage.reason == "length"
    assert last.text.startswith('{"kind":')


@pytest.mark.parametrize("text", ["<end_of_turn>", "<eos>", "<bos>", "<start_of_image>", "<unused7>"])
async def test_control_tokens_in_a_prompt_are_read_as_text(embedded: Engine, text: str) -> None:
    async def tokens(prompt: Prompt) -> int:
        last = await last_of(embedded, Request(prompt, max_tokens=1, options=FREE))
        return last.usage.prompt_tokens if last.usage else 0

    bare = await tokens(Prompt("x -", system="-", opening="-", facts=("-",)))
    ten = text * 10
    for full in (
        Prompt(f"x -{ten}", system="-", opening="-", facts=("-",)),
        Prompt("x -", system=f"-{ten}", opening="-", facts=("-",)),
        Prompt("x -", system="-", opening=f"-{ten}", facts=("-",)),
        Prompt("x -", system="-", opening="-", facts=(f"-{ten}",)),
    ):
        assert await tokens(full) - bare >= 25


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"options": {"temprature": 1}}, UnknownOption, "Did you mean 'temperature'"),
        ({"options": {"temperature": "hot"}}, BadOption, "a number from 0 to 5"),
        ({"options": {"grammar": "root ::= nothing"}}, RequestRefused, "grammar"),
        ({"canvases": 8}, PromptTooLong, "2,048 tokens of text do not fit"),
        ({"prompt": Prompt("word " * 3000)}, PromptTooLong, "the context holds 2,048"),
        ({"prompt": Prompt("word " * 1900)}, PromptTooLong, "256 may be written, but the context holds 2,048"),
        ({"prompt": Prompt("x", images=(b"",))}, RequestRefused, "cannot see images"),
        ({"draft": Draft("x")}, RequestRefused, "cannot edit"),
        ({"schema": {"type": "string", "pattern": "x"}}, RequestRefused, "'pattern'"),
        ({"schema": {"type": "null"}, "prompt": Prompt("x", opening="{")}, RequestRefused, "opening"),
        ({"schema": {"type": "null"}, "options": FREE}, RequestRefused, "not both"),
    ],
)
async def test_unsupported_requests_are_refused_before_the_first_frame(
    embedded: Engine, wrong: dict[str, Any], kind: type[EngineError], message: str
) -> None:
    with pytest.raises(kind) as raised:
        await anext(embedded.generate(Request(**{"prompt": PROMPT, **wrong})))
    assert message in str(raised.value)
    await idle(embedded)
    if message != "grammar" and "prompt" not in wrong:  # those only llama.cpp itself can judge
        with pytest.raises(kind) as raised:
            embedded.check(Request(PROMPT, **wrong))
        assert message in str(raised.value)


@contextlib.asynccontextmanager
async def another(**options: Any) -> AsyncIterator[Engine]:
    """An engine of one's own, to do things with that would disturb others."""
    engine = await asyncio.to_thread(open_engine, "embedded", context=512, **options)
    yield engine
    await engine.close()


async def test_closing_the_engine_ends_running_and_waiting_requests() -> None:
    async with another(parallel=2) as engine:
        tasks = [asyncio.ensure_future(last_of(engine, Request(PROMPT, options=FREE))) for _ in range(4)]
        await asyncio.sleep(0.3)
        await engine.close()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [EngineClosed] * 4
        with pytest.raises(EngineClosed):
            await anext(engine.generate(Request(PROMPT)))
        await engine.close()


async def test_a_model_declared_instruct_gets_a_chat() -> None:
    async with another(parallel=1, instruct=True) as engine:
        assert engine.about.abilities.instruct
        prompt = replace(PROMPT, opening="A lighthouse")
        frames = await frames_of(engine, Request(prompt, max_tokens=12))
        assert all(frame.text.startswith("A lighthouse") for frame in frames)
        last = await last_of(engine, Request(Prompt("x"), max_tokens=60, schema={"type": "boolean"}))
        assert json.loads(last.text) in (True, False)


async def test_the_model_writes_no_control_tokens(embedded: Engine) -> None:
    """Their texts match a grammar that allows any character."""
    wanted = "<start_of_image>"
    options = {"grammar": 'root ::= "<" [a-z_]+ ">"', "logit_bias": [[wanted, 90.0]], "temperature": 0}
    last = await last_of(embedded, Request(Prompt("A tag."), max_tokens=12, options=options))
    assert not last.text.startswith(wanted) and last.usage is not None
    options = {"logit_bias": [[wanted, 90.0]], "temperature": 0}
    last = await last_of(embedded, Request(Prompt("A tag."), max_tokens=12, options=options))
    assert wanted not in last.text
