from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.servers import PATIENCE

from unwritten_engine.errors import EngineError, GenerationFailed, PromptTooLong, RequestRefused
from unwritten_engine.llamacpp.completion import Completion
from unwritten_engine.text_frames import TextFrames

pytestmark = pytest.mark.anyio


def token(text: str, number: int, finish: str | None = None, prompt: int = 5) -> dict[str, Any]:
    """A chunk such as llama.cpp sends."""
    return {
        "choices": [{"text": text, "finish_reason": finish}],
        "timings": {"cache_n": 3, "prompt_n": prompt - 3, "predicted_n": number},
    }


def sends(*chunks: dict[str, Any]) -> Callable[[Completion], None]:
    """What a thread does that gets these chunks and comes back."""

    def work(job: Completion) -> None:
        for chunk in chunks:
            job.on_chunk(chunk)
        job.finish()

    return work


def a_job(work: Callable[[Completion], None], stops: tuple[str, ...] = (), context: int = 100) -> Completion:
    stream = TextFrames("", (), stops, 8, 20)
    loop = asyncio.get_running_loop()
    job = Completion(loop, stream, context=context, budget=20, queued=0.5, seed=7, work=work)
    job.start()
    return job


async def test_a_slow_reader_gets_the_newest_frame_and_the_last() -> None:
    written, go_on = threading.Event(), threading.Event()

    def work(job: Completion) -> None:
        for number in range(1, 6):
            assert not job.on_chunk(token(f"w{number} ", number))
        written.set()
        go_on.wait(PATIENCE)
        assert job.on_chunk(token("", 6, "stop"))
        job.finish()

    job = a_job(work)
    await asyncio.to_thread(written.wait, 5)
    assert (await job.next_frame()).text == "w1 w2 w3 w4 w5 "
    go_on.set()
    last = await job.next_frame()
    assert last.text == "w1 w2 w3 w4 w5"
    assert last.usage is not None
    assert (last.usage.tokens, last.usage.prompt_tokens, last.usage.cached_tokens) == (5, 5, 3)
    assert (last.usage.reason, last.usage.seed, last.usage.queued_seconds) == ("end", 7, 0.5)
    await asyncio.to_thread(job.join)


async def test_a_text_may_end_at_its_budget() -> None:
    job = a_job(sends(token("a", 1), token("", 1, "length")))
    await asyncio.to_thread(job.join)
    last = await job.next_frame()
    assert last.usage is not None and (last.usage.reason, last.usage.tokens) == ("length", 1)


async def test_a_stop_string_ends_generation() -> None:
    answers: list[bool] = []
    job = a_job(lambda job: answers.extend([job.on_chunk(token("a", 1)), job.on_chunk(token(" stop", 2))]), ("stop",))
    await asyncio.to_thread(job.join)
    last = await job.next_frame()
    assert answers == [False, True]
    assert last.usage is not None and last.usage.reason == "stop" and last.text == "a"


async def test_stopping_takes_effect_at_the_next_token() -> None:
    begun, stopped, answers = threading.Event(), threading.Event(), []

    def work(job: Completion) -> None:
        job.on_chunk(token("a", 1))
        begun.set()
        stopped.wait(PATIENCE)
        answers.append(job.on_chunk(token("b", 2)))

    job = a_job(work)
    await asyncio.to_thread(begun.wait, 5)
    job.stop()
    stopped.set()
    await asyncio.to_thread(job.join)
    assert answers == [True]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ({"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 999}, PromptTooLong, "has 999 tokens"),
        ({"code": 400, "message": "bad grammar"}, RequestRefused, "bad grammar"),
        ({"code": 500, "message": "out of memory"}, GenerationFailed, "out of memory. Try again"),
        ("what?", GenerationFailed, "what"),
    ],
)
async def test_runtime_errors_become_engine_errors(error: Any, kind: type[EngineError], message: str) -> None:
    job = a_job(sends({"error": error}))
    with pytest.raises(kind, match=message):
        await job.next_frame()


async def test_prompt_and_budget_must_fit_the_context() -> None:
    job = a_job(sends(token("a", 1, prompt=90)), context=100)
    with pytest.raises(PromptTooLong, match="90 tokens and 20 may be written, but the context holds 100"):
        await job.next_frame()


async def test_a_prompt_that_is_too_long_is_refused_before_it_is_evaluated() -> None:
    answers: list[bool] = []
    progress = token("", 0) | {"prompt_progress": {"total": 90, "cache": 0, "processed": 0}}
    job = a_job(lambda job: answers.append(job.on_chunk(progress)))
    with pytest.raises(PromptTooLong, match="90 tokens"):
        await job.next_frame()
    await asyncio.to_thread(job.join)
    assert answers == [True]


async def test_an_empty_completion_is_a_failure() -> None:
    job = a_job(sends())
    with pytest.raises(GenerationFailed, match="without a reason"):
        await job.next_frame()
