"""A crowd in the loop: requests that join, leave and are pre-empted at random write what they would write alone."""

from __future__ import annotations

import random

import pytest
from tests.engine.reference_generate import until_end
from tests.support.diffusion_models import END, Model

from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.frames import Priority

LENGTHS = (1, 17, 33, 48, 61, 90)


@pytest.fixture(scope="module")
def made() -> Model:
    return Model(vocabulary=1024, hidden=32, layers=3, canvas=16, window=24, branch=0.5)


def ask(made: Model, number: int, priority: Priority = Priority.CLICK) -> Sequence:
    """One of six requests, which share their beginnings as far as they go."""
    length = LENGTHS[number]
    prompt = (*made.prompt(40)[:length], *made.prompt(max(0, length - 40), number))
    return made.run(
        prompt,
        seed=number,
        canvases=1 + number % 3,
        steps=2 + number,
        shared=min(length, 30),
        entropy_bound=3.0,
        priority=priority,
    )


@pytest.fixture(scope="module")
def alone(made: Model) -> list[tuple[list[int], int]]:
    found = []
    for number in range(len(LENGTHS)):
        made.new_loop(cache_bytes=0)
        run = ask(made, number)
        found.append((made.generate(run)[0], run.steps))
    return found


@pytest.mark.parametrize(
    ("rows", "cache_bytes", "max_queue_seconds", "at_once"),
    [(1, 10**8, 1e9, 512), (2, 60_000, 0.02, 20), (3, 0, 1e9, 5), (5, 60_000, 1e9, 7)],
)
def test_batched_requests_write_what_each_writes_alone(
    made: Model, alone: list[tuple[list[int], int]], rows: int, cache_bytes: int, max_queue_seconds: float, at_once: int
) -> None:
    chance = random.Random(rows)
    loop = made.new_loop(rows=rows, cache_bytes=cache_bytes, max_queue_seconds=max_queue_seconds)
    loop.prefill_tokens = at_once
    asked: list[tuple[int, Sequence]] = []
    steps = 0
    while steps < 70 or not loop.idle:
        if steps < 70 and chance.random() < 0.3:
            number = chance.randrange(len(LENGTHS))
            asked.append((number, ask(made, number, chance.choice([Priority.CLICK, Priority.PREFETCH]))))
            loop.add(asked[-1][1])
        if asked and steps < 70 and chance.random() < 0.05:
            chance.choice(asked)[1].cancelled = True
        loop.step()
        steps += 1
        assert len(loop.running) <= rows and loop.prefix_cache.nbytes <= cache_bytes and steps < 2000
    finished = [(number, run) for number, run in asked if not run.cancelled]
    assert len(finished) > 10
    for number, run in finished:
        assert run.error is None and run.usage is not None
        assert (until_end(run.output_ids, END), run.steps) == alone[number]
