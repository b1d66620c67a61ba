"""What its users gain by the loop: a beginning that is kept, a page whose canvases run together, joining what runs."""

from __future__ import annotations

import statistics
import time
from itertools import count
from typing import Any

from tests.benchmarks.engine.sides import Ours, drafted, ms, prompt, until
from tests.benchmarks.engine.subject import Subject


def prefix(subject: Subject, pairs: int, *, length: int, shared: int) -> dict[str, Any]:
    """Time to the first draft, with a long beginning that is read for the first time, and with one that is kept."""
    beginning = prompt(subject, shared, 100)
    ours = Ours(subject, rows=1, context=shared + length + subject.size)
    tails = count(200)

    def first() -> float:
        tokens = beginning + prompt(subject, length, next(tails))
        run = ours.run(tokens, steps=1, shared=len(beginning))
        return until(ours, [run], drafted(run))

    first()
    found = []
    for _ in range(pairs):
        ours.loop.prefix_cache.clear()
        cold = first()
        found.append((cold, first()))
    return {
        "prefix_ratio": round(statistics.median(cold / warm for cold, warm in found), 2),
        "prefix_tokens": len(beginning),
        "first_draft_cold_ms": ms(statistics.median(cold for cold, _ in found)),
        "first_draft_warm_ms": ms(statistics.median(warm for _, warm in found)),
    }


def page(subject: Subject, pairs: int, *, steps: int, length: int, shared: int) -> dict[str, Any]:
    """The four canvases of a page: all together against one after the other, with their beginning kept."""
    beginning = prompt(subject, min(shared, 256), 300)
    ours = Ours(subject, rows=4, context=len(beginning) + length + subject.size)

    def runs() -> list[Any]:
        return [
            ours.run(
                beginning + prompt(subject, length, 400 + n),
                steps=steps,
                seed=n,
                shared=len(beginning),
            )
            for n in range(4)
        ]

    until(ours, runs())
    until(ours, runs())
    found, firsts, orderly = [], [], True
    for _ in range(pairs):
        after = 0.0
        for run in runs():
            after += until(ours, [run])
        four = runs()
        begun = time.perf_counter()
        until(ours, four, drafted(*four))
        firsts.append(time.perf_counter() - begun)
        orderly = orderly and not any(run.finished for run in four)
        until(ours, [])
        found.append((after, time.perf_counter() - begun))
    return {
        "page_batch_ratio": round(statistics.median(after / together for after, together in found), 2),
        "page_together_ms": ms(statistics.median(together for _, together in found)),
        "page_one_by_one_ms": ms(statistics.median(after for after, _ in found)),
        "page_first_drafts_ms": ms(statistics.median(firsts)),
        "first_drafts_before_settled": orderly,
    }


def join(subject: Subject, pairs: int, *, steps: int, length: int) -> dict[str, Any]:
    """A request that comes while another runs: it joins, or it waits for the end."""
    ours = Ours(subject, rows=2, context=length + subject.size)
    steps *= 2
    one, two = (prompt(subject, length, 500 + n) for n in range(2))
    ours.steps([one, two], 3)
    found = []
    for _ in range(pairs):
        figures = []
        for joins in (False, True):
            first, second = ours.run(one, steps=steps, seed=1), ours.run(two, steps=steps, seed=2)
            until(ours, [first], drafted(first, steps=2))
            begun = time.perf_counter()
            if not joins:
                until(ours, [])
            until(ours, [second], drafted(second))
            draft = time.perf_counter() - begun
            until(ours, [])
            figures += [draft, time.perf_counter() - begun]
        found.append(figures)
    waits, waits_end, joined, joined_end = (statistics.median(values) for values in zip(*found, strict=True))
    return {
        "join_ratio": round(statistics.median(waits / joined for waits, _, joined, _ in found), 2),
        "join_first_draft_ms": ms(joined),
        "join_both_done_ms": ms(joined_end),
        "wait_first_draft_ms": ms(waits),
        "wait_both_done_ms": ms(waits_end),
    }
