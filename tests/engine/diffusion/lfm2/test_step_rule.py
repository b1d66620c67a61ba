"""The step rule in the shared runner: pins, constraints, edits, rows at different steps, and rows that are moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.engine.diffusion.lfm2.small_models import BLOCK, VOCABULARY, new_model, prefill, random_ids
from torch import Tensor

from unwritten_engine.diffusion.lfm2.sampling_params import PRESETS, SamplingParams
from unwritten_engine.diffusion.lfm2.step_rule import PosteriorRule
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.tokenization.canvas_plan import BlockInit

PROMPT = 6
DIGITS = bytes(40) + bytes([1] * 10)
"""A mask that allows the tokens 40 to 49."""


def new_runner(rows: int = 3) -> ModelRunner:
    """Return a runner whose rows hold different prompts of the same length."""
    model = new_model(rows=rows)
    for row in range(rows):
        prefill(model, row, random_ids(PROMPT, row))
    return ModelRunner(model, PosteriorRule(model))


def begin(runner: ModelRunner, row: int, params: SamplingParams, *, seed: int = 5, **options: Any) -> int:
    """Start a block and return its steps."""
    return runner.begin_block(row, seed=seed, length=PROMPT, params=params, block=BlockInit(0, **options))


def steps(runner: ModelRunner, count: int, number: int, *, constrained: bool = False) -> list[Tensor]:
    """Run steps and return the tokens after each, [number, count, block]."""
    seen = []
    for _ in range(number):
        runner.step(count, PROMPT, equal_lengths=True, constrained=constrained)
        seen.append(runner.tokens[:count].clone())
    return seen


@pytest.mark.parametrize("params", PRESETS)
def test_a_block_takes_its_steps_and_a_readout(params: SamplingParams) -> None:
    runner = new_runner(1)
    assert begin(runner, 0, params) == params.steps + 1
    steps(runner, 1, params.steps)
    assert runner.fetch(1).finished == [False] and runner.fetch(1).steps_left == [1]
    steps(runner, 1, 1)
    output = runner.fetch(1)
    assert output.finished == [True]
    assert output.best == runner.tokens[:1].tolist()  # the text is what was drawn
    assert min(output.best[0]) >= 0 and max(output.best[0]) < VOCABULARY


def test_drafts_show_the_most_likely_tokens() -> None:
    runner = new_runner(1)
    begin(runner, 0, SamplingParams())
    differ = 0
    for _ in range(8):
        tokens = steps(runner, 1, 1)[0]
        differ += int((runner.best[:1] != tokens).sum())
    assert differ > 0


def test_rows_at_different_steps_do_not_influence_each_other() -> None:
    alone = []
    for row, params in enumerate(PRESETS):
        runner = new_runner()
        begin(runner, row, params, seed=row)
        steps(runner, row + 1, 12)
        alone.append((runner.tokens[row].clone(), runner.best[row].clone(), int(runner.steps_left[row])))
    runner = new_runner()
    begin(runner, 0, PRESETS[0], seed=0)
    begin(runner, 1, PRESETS[1], seed=1)
    steps(runner, 2, 3)
    begin(runner, 2, PRESETS[2], seed=2)  # three steps behind
    steps(runner, 3, 12)
    for row in range(3):
        tokens, best, left = alone[row]
        assert torch.equal(runner.tokens[row], tokens) and torch.equal(runner.best[row], best)
        assert runner.steps_left[row] == left


def test_a_preempted_block_continues_as_if_undisturbed() -> None:
    undisturbed = new_runner()
    begin(undisturbed, 0, SamplingParams())
    steps(undisturbed, 1, 9)
    runner = new_runner()
    begin(runner, 0, SamplingParams())
    steps(runner, 1, 4)
    saved = runner.save(0)
    begin(runner, 0, PRESETS[2], seed=9)
    steps(runner, 1, 2)
    runner.load(0, saved)
    steps(runner, 1, 5)
    assert torch.equal(runner.tokens[0], undisturbed.tokens[0]) and bool(runner.finished[0])


def test_pins_are_clean_and_never_change(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = new_runner(1)
    seen: list[Tensor] = []
    denoise = runner.model.denoise  # type: ignore[attr-defined]

    def watched(tokens: Tensor, soft: Tensor, has_soft: Tensor, sigma: Tensor, *rest: Any) -> Tensor:
        seen.append(sigma.clone())
        return denoise(tokens, soft, has_soft, sigma, *rest)  # type: ignore[no-any-return]

    monkeypatch.setattr(runner.model, "denoise", watched)
    pins = [7, -1, VOCABULARY + 5, -1, -1, -1, -1, 9]  # one is not a token that the model writes
    begin(runner, 0, SamplingParams(), pins=pins)
    for tokens in steps(runner, 1, 9):
        assert [tokens[0, at] for at in (0, 2, 7)] == [7, VOCABULARY + 5, 9]
        assert not any(runner.fetch(1).unsettled[0][at] for at in (0, 2, 7))
    levels = torch.cat(seen)
    fixed = torch.tensor(pins) >= 0
    assert (levels[:, fixed] == 0).all() and (levels[:, ~fixed] > 0).all()
    assert levels[0, 1] == pytest.approx(6.9078, abs=1e-3) and levels[-1, 1] == pytest.approx(0.7)


def test_the_first_step_has_no_self_conditioning() -> None:
    runner = new_runner(2)
    started = runner.rule.started  # type: ignore[attr-defined]
    begin(runner, 0, SamplingParams())
    assert started.tolist() == [False, False]
    steps(runner, 1, 1)
    assert started.tolist() == [True, False]
    begin(runner, 0, SamplingParams())
    assert not started[0]


@pytest.mark.parametrize("seed", range(4))
def test_constraints_hold_in_drafts_and_in_the_text(seed: int) -> None:
    runner = new_runner(1)
    digits = runner.masks.register(DIGITS)
    begin(runner, 0, SamplingParams(), seed=seed, mask_ids=[digits, 0, digits, 0, digits, 0, digits, 0])
    first = runner.tokens[0].clone()
    for tokens in steps(runner, 1, 9, constrained=True):
        best, bound = runner.best[0, ::2], tokens[0, ::2]
        assert ((best >= 40) & (best < 50)).all()
        changed = bound != first[::2]  # the first random tokens may stay for a while
        assert ((bound >= 40) & (bound < 50))[changed].all()
    assert all(40 <= token < 50 for token in runner.fetch(1).best[0][::2])


def draft(strength: float, text: Sequence[int]) -> tuple[int, list[int], list[int]]:
    """Return the steps of an edit, its first tokens, and its text."""
    runner = new_runner(1)
    number = begin(runner, 0, SamplingParams(), initial=text, strength=strength)
    first = runner.tokens[0].tolist()
    steps(runner, 1, number)
    assert runner.fetch(1).finished == [True]
    return number, first, runner.fetch(1).best[0]


def test_an_edit_starts_at_its_noise_level() -> None:
    text = random_ids(BLOCK, 8).tolist()
    assert [draft(strength, text)[0] for strength in (0.0, 0.5, 0.6, 0.8, 0.95, 1.0)] == [1, 1, 2, 4, 7, 9]
    assert draft(0.0, text)[1] == text and draft(1.0, text)[1] != text


def test_a_failed_pass_is_reported() -> None:
    runner = new_runner(1)
    begin(runner, 0, SamplingParams(1))
    runner.model._model.embedding_norm.weight.data = torch.full((32,), torch.nan)  # type: ignore[attr-defined]
    for _ in range(2):
        steps(runner, 1, 1)
        assert runner.fetch(1).best == [[-1] * BLOCK]
