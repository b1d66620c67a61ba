"""The vLLM engine on a backend that records what it is asked for, without vLLM."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from unwritten_engine import About, Draft, Frame, Priority, Prompt, Request
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import PromptTokenizer
from unwritten_engine.engine import Abilities
from unwritten_engine.errors import EngineClosed, GenerationFailed, RequestRefused, UnknownOption
from unwritten_engine.vllm.backend import CanvasRequest, FinishedCanvas, OnDraft, StepDraft
from unwritten_engine.vllm.constraints import read_constraints
from unwritten_engine.vllm.engine import VLLMEngine
from unwritten_engine.vllm.options import max_steps

pytestmark = pytest.mark.anyio
SIZE = 64
TOKENIZER = make_tokenizer(1024)
DETOKENIZER = Detokenizer(TOKENIZER, frozenset({1, 106, 50}), 0, 1024)
WORDS = DETOKENIZER.encode(" Night Tower Window Story Harbor Bread")
ABOUT = About("vllm", "random", "test", "", 0, 1024, SIZE, 2, Abilities(drafts=True))


@dataclass
class Recorder:
    """A backend that writes the same words again and again, in two steps."""

    requests: list[CanvasRequest] = field(default_factory=list)
    write: Callable[[CanvasRequest, OnDraft], Any] | None = None
    closed: bool = False

    async def write_canvas(self, request: CanvasRequest, on_draft: OnDraft) -> FinishedCanvas:
        self.requests.append(request)
        if self.write is not None:
            await self.write(request, on_draft)
        ids = words(request.width)
        for step in (1, 2):
            on_draft(StepDraft(step, ids, [step == 2 or at % 2 == 0 for at in range(request.width)]))
            await asyncio.sleep(0.01)  # so that the reader sees each of them
        return FinishedCanvas(ids, 5)

    async def close(self) -> None:
        self.closed = True


def words(count: int) -> list[int]:
    return (list(WORDS) * count)[:count]


@pytest.fixture
def backend() -> Iterator[Recorder]:
    yield Recorder()


def engine_of(backend: Recorder) -> VLLMEngine:
    tokenizer = PromptTokenizer(TOKENIZER, DETOKENIZER, None, "random")
    return VLLMEngine(backend, ABOUT, detokenizer=DETOKENIZER, prompt_tokenizer=tokenizer, steps=48)


async def frames_of(engine: VLLMEngine, request: Request) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


async def test_each_canvas_is_a_request_that_continues_the_ones_before(backend: Recorder) -> None:
    frames = await frames_of(engine_of(backend), Request(Prompt("x"), canvases=3, max_tokens=2 * SIZE + 10))
    first, second, third = backend.requests
    assert second.prompt == (*first.prompt, *words(SIZE)) and third.prompt == (*second.prompt, *words(SIZE))
    assert [request.width for request in backend.requests] == [SIZE, SIZE, 32], "the last one is shorter"
    assert [request.last for request in backend.requests] == [False, False, True]
    assert frames[-1].usage is not None
    usage = frames[-1].usage
    assert (usage.tokens, usage.steps, usage.canvases, usage.reason) == (2 * SIZE + 10, 6, 3, "length")
    assert usage.cached_tokens == 5


async def test_unsettled_is_what_changed_or_was_not_accepted(backend: Recorder) -> None:
    frames = await frames_of(engine_of(backend), Request(Prompt("x")))
    assert frames[0].unsettled == ((0, len(frames[0].text)),), "everything is new"
    assert frames[-2].unsettled == () and frames[-2].step == 2


async def test_an_end_token_ends_the_text(backend: Recorder) -> None:
    engine = engine_of(backend)
    ids = [*words(10), 1, *words(SIZE - 11)]
    backend.write_canvas = lambda request, on_draft: _return(request, ids)  # type: ignore[method-assign]
    frames = await frames_of(engine, Request(Prompt("x"), canvases=3))
    assert frames[-1].usage is not None
    assert frames[-1].usage.tokens == 10 and frames[-1].usage.reason == "end" and frames[-1].usage.canvases == 1


async def _return(request: CanvasRequest, ids: list[int]) -> FinishedCanvas:
    return FinishedCanvas(ids, 0)


async def test_an_empty_first_canvas_is_repeated_with_a_visible_first_token(backend: Recorder) -> None:
    answers = [[1, *[0] * (SIZE - 1)], words(SIZE)]

    async def answer(request: CanvasRequest, on_draft: OnDraft) -> FinishedCanvas:
        backend.requests.append(request)
        return FinishedCanvas(answers[len(backend.requests) - 1], 0)

    backend.write_canvas = answer  # type: ignore[method-assign]
    frames = await frames_of(engine_of(backend), Request(Prompt("x")))
    assert frames[-1].text.startswith(" Night Tower")
    first, second = (request.extra_args for request in backend.requests)
    assert first == {} and second["unwritten_mask_ids"] == [1, *[0] * (SIZE - 1)]
    found = read_constraints(second, 1024, "cpu")
    assert found is not None
    [(positions, impossible)] = found.masks
    assert positions.tolist() == [0] and impossible[1] and impossible[0] and not impossible[WORDS[0]]


async def test_a_canvas_of_padding_fails_at_once(backend: Recorder) -> None:
    backend.write_canvas = lambda request, on_draft: _return(request, [0] * SIZE)  # type: ignore[method-assign]
    with pytest.raises(GenerationFailed, match="only padding"):
        await frames_of(engine_of(backend), Request(Prompt("x"), canvases=2))


async def test_an_opening_is_pinned_in_the_first_canvas_only(backend: Recorder) -> None:
    await frames_of(engine_of(backend), Request(Prompt("x", opening="Night Tower"), canvases=2))
    first, second = (request.extra_args for request in backend.requests)
    pins = first["diffusion_pinned"]
    assert pins == list(range(len(pins))) and pins
    assert DETOKENIZER.decode(first["diffusion_seed_canvas"][: len(pins)], [False] * len(pins)).text == "Night Tower"
    assert len(first["diffusion_seed_canvas"]) == SIZE
    assert second == {}


async def test_the_strength_of_an_edit_sets_the_seed_canvas_and_the_steps(backend: Recorder) -> None:
    engine, text = engine_of(backend), "Night Tower Window Story Harbor Bread Night Tower Window"
    tokens = DETOKENIZER.encode(text)

    async def kept(strength: float) -> int:
        random.seed(1)
        await frames_of(engine, Request(Prompt("x"), draft=Draft(text, strength=strength)))
        seed = backend.requests[-1].extra_args["diffusion_seed_canvas"]
        return sum(one == two for one, two in zip(seed, tokens, strict=False))

    counts = [await kept(strength) for strength in (0, 0.5, 1)]
    assert counts[0] == len(tokens) > counts[1] > counts[2]
    assert [request.steps for request in backend.requests] == [1, 24, 48]


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (Request(Prompt("x"), seed=1), RequestRefused, "no seed repeats a text"),
        (Request(Prompt("x", images=(b"\x89PNG",))), RequestRefused, "accepts no images"),
        (Request(Prompt("x"), options={"temperature": 0.5}), UnknownOption, "no option 'temperature'"),
        (Request(Prompt("x", opening="A"), schema={"type": "object"}), RequestRefused, "cannot have an opening"),
        (Request(Prompt("x"), schema={"type": "string", "pattern": "a+"}), RequestRefused, "pattern"),
    ],
)
async def test_what_vllm_cannot_do_is_refused_before_any_work(
    request_: Request, error: type[Exception], message: str, backend: Recorder
) -> None:
    engine = engine_of(backend)
    with pytest.raises(error, match=message):
        engine.check(request_)
    with pytest.raises(error, match=message):
        await frames_of(engine, request_)
    assert not backend.requests


async def test_the_usage_has_no_seed_because_none_repeats_the_text(backend: Recorder) -> None:
    frames = await frames_of(engine_of(backend), Request(Prompt("x")))
    assert frames[-1].usage is not None and frames[-1].usage.seed == 0


async def test_a_failure_reaches_the_reader_and_frees_the_place(backend: Recorder) -> None:
    async def fail(request: CanvasRequest, on_draft: OnDraft) -> None:
        raise GenerationFailed("vLLM failed")

    engine = engine_of(backend)
    backend.write = fail
    for _ in range(ABOUT.parallel + 1):
        with pytest.raises(GenerationFailed):
            await frames_of(engine, Request(Prompt("x")))
    backend.write = None
    assert (await frames_of(engine, Request(Prompt("x"))))[-1].done


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), asyncio.CancelledError()])
async def test_an_unexpected_error_ends_the_request(backend: Recorder, error: BaseException) -> None:
    async def fail(request: CanvasRequest, on_draft: OnDraft) -> None:
        raise error

    backend.write = fail
    with pytest.raises(GenerationFailed, match=r"a bug|was cancelled"):
        await asyncio.wait_for(frames_of(engine_of(backend), Request(Prompt("x"))), 10)


async def test_a_short_canvas_is_an_error_and_a_short_draft_is_ignored(backend: Recorder) -> None:
    async def answer(request: CanvasRequest, on_draft: OnDraft) -> FinishedCanvas:
        on_draft(StepDraft(1, words(3), [True] * 3))
        return FinishedCanvas([], 0)

    backend.write_canvas = answer  # type: ignore[method-assign]
    with pytest.raises(GenerationFailed, match="returned 0 of 64 tokens"):
        await frames_of(engine_of(backend), Request(Prompt("x")))


async def test_closing_the_iterator_cancels_the_canvas(backend: Recorder) -> None:
    cancelled = asyncio.Event()

    async def hang(request: CanvasRequest, on_draft: OnDraft) -> None:
        on_draft(StepDraft(1, words(SIZE), [True] * SIZE))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    backend.write = hang
    async with contextlib.aclosing(engine_of(backend).generate(Request(Prompt("x")))) as frames:
        await anext(frames)
    assert cancelled.is_set()


async def test_a_promoted_request_gets_its_priority_with_the_next_canvas(backend: Recorder) -> None:
    engine = engine_of(backend)
    request = Request(Prompt("x"), canvases=2, priority=Priority.PREFETCH)
    async for frame in engine.generate(request):
        if frame.canvas == 0:
            engine.promote(request)
    assert [each.priority for each in backend.requests] == [Priority.PREFETCH, Priority.CLICK]


async def test_closing_ends_running_and_waiting_requests(backend: Recorder) -> None:
    async def hang(request: CanvasRequest, on_draft: OnDraft) -> None:
        await asyncio.Event().wait()

    backend.write = hang
    engine = engine_of(backend)
    tasks = [asyncio.create_task(frames_of(engine, Request(Prompt("x")))) for _ in range(4)]
    while len(backend.requests) < ABOUT.parallel:
        await asyncio.sleep(0)
    await engine.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, EngineClosed) for result in results)
    assert backend.closed
    with pytest.raises(EngineClosed):
        await frames_of(engine, Request(Prompt("x")))


async def test_warming_reads_each_shared_prefix_once(backend: Recorder) -> None:
    await engine_of(backend).warm([Prompt("x", "A"), Prompt("y", "A"), Prompt("z", "B")])
    assert len(backend.requests) == 2
    assert {request.steps for request in backend.requests} == {1}


@pytest.mark.parametrize(("quality", "steps", "expected"), [(1, None, 48), (0, None, 12), (0.5, None, 30), (1, 99, 48)])
async def test_quality_sets_the_steps(quality: float, steps: int | None, expected: int) -> None:
    assert max_steps(quality, steps, 48) == expected
