"""Steps that start before the last one is read, and prompts that are prefilled together: results stay the same."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tests.engine.reference_generate import until_end
from tests.support.diffusion_models import END, Model

from unwritten_engine.diffusion.diffusion_gemma.layers import DiffusionGemmaLayers
from unwritten_engine.diffusion.model_runner import ModelRunner, StepOutput, StepResults
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.diffusion.token_chunk import TokenChunk
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import TokenizedPrompt
from unwritten_engine.frames import Priority

CASES = ((5, 1, 1, 4), (40, 2, 3, 7), (23, 3, 2, 10), (70, 4, 2, 6))
"""Length of the prompt, seed, canvases and steps."""


@pytest.fixture(scope="module")
def made() -> Model:
    return Model(vocabulary=1024, hidden=32, layers=3, canvas=16, window=24, branch=0.5)


def ask(made: Model, number: int, priority: Priority = Priority.CLICK) -> Sequence:
    length, seed, canvases, steps = CASES[number]
    return made.run(
        made.prompt(length, seed), seed=seed, canvases=canvases, steps=steps, entropy_bound=3.0, priority=priority
    )


@pytest.fixture(scope="module")
def alone(made: Model) -> list[tuple[list[int], int]]:
    found = []
    for number in range(len(CASES)):
        made.new_loop()
        run = ask(made, number)
        found.append((made.generate(run)[0], run.steps))
    return found


class Logged(ModelRunner):
    """Records in which order steps start and are read."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.events: list[str] = []

    def step(self, *given: Any, **named: Any) -> None:
        self.events.append("start")
        super().step(*given, **named)

    def send(self, count: int) -> StepResults:
        runner = self

        class Told(StepResults):
            def wait(self) -> StepOutput:
                runner.events.append("read")
                return super().wait()

        return Told(self.packed[:count], None)


def test_a_step_starts_before_the_last_one_is_read(made: Model) -> None:
    made.new_loop(batch=Logged, run_ahead=True)
    made.generate(made.run(made.prompt(9), steps=4, confidence=1e-9))  # there is no fifth step
    assert isinstance(made.batch, Logged)
    assert made.batch.events == [
        "start",
        "start",
        "read",
        "start",
        "read",
        "start",
        "read",
        "read",
    ]  # there is no fifth


def test_steps_run_ahead_while_clicks_wait_for_a_row(made: Model) -> None:
    loop = made.new_loop(batch=Logged, rows=1, run_ahead=True)
    for seed in (1, 2):
        loop.add(made.run(made.prompt(9, seed), seed=seed, steps=4, confidence=1e-9))
    for _ in range(3):
        loop.step()
    assert isinstance(made.batch, Logged) and len(loop.waiting) == 1
    assert made.batch.events == ["start", "start", "read", "start", "read"]


@pytest.mark.parametrize("seed", range(12))
def test_any_course_of_events_equals_running_alone(made: Model, alone: list[tuple[list[int], int]], seed: int) -> None:
    """Requests join, are cancelled, preempted and prefilled in pieces, in an order that chance decides."""
    chance = random.Random(seed)
    loop = made.new_loop(rows=chance.choice((1, 2, 3)), run_ahead=True)
    loop.prefill_tokens = chance.choice((7, 30, 512))
    runs: list[tuple[int, Sequence]] = []
    for _ in range(10):
        number = chance.randrange(len(CASES))
        runs.append((number, ask(made, number, chance.choice((Priority.CLICK, Priority.PREFETCH)))))
        loop.add(runs[-1][1])
        for _ in range(chance.randrange(5)):
            loop.step()
        if chance.random() < 0.2:
            chance.choice(runs)[1].cancelled = True
    for _ in range(400):
        if not loop.idle:
            loop.step()
    assert loop.idle
    for number, run in runs:
        assert run.error is None
        if run.usage is None:
            assert run.cancelled
        else:
            assert (until_end(run.output_ids, END), run.steps) == alone[number]


class Broken(ModelRunner):
    """Fails when its results are read, as a GPU does after an illegal access."""

    fail_at = -1

    def send(self, count: int) -> StepResults:
        self.fail_at -= 1
        results = super().send(count)
        if self.fail_at == 0:

            class Failing(StepResults):
                def wait(self) -> StepOutput:
                    raise RuntimeError("CUDA error: an illegal memory access")

            return Failing(self.packed[:count], None)
        return results


def test_a_failure_that_is_only_seen_later_fails_running_requests(
    made: Model, alone: list[tuple[list[int], int]]
) -> None:
    loop = made.new_loop(batch=Broken, run_ahead=True)
    assert isinstance(made.batch, Broken)
    made.batch.fail_at = 3
    runs = [ask(made, number) for number in (1, 2)]
    for run in runs:
        loop.add(run)
    for _ in range(20):
        loop.step()
    assert loop.idle and all("in a denoising step: CUDA error" in str(run.error) for run in runs)
    assert made.generate(ask(made, 3)) == [alone[3][0]]


@pytest.mark.parametrize("run_ahead", [False, True])
def test_values_that_are_not_numbers_fail_one_request(
    made: Model, alone: list[tuple[list[int], int]], run_ahead: bool
) -> None:
    class Poisoned(DiffusionGemmaLayers):
        def decode(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            hidden = super().decode(*args, **kwargs)
            hidden[:1] = torch.nan
            return hidden

    loop = made.new_loop(body=Poisoned, run_ahead=run_ahead)
    runs = [ask(made, number) for number in (3, 1)]
    for run in runs:
        loop.add(run)
    for _ in range(3):
        loop.step()
    assert "not numbers (NaN)" in str(runs[0].error)
    assert runs[1].error is None or "not numbers (NaN)" in str(runs[1].error)  # it moved into the first row
    assert not any(run.usage for run in runs)


class Counted(DiffusionGemmaLayers):
    """Records the passes of the encoder: the row and the number of tokens of each chunk."""

    passes: list[list[tuple[int, int]]]

    def encode(self, *chunks: TokenChunk) -> None:
        self.passes.append([(chunk.row, len(chunk.ids)) for chunk in chunks])
        super().encode(*chunks)


def page(made: Model) -> list[Sequence]:
    """Four requests that share their first 40 tokens."""
    runs = []
    for number in range(4):
        ids = made.prompt(40) + made.prompt(5 + 4 * number, number)
        run = made.run(ids, seed=number, steps=5)
        run.prompt = TokenizedPrompt(ids, ids, 40)
        runs.append(run)
    return runs


def test_the_prompts_of_a_page_are_prefilled_together(made: Model) -> None:
    wanted = []
    for run in page(made):
        made.new_loop()
        wanted += made.generate(run)
    Counted.passes = []
    made.new_loop(body=Counted)
    assert made.generate(*page(made)) == wanted
    assert Counted.passes == [[(0, 40)], [(0, 5), (1, 9), (2, 13), (3, 17)]]


def test_prompts_are_prefilled_within_the_limit_of_a_step(made: Model) -> None:
    Counted.passes = []
    loop = made.new_loop(body=Counted)
    loop.prefill_tokens = 25
    runs = [made.run(made.prompt(length, length), steps=3) for length in (10, 30, 8)]
    for run in runs:
        loop.add(run)
    loop.step()
    assert Counted.passes == [[(0, 10), (1, 15)]] and loop.running == runs[:1]
    loop.step()
    assert Counted.passes[1:] == [[(1, 15), (2, 8)]] and loop.running == runs


@pytest.mark.parametrize("failed", [0, 1, 2, 3])
def test_a_prompt_that_fails_does_not_affect_those_beside_it(made: Model, failed: int) -> None:
    class Failing(DiffusionGemmaLayers):
        def encode(self, *chunks: TokenChunk) -> None:
            if any(len(chunk.ids) == 5 + 4 * failed for chunk in chunks):
                raise RuntimeError("a broken kernel")
            super().encode(*chunks)

    made.new_loop()
    wanted = made.generate(*page(made))
    loop, runs = made.new_loop(body=Failing), page(made)
    for run in runs:
        loop.add(run)
    while not loop.idle:
        loop.step()
    for number, run in enumerate(runs):
        if number == failed:
            assert "a broken kernel" in str(run.error)
        else:
            assert until_end(run.output_ids, END) == wanted[number]
