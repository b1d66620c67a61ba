"""Benefits of the loop: prefix caching, the canvases of a page in one batch, and joining a running batch."""

from __future__ import annotations

import statistics
import time
from itertools import count
from typing import Any

from tests.benchmarks.engine.bench_model import BenchModel
from tests.benchmarks.engine.runners import EngineRunner, has_drafts, random_prompt, run_until, to_ms


def prefix(subject: BenchModel, pairs: int, *, length: int, shared: int) -> dict[str, Any]:
    """Measure the time to the first draft with a long shared prefix, not cached and cached."""
    beginning = random_prompt(subject, shared, 100)
    engine = EngineRunner(subject, rows=1, context=shared + length + subject.size)
    tails = count(200)

    def first() -> float:
        tokens = beginning + random_prompt(subject, length, next(tails))
        run = engine.run(tokens, steps=1, shared=len(beginning))
        return run_until(engine, [run], has_drafts(run))

    first()
    found = []
    for _ in range(pairs):
        engine.loop.prefix_cache.clear()
        cold = first()
        found.append((cold, first()))
    return {
        "prefix_ratio": round(statistics.median(cold / warm for cold, warm in found), 2),
        "prefix_tokens": len(beginning),
        "first_draft_cold_ms": to_ms(statistics.median(cold for cold, _ in found)),
        "first_draft_warm_ms": to_ms(statistics.median(warm for _, warm in found)),
    }


def page(subject: BenchModel, pairs: int, *, steps: int, length: int, shared: int) -> dict[str, Any]:
    """Measure the four canvases of a page: in one batch, and one after the other, with a cached prefix."""
    beginning = random_prompt(subject, min(shared, 256), 300)
    engine = EngineRunner(subject, rows=4, context=len(beginning) + length + subject.size)

    def runs() -> list[Any]:
        return [
            engine.run(
                beginning + random_prompt(subject, length, 400 + n),
                steps=steps,
                seed=n,
                shared=len(beginning),
            )
            for n in range(4)
        ]

    run_until(engine, runs())
    run_until(engine, runs())
    found, firsts, orderly = [], [], True
    for _ in range(pairs):
        after = 0.0
        for run in runs():
            after += run_until(engine, [run])
        four = runs()
        start = time.perf_counter()
        run_until(engine, four, has_drafts(*four))
        firsts.append(time.perf_counter() - start)
        orderly = orderly and not any(run.finished for run in four)
        run_until(engine, [])
        found.append((after, time.perf_counter() - start))
    return {
        "page_batch_ratio": round(statistics.median(after / together for after, together in found), 2),
        "page_together_ms": to_ms(statistics.median(together for _, together in found)),
        "page_one_by_one_ms": to_ms(statistics.median(after for after, _ in found)),
        "page_first_drafts_ms": to_ms(statistics.median(firsts)),
        "first_drafts_before_settled": orderly,
    }


def join(subject: BenchModel, pairs: int, *, steps: int, length: int) -> dict[str, Any]:
    """Measure a request that arrives while another runs: it joins the batch, or waits for the end."""
    engine = EngineRunner(subject, rows=2, context=length + subject.size)
    steps *= 2
    one, two = (random_prompt(subject, length, 500 + n) for n in range(2))
    engine.steps([one, two], 3)
    found = []
    for _ in range(pairs):
        figures = []
        for joins in (False, True):
            first, second = engine.run(one, steps=steps, seed=1), engine.run(two, steps=steps, seed=2)
            run_until(engine, [first], has_drafts(first, steps=2))
            start = time.perf_counter()
            if not joins:
                run_until(engine, [])
            run_until(engine, [second], has_drafts(second))
            draft = time.perf_counter() - start
            run_until(engine, [])
            figures += [draft, time.perf_counter() - start]
        found.append(figures)
    waits, waits_end, joined, joined_end = (statistics.median(values) for values in zip(*found, strict=True))
    return {
        "join_ratio": round(statistics.median(waits / joined for waits, _, joined, _ in found), 2),
        "join_first_draft_ms": to_ms(joined),
        "join_both_done_ms": to_ms(joined_end),
        "wait_first_draft_ms": to_ms(waits),
        "wait_both_done_ms": to_ms(waits_end),
    }
