"""The diffusion engine through its public face."""

from __future__ import annotations

import asyncio
import gc
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from pydantic import BaseModel, Field
from tests.support.engine_frames import frames, text

from unwritten_engine import Engine, open_engine
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.errors import (
    BadOption,
    EngineClosed,
    PromptTooLong,
    RequestRefused,
    UnknownOption,
)
from unwritten_engine.frames import Draft, Example, Frame, Priority, Prompt, Request

pytestmark = pytest.mark.anyio

SYSTEM = "You write pages of a wiki that does not exist. Each page is short, and has the name of its subject first."
PROMPT = Prompt("A page on the light of winter", SYSTEM, (Example("A page on stone", "Stone is old and cold."),))
ENDLESS = {"steps": 1000, "stability": 1000}


class Bread(BaseModel):
    """A small shape."""

    name: str = Field(max_length=30)
    kind: str = Field(max_length=12)
    price: int = Field(ge=1, le=99)
    warm: bool
    tags: list[str] = Field(max_length=3)


@pytest.fixture(scope="module")
async def engine(anyio_backend: str) -> AsyncIterator[Engine]:
    """The small random model that comes with the engine."""
    made = await asyncio.to_thread(open_engine, "diffusion", model="random", threads=1)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "seeing", layers=2, hidden=32, vision=True, branch=0.5)


@pytest.fixture(scope="module")
async def narrow(anyio_backend: str, folder: Path) -> AsyncIterator[Engine]:
    """A model that can see, with one row."""
    made = await asyncio.to_thread(
        open_engine, f"diffusion:{folder}", threads=1, parallel=1, context=512, prefix_cache_mb=10
    )
    yield made
    await made.close()


async def ends(engine: Engine) -> None:
    """The one row is free: a short request gets it at once."""
    last = (await frames(engine, Request(PROMPT, options={"steps": 2})))[-1]
    assert last.usage is not None and last.usage.queued_seconds < 20


async def test_a_text_is_refined_step_by_step(engine: Engine) -> None:
    found = await frames(engine, Request(PROMPT, canvases=2, seed=4, options={"steps": 10}))
    assert len(found) > 5 and len({frame.text for frame in found}) > 5
    assert found[0].canvas == 0 and found[0].canvases == 2 and found[0].steps == 10 and found[0].unsettled
    usage = found[-1].usage
    assert usage is not None
    assert usage.reason in ("end", "length") and usage.seed == 4 and usage.canvases in (1, 2)
    assert 10 <= usage.steps <= 20 and 0 < usage.tokens <= 256
    assert usage.prompt_tokens > 20 and usage.tokens_per_second > 0


async def test_about_describes_the_engine(engine: Engine) -> None:
    about = engine.about
    assert (about.engine, about.model, about.device) == ("diffusion", "random", "CPU, 1 thread")
    assert about.abilities.drafts and about.abilities.schemas and about.abilities.edits and not about.abilities.images
    assert about.parallel >= 4 and about.canvas_length == 128 and about.memory_bytes > 10**6
    assert "gibberish" in " ".join(about.reasons)


async def test_a_seed_repeats_in_any_batch(engine: Engine) -> None:
    asked = Request(PROMPT, seed=11, options={"steps": 8})
    alone = await text(engine, asked)
    others = [Request(Prompt(f"Number {n}" * n), seed=n, options={"steps": 3 + n}) for n in range(3)]
    together = await asyncio.gather(text(engine, asked), *(text(engine, other) for other in others))
    assert together[0] == alone
    assert await text(engine, replace(asked, seed=12)) != alone


async def test_seeds_are_drawn_if_none_is_given(engine: Engine) -> None:
    last = [(await frames(engine, Request(PROMPT, options={"steps": 1})))[-1] for _ in range(2)]
    assert last[0].usage is not None and last[1].usage is not None
    assert last[0].usage.seed != last[1].usage.seed and last[0].text != last[1].text
    again = await text(engine, Request(PROMPT, seed=last[0].usage.seed, options={"steps": 1}))
    assert again == last[0].text


async def test_all_requests_show_drafts_before_any_settles(engine: Engine) -> None:
    events: list[tuple[int, Frame]] = []

    async def one(number: int) -> None:
        asked = Request(Prompt(f"Region {number} of a page", SYSTEM), seed=number, options={"steps": 12})
        async for frame in engine.generate(asked):
            events.append((number, frame))

    await asyncio.gather(*map(one, range(4)))
    firsts = [next(at for at, (number, _) in enumerate(events) if number == n) for n in range(4)]
    ended = next(at for at, (_, frame) in enumerate(events) if frame.done or not frame.unsettled)
    assert max(firsts) < ended
    assert all(events[at][1].step <= 3 and events[at][1].text for at in firsts)


async def test_an_opening_is_in_every_frame(engine: Engine) -> None:
    prompt = replace(PROMPT, opening="**Light** is")
    found = await frames(engine, Request(prompt, seed=2, options={"steps": 6}))
    assert len(found) > 2
    assert all(frame.text.startswith("**Light** is") for frame in found)
    assert all(start >= 12 for frame in found for start, _ in frame.unsettled)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
async def test_kept_spans_of_edits_are_in_every_frame(engine: Engine, strength: float) -> None:
    old = "The old stone bridge crosses the cold river near the tower."
    draft = Draft(old, ((4, 20), (33, 43)), strength)
    found = await frames(engine, Request(PROMPT, seed=2, draft=draft, options={"steps": 10}))
    for frame in found:
        at = frame.text.index(old[4:20])
        assert old[33:43] in frame.text[at + 16 :]
        assert not any(start < at + 16 and at < end for start, end in frame.unsettled)
    assert found[-1].usage is not None and found[-1].usage.steps <= max(1, round(10 * strength))
    assert found[0].steps == max(1, round(10 * strength)) and found[0].step >= 1
    assert strength < 1 or found[-1].text != old


async def test_schemas_hold_at_every_step(engine: Engine) -> None:
    schema = Bread.model_json_schema()
    found = await frames(engine, Request(PROMPT, canvases=2, schema=schema, seed=3, options={"steps": 8}))
    assert len(found) > 3
    for frame in found:
        Bread.model_validate_json(frame.text)
        assert frame.text == json.dumps(json.loads(frame.text), separators=(",", ":"), ensure_ascii=False)
    assert found[-1].usage is not None and found[-1].usage.reason == "end"


async def test_a_warmed_prefix_is_reused(engine: Engine) -> None:
    system = f"{SYSTEM} Today it is about rivers and bridges."
    long = Prompt("x", "river " * 9000)
    await engine.warm([Prompt("anything", system), long, Prompt("nothing shared")])
    last = (await frames(engine, Request(Prompt("A page on rain", system), options={"steps": 1})))[-1]
    assert last.usage is not None and last.usage.prompt_tokens > last.usage.cached_tokens > 20


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (Request(Prompt("river " * 9000)), PromptTooLong, "does not fit into the context of 8,192. Shorten the prompt"),
        (Request(PROMPT, canvases=100), PromptTooLong, "ask for fewer canvases"),
        (Request(PROMPT, draft=Draft("river " * 400)), RequestRefused, "tokens, and the budget is 128"),
        (
            Request(PROMPT, schema={"type": "array", "minItems": 40, "items": Bread.model_json_schema()}),
            RequestRefused,
            "The schema needs",
        ),
        (Request(PROMPT, schema={"type": "thing"}), RequestRefused, "has the type 'thing'"),
        (Request(PROMPT, options={"step": 3}), UnknownOption, "no option 'step'. Did you mean 'steps'?"),
        (Request(PROMPT, options={"steps": 0}), BadOption, "'steps' is 0"),
        (Request(Prompt("x", images=(b"x",))), RequestRefused, "random cannot see images. Leave them out"),
    ],
)
async def test_unsupported_requests_are_refused_immediately(
    engine: Engine, asked: Request, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        await anext(engine.generate(asked))
    assert message in str(raised.value)
    with pytest.raises(error) as raised:
        engine.check(asked)
    assert message in str(raised.value)


async def test_clicks_run_before_prefetches(narrow: Engine) -> None:
    options = {"steps": 40, "stability": 1000}
    ahead = Request(PROMPT, seed=1, priority=Priority.PREFETCH, options=options)
    undisturbed = await text(narrow, ahead)
    order: list[str] = []

    async def one(name: str, asked: Request, begun: asyncio.Event) -> str:
        found = ""
        async for frame in narrow.generate(asked):
            begun.set()
            found = frame.text
        order.append(name)
        return found

    begun = asyncio.Event()
    first = asyncio.create_task(one("ahead", ahead, begun))
    await begun.wait()
    click = Request(Prompt("Now"), seed=2, options={"steps": 10, "stability": 1000})
    await one("click", click, asyncio.Event())
    assert await first == undisturbed and order == ["click", "ahead"]


async def test_closing_the_generator_frees_the_row(narrow: Engine) -> None:
    generator = narrow.generate(Request(PROMPT, options=ENDLESS))
    await anext(generator)
    await generator.aclose()
    await ends(narrow)


async def test_a_cancelled_task_frees_the_row(narrow: Engine) -> None:
    task = asyncio.create_task(text(narrow, Request(PROMPT, options=ENDLESS)))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ends(narrow)


async def test_an_abandoned_generator_frees_the_row(narrow: Engine) -> None:
    generator = narrow.generate(Request(PROMPT, options=ENDLESS))
    await anext(generator)
    del generator
    gc.collect()
    await asyncio.sleep(0)
    narrow.generate(Request(PROMPT, options=ENDLESS))  # never begun: it asks for nothing
    await ends(narrow)


def picture(color: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(stream, "PNG")
    return stream.getvalue()


async def test_pictures_change_the_text(narrow: Engine) -> None:
    def asked(*images: bytes) -> Request:
        return Request(Prompt("What is it?", SYSTEM, images=images), seed=1, options={"steps": 6})

    assert narrow.about.abilities.images
    red = await frames(narrow, asked(picture("red")))
    blue, again = await text(narrow, asked(picture("blue"))), await frames(narrow, asked(picture("red")))
    assert red[-1].text == again[-1].text != blue
    assert again[-1].usage is not None and 0 < again[-1].usage.cached_tokens < again[-1].usage.prompt_tokens
    video = await text(narrow, asked(*map(picture, ("red", "orange", "yellow"))))
    assert video and video != red[-1].text


async def test_invalid_pictures_are_refused(narrow: Engine) -> None:
    with pytest.raises(RequestRefused, match="Image 1 cannot be opened"):
        await text(narrow, Request(Prompt("What is it?", images=(b"not a picture",))))
    await ends(narrow)


async def drained(generator: AsyncGenerator[Frame, None]) -> None:
    async for _ in generator:
        pass


def models() -> int:
    gc.collect()
    return sum(type(thing).__name__ == "DiffusionGemmaForBlockDiffusion" for thing in gc.get_objects())


async def test_closing_ends_all_requests(folder: Path) -> None:
    before = models()
    made = await asyncio.to_thread(open_engine, f"diffusion:{folder}", threads=1, parallel=1, context=256)
    assert models() == before + 1
    running, waiting = (made.generate(Request(PROMPT, options=ENDLESS)) for _ in range(2))
    await anext(running)
    late = asyncio.ensure_future(anext(waiting))
    await asyncio.sleep(0.05)
    await made.close()
    for broken in (text(made, Request(PROMPT)), late, drained(running)):
        with pytest.raises(EngineClosed, match="closed"):
            await broken
    await made.warm([PROMPT])
    await made.close()
    assert models() == before  # its memory is free, though the engine is still there
    assert made.about.engine == "diffusion"


async def test_a_promoted_request_counts_as_a_click(engine: Engine) -> None:
    """On a processor what is written ahead rests while a click is at work; both come to their end."""
    ahead, click = (Request(PROMPT, seed=seed, priority=Priority.PREFETCH, options=ENDLESS) for seed in (1, 2))
    assert engine.about.abilities.prefetch and engine.about.abilities.preempts
    resting, taken = engine.generate(ahead), engine.generate(click)
    assert (await anext(resting)).step >= 1
    await anext(taken)
    engine.promote(click)
    engine.promote(Request(PROMPT))  # one that it does not know
    before = [(await anext(taken)).step for _ in range(4)][-1]
    heard = 0

    async def listen() -> None:
        nonlocal heard
        async for _ in resting:
            heard += 1

    listening = asyncio.ensure_future(listen())
    while (await anext(taken)).step < before + 10:
        pass
    listening.cancel()
    assert heard <= 1
    await taken.aclose()
