"""The loop: requests that join, leave, wait and are pre-empted write what they would write alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.engine.reference_generate import until_end
from tests.support.diffusion_models import END, Model

from unwritten_engine.diffusion.loop import DenoisingLoop
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.frames import Priority

AHEAD = Priority.PREFETCH


@dataclass(frozen=True)
class Asked:
    """A request, and what sets it apart from others."""

    length: int
    seed: int
    canvases: int
    steps: int

    def run(self, made: Model, priority: Priority = Priority.CLICK) -> Sequence:
        prompt = made.prompt(self.length, self.seed)
        return made.run(
            prompt, seed=self.seed, canvases=self.canvases, steps=self.steps, entropy_bound=3.0, priority=priority
        )


ASKED = (Asked(5, 1, 1, 4), Asked(40, 2, 3, 7), Asked(23, 3, 2, 10), Asked(70, 4, 2, 6))
LONG = ASKED[1]


@pytest.fixture(scope="module")
def made() -> Model:
    return Model(vocabulary=1024, hidden=32, layers=3, canvas=16, window=24, branch=0.5)


@pytest.fixture(scope="module")
def alone(made: Model) -> dict[Asked, tuple[list[int], int]]:
    """What each writes alone, and in how many steps."""
    found = {}
    for asked in (*ASKED, *(Asked(10 + n, 20 + n, 1, 3) for n in range(4))):
        made.new_loop()
        run = asked.run(made)
        found[asked] = made.generate(run)[0], run.steps
    assert [len(found[asked][0]) > 16 for asked in ASKED] == [False, True, True, True]
    return found


def check(run: Sequence, wanted: tuple[list[int], int]) -> None:
    assert run.error is None and run.usage is not None
    assert (until_end(run.output_ids, END), run.steps) == wanted


def to_the_end(loop: DenoisingLoop, most: int = 300) -> None:
    for _ in range(most):
        if loop.idle:
            return
        loop.step()
    raise AssertionError("the loop does not come to an end")


def test_batched_equals_single(made: Model, alone: dict[Asked, tuple[list[int], int]]) -> None:
    loop = made.new_loop()
    runs = [asked.run(made) for asked in ASKED]
    together = 0
    for _ in loop.generate(runs):
        together = max(together, len(loop.running))
    assert together == 4
    for asked, run in zip(ASKED, runs, strict=True):
        check(run, alone[asked])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (1, 3, 2, 0)])
@pytest.mark.parametrize("gap", [1, 3])
def test_joining_a_running_batch_equals_single(
    made: Model, alone: dict[Asked, tuple[list[int], int]], order: tuple[int, ...], gap: int
) -> None:
    loop = made.new_loop()
    runs = {}
    for place in order:
        runs[ASKED[place]] = ASKED[place].run(made)
        loop.add(runs[ASKED[place]])
        for _ in range(gap):
            loop.step()
    to_the_end(loop)
    for asked, run in runs.items():
        check(run, alone[asked])


def test_more_requests_than_rows_take_turns(made: Model, alone: dict[Asked, tuple[list[int], int]]) -> None:
    loop = made.new_loop(rows=2)
    runs = [asked.run(made) for asked in alone]
    for _ in loop.generate(runs):
        assert len(loop.running) <= 2
    for asked, run in zip(alone, runs, strict=True):
        check(run, alone[asked])


def test_updates_name_the_changed_sequences(made: Model) -> None:
    loop = made.new_loop()
    runs = [asked.run(made) for asked in ASKED[:2]]
    told: dict[Sequence, int] = dict.fromkeys(runs, 0)

    def listen(run: Sequence) -> None:
        def notify() -> None:
            told[run] += 1

        run.notify = notify

    for run in runs:
        listen(run)
    for news in loop.generate(runs):
        assert set(news) <= set(runs) and len(news) == len(set(news))
    assert told == {run: run.steps for run in runs}


@pytest.mark.parametrize("cache_bytes", [10**8, 0])
@pytest.mark.parametrize("before", [1, 3, 9, 15])
def test_preempted_and_resumed_equals_uninterrupted(
    made: Model, alone: dict[Asked, tuple[list[int], int]], cache_bytes: int, before: int
) -> None:
    """Also in its second and third canvas, and where the cache was forgotten meanwhile."""
    loop = made.new_loop(rows=1, cache_bytes=cache_bytes)
    ahead, click = LONG.run(made, AHEAD), ASKED[0].run(made)
    loop.add(ahead)
    for _ in range(before):
        loop.step()
    assert loop.running == [ahead] and ahead.steps == before
    loop.add(click)
    loop.step()
    assert loop.running == [click] and click.steps == 1
    assert loop.waiting == [ahead] and ahead.saved_state is not None
    assert (ahead.cache_keys in loop.prefix_cache) == bool(cache_bytes)
    to_the_end(loop)
    check(click, alone[ASKED[0]])
    check(ahead, alone[LONG])
    assert ahead.usage is not None and ahead.usage.queued_seconds > 0 and ahead.usage.cached_tokens == 0
    assert ahead.saved_state is None and ahead.cache_keys not in loop.prefix_cache


def test_repeated_preemption_equals_uninterrupted(made: Model, alone: dict[Asked, tuple[list[int], int]]) -> None:
    loop = made.new_loop(rows=2)
    aheads = {asked: asked.run(made, AHEAD) for asked in ASKED[1:]}
    for run in aheads.values():
        loop.add(run)
    clicks = []
    for number in range(60):
        if number % 4 == 3 and number < 40:
            clicks.append(ASKED[0].run(made))
            loop.add(clicks[-1])
        loop.step()
        assert all(run.steps > 0 for run in clicks)  # each has a row at once
    to_the_end(loop)
    for run in clicks:
        check(run, alone[ASKED[0]])
    for asked, run in aheads.items():
        check(run, alone[asked])


def test_the_latest_prefetch_is_preempted(made: Model) -> None:
    loop = made.new_loop(rows=3)
    aheads = [asked.run(made, AHEAD) for asked in ASKED[1:3]]
    click, other = ASKED[3].run(made), ASKED[0].run(made)
    for run in (*aheads, click):
        loop.add(run)
    loop.step()
    loop.add(other)
    loop.step()
    assert set(loop.running) == {aheads[0], click, other} and loop.waiting == [aheads[1]]


def test_exclusive_clicks_run_without_prefetches(made: Model, alone: dict[Asked, tuple[list[int], int]]) -> None:
    loop = made.new_loop(rows=4)
    loop.exclusive_clicks = True
    ahead, hurried, click = LONG.run(made, AHEAD), ASKED[1].run(made, AHEAD), ASKED[0].run(made)
    for run in (ahead, hurried):
        loop.add(run)
    loop.step()
    assert loop.running == [ahead, hurried]
    hurried.priority = Priority.CLICK  # somebody has come for it
    loop.add(click)
    while not (hurried.finished and click.finished):
        before = ahead.steps
        loop.step()
        assert ahead not in loop.running and ahead.steps == before
    to_the_end(loop)
    for asked, run in ((LONG, ahead), (ASKED[1], hurried), (ASKED[0], click)):
        check(run, alone[asked])


def test_clicks_do_not_preempt_clicks(made: Model) -> None:
    loop = made.new_loop(rows=1)
    first, second, ahead = LONG.run(made), ASKED[0].run(made), ASKED[0].run(made, AHEAD)
    for run in (first, ahead, second):
        loop.add(run)
    ends = []
    while not loop.idle:
        ends += [run for run in loop.step() if run.finished]
    assert ends == [first, second, ahead]  # the click goes before what came before it


@pytest.mark.parametrize("cache_bytes", [10**8, 0])
def test_prefill_of_a_prefetch_stops_for_a_click(
    made: Model, alone: dict[Asked, tuple[list[int], int]], cache_bytes: int
) -> None:
    loop = made.new_loop(cache_bytes=cache_bytes)
    loop.prefill_tokens = 8
    ahead, click = ASKED[3].run(made, AHEAD), ASKED[0].run(made)
    loop.add(ahead)
    loop.step()
    loop.step()
    assert not loop.running and ahead.num_cached_tokens == 16
    loop.add(click)
    loop.step()
    assert loop.running == [click] and ahead.steps == 0
    assert ahead.num_cached_tokens == (16 if cache_bytes else 0) + 3  # the click has read five of the eight
    to_the_end(loop)
    check(click, alone[ASKED[0]])
    check(ahead, alone[ASKED[3]])
    assert ahead.usage is not None and ahead.usage.cached_tokens == 0  # its own beginning is nobody else's


def test_long_prompts_do_not_delay_others(made: Model, alone: dict[Asked, tuple[list[int], int]]) -> None:
    loop = made.new_loop()
    loop.prefill_tokens = 10
    quick, long = ASKED[2].run(made), ASKED[3].run(made)
    for run in (quick, long):
        loop.add(run)
    while long.steps == 0:
        before = quick.steps, long.num_cached_tokens
        loop.step()
        assert quick.steps == before[0] + (quick.num_cached_tokens >= 23) and long.num_cached_tokens <= before[1] + 10
    assert quick.steps > 3
    to_the_end(loop)
    check(quick, alone[ASKED[2]])
    check(long, alone[ASKED[3]])


def flood(made: Model, loop: DenoisingLoop) -> Iterator[None]:
    """Steps with more clicks than there are rows."""
    while True:
        while sum(run.priority is Priority.CLICK for run in (*loop.waiting, *loop.running)) < 4:
            loop.add(made.run(made.prompt(4), steps=2))
        loop.step()
        yield


def test_without_aging_clicks_always_go_first(made: Model) -> None:
    loop = made.new_loop(rows=2, max_queue_seconds=1e9)
    ahead = ASKED[0].run(made, AHEAD)
    loop.add(ahead)
    for _, _ in zip(range(60), flood(made, loop), strict=False):
        assert ahead.steps == 0


def test_nothing_starves_under_a_flood_of_clicks(made: Model, alone: dict[Asked, tuple[list[int], int]]) -> None:
    loop = made.new_loop(rows=2, max_queue_seconds=0.1)
    aheads = {asked: asked.run(made, AHEAD) for asked in ASKED}
    for run in aheads.values():
        loop.add(run)
    end = time.monotonic() + 20
    for _ in flood(made, loop):
        if all(run.finished for run in aheads.values()):
            break
        assert time.monotonic() < end
    for asked, run in aheads.items():
        check(run, alone[asked])
        assert run.usage is not None and run.usage.queued_seconds > 0.1


def test_running_time_does_not_count_as_waiting(made: Model) -> None:
    """Something ahead that has had its row for long still makes way for a click."""
    loop = made.new_loop(rows=1, max_queue_seconds=0.05)
    ahead, click = LONG.run(made, AHEAD), ASKED[0].run(made)
    loop.add(ahead)
    loop.step()
    time.sleep(0.1)
    loop.add(click)
    loop.step()
    assert loop.running == [click]


def test_cancelled_sequences_are_dropped_after_one_step(made: Model, alone: dict[Asked, tuple[list[int], int]]) -> None:
    loop = made.new_loop(rows=3)
    loop.prefill_tokens = 23
    running = [asked.run(made) for asked in (ASKED[2], LONG)]
    reading, waiting = ASKED[3].run(made), ASKED[0].run(made)
    for run in (*running, reading, waiting):
        loop.add(run)
    while len(loop.running) < 2:
        loop.step()
    loop.step()
    assert 0 < reading.num_cached_tokens < 70 and loop.waiting == [waiting]
    for run in (running[0], reading, waiting):
        run.cancelled = True
    loop.step()
    assert loop.running == [running[1]] and not loop.waiting
    assert not any(run.finished for run in (running[0], reading, waiting))
    steps = running[0].steps
    to_the_end(loop)
    assert running[0].steps == steps and reading.steps == 0
    check(running[1], alone[LONG])


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_rows_move_up_when_one_leaves(made: Model, alone: dict[Asked, tuple[list[int], int]], gone: int) -> None:
    """Those that run, and the one that is being read."""
    loop = made.new_loop()
    three = [asked.run(made) for asked in ASKED[:3]]
    last = ASKED[3].run(made)
    for run in three:
        loop.add(run)
    loop.step()
    loop.prefill_tokens = 30
    loop.add(last)
    loop.step()
    assert loop.running == three and last.num_cached_tokens == 30
    three[gone].cancelled = True
    to_the_end(loop)
    for asked, run in zip(ASKED, (*three, last), strict=True):
        if run is not three[gone]:
            check(run, alone[asked])


def test_a_cancelled_preempted_sequence_frees_everything(made: Model) -> None:
    loop = made.new_loop(rows=1)
    ahead, click = LONG.run(made, AHEAD), ASKED[0].run(made)
    loop.add(ahead)
    loop.step()
    loop.add(click)
    loop.step()
    assert ahead.cache_keys in loop.prefix_cache
    ahead.cancelled = True
    loop.step()
    assert ahead.cache_keys not in loop.prefix_cache and not loop.waiting


def shared(made: Model, ending: int, length: int = 50) -> Sequence:
    """A prompt whose first 40 tokens are the same for all."""
    return made.run((*made.prompt(40), *made.prompt(length - 40, ending)), shared=40, canvases=2, seed=ending)


def test_a_shared_prefix_is_prefilled_once(made: Model) -> None:
    wanted = []
    for ending in (100, 101):
        made.new_loop(cache_bytes=0)
        run = shared(made, ending)
        wanted += made.generate(run)
        assert run.num_reused_tokens == 0
    made.new_loop()
    first, second = shared(made, 100), shared(made, 101)
    assert [*made.generate(first), *made.generate(second)] == wanted
    assert first.usage is not None and second.usage is not None
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, 40)
    assert first.usage.prompt_tokens == second.usage.prompt_tokens == 50


def test_the_prefix_cache_respects_its_limit(made: Model) -> None:
    loop = made.new_loop()
    made.generate(shared(made, 100))
    one = loop.prefix_cache.nbytes
    assert len(loop.prefix_cache) == 1
    loop = made.new_loop(rows=2, cache_bytes=2 * one)
    runs = [made.run((*made.prompt(40, n % 4), *made.prompt(5, n)), shared=40, seed=n) for n in range(8)]
    for number, run in enumerate(runs):
        run.priority = AHEAD if number % 2 else Priority.CLICK
    most = 0
    for _ in loop.generate(runs):
        most = max(most, loop.prefix_cache.nbytes)
        assert loop.prefix_cache.nbytes <= 2 * one
    assert most > one and all(run.usage for run in runs)


def test_a_prefix_can_be_warmed(made: Model) -> None:
    loop = made.new_loop()
    run = shared(made, 100)
    run.warm_only = True
    made.generate(run)
    assert run.steps == 0 and run.num_cached_tokens == 40 and made.prompt(40) in loop.prefix_cache
    again = shared(made, 102, 60)
    again.warm_only = True
    made.generate(again)
    assert again.num_cached_tokens == 40 and len(loop.prefix_cache) == 1
    real = shared(made, 101)
    made.generate(real)
    assert real.num_reused_tokens == 40


def test_a_longer_snapshot_does_not_confuse_warming(made: Model) -> None:
    loop = made.new_loop(rows=1)
    ahead = shared(made, 100)
    ahead.priority = AHEAD
    click = ASKED[0].run(made)
    loop.add(ahead)
    loop.step()
    loop.add(click)
    loop.step()
    warming = shared(made, 100)
    warming.warm_only = True
    loop.prefix_cache.drop(made.prompt(40))
    loop.add(warming)
    to_the_end(loop)
    assert warming.usage is not None and ahead.usage is not None


def test_closing_ends_all_sequences(made: Model) -> None:
    loop = made.new_loop(rows=1)
    runs = [LONG.run(made), ASKED[0].run(made)]
    for run in runs:
        loop.add(run)
    loop.step()
    loop.close()
    assert loop.idle and len(loop.prefix_cache) == 0
    assert all("closed" in str(run.error) for run in runs)
    assert runs[0].error is not runs[1].error
