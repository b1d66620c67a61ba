"""The reverse step against its definition over the whole vocabulary, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unwritten_engine.diffusion.lfm2.posterior import Levels, choose, first_step, levels, mixture_weights
from unwritten_engine.diffusion.lfm2.sampling_params import PRESETS, SamplingParams

VOCABULARY = 40


def grid(params: SamplingParams) -> Levels:
    """All steps of a block, with the readout."""

    def column(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.full((params.steps + 1,), value, dtype=dtype)

    step = torch.arange(params.steps + 1)
    rho = column(params.rho, torch.float64)
    return levels(step, torch.full_like(step, params.steps), rho, column(params.t_max), column(params.t_min))


def posterior(belief: Tensor, present: Tensor, signal: Tensor, next_signal: Tensor) -> Tensor:
    """Return the distribution of the next token by Bayes' rule, [N, vocabulary].

    For each token x of the text, the next token z is x with the next signal, else uniform. The present token is z with
    the quotient of the signals, else uniform.
    """
    same = torch.eye(VOCABULARY, dtype=torch.float64)
    kept = (signal / next_signal)[:, None]
    forward = next_signal[:, None, None] * same + (1 - next_signal)[:, None, None] / VOCABULARY  # [N, x, z]
    evidence = kept * same[present] + (1 - kept) / VOCABULARY  # [N, z], of the present token
    weight = (belief[:, None] @ forward)[:, 0] * evidence
    return weight / weight.sum(-1, keepdim=True)


def mixture(belief: Tensor, present: Tensor, signal: Tensor, next_signal: Tensor) -> Tensor:
    """Return the distribution of what is chosen of the three tokens, [N, vocabulary]."""
    probability = belief.gather(1, present[:, None])[:, 0]
    keep, take = mixture_weights(probability, signal, next_signal, VOCABULARY)
    assert (keep >= 0).all() and (take >= 0).all() and (1 - keep - take >= -1e-12).all()
    one_hot = torch.eye(VOCABULARY, dtype=torch.float64)[present]
    return keep[:, None] * one_hot + take[:, None] * belief + (1 - keep - take)[:, None] / VOCABULARY


def beliefs(count: int) -> tuple[Tensor, Tensor]:
    """Return distributions from flat to certain, and present tokens; some have almost all or no probability."""
    made = torch.Generator().manual_seed(0)
    spread = torch.logspace(-2, 2, count, dtype=torch.float64)[:, None]
    belief = (torch.randn(count, VOCABULARY, generator=made, dtype=torch.float64) * spread).softmax(-1)
    present = torch.randint(VOCABULARY, (count,), generator=made)
    present[::5] = belief[::5].argmax(-1)
    present[1::5] = belief[1::5].argmin(-1)
    belief[-1] = torch.eye(VOCABULARY)[3]
    belief[-2] = torch.eye(VOCABULARY)[4]
    present[-2:] = 3
    return belief, present


@pytest.mark.parametrize("params", PRESETS)
def test_the_mixture_is_the_posterior(params: SamplingParams) -> None:
    belief, present = beliefs(400)
    assert belief.gather(1, present[:, None]).max() == 1 and belief.gather(1, present[:, None]).min() == 0
    at = grid(params)
    for signal, next_signal in zip(at.signal, at.next_signal, strict=True):
        given = (belief, present, signal.expand(400), next_signal.expand(400))
        torch.testing.assert_close(mixture(*given), posterior(*given), atol=1e-12, rtol=0)


def test_any_two_levels_have_this_mixture() -> None:
    belief, present = beliefs(400)
    signals = torch.rand(2, 400, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    signal, next_signal = signals.sort(dim=0).values
    given = (belief, present, signal, next_signal)
    torch.testing.assert_close(mixture(*given), posterior(*given), atol=1e-12, rtol=0)


def test_the_readout_leaves_no_noise() -> None:
    at = grid(SamplingParams())
    assert at.next_signal[-1] == 1
    keep, take = mixture_weights(torch.tensor([0.0, 0.5, 1.0]).double(), at.signal[-1:], at.next_signal[-1:], 64_400)
    torch.testing.assert_close(keep + take, torch.ones(3, dtype=torch.float64), atol=1e-15, rtol=0)
    assert keep[0] == 0 and take[0] == 1 and keep[1] > 0.999


@pytest.mark.parametrize("step", [0, 3, 7, 8])
def test_tokens_are_chosen_with_their_frequency(step: int) -> None:
    count = 200_000
    belief = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1), dtype=torch.float64).mul(2).softmax(-1)
    whole = grid(SamplingParams())
    at = Levels(*(part[step : step + 1] for part in (whole.signal, whole.next_signal, whole.sigma, whole.temperature)))
    made = torch.Generator().manual_seed(step)
    present = torch.full((1, count), 7)
    sampled = torch.multinomial(belief, count, replacement=True, generator=made)[None]
    random = torch.randint(VOCABULARY, (1, count), generator=made)
    chance = torch.rand(1, count, generator=made)
    chosen = choose((present, sampled, random), chance, belief[present], at, VOCABULARY)
    expected = posterior(belief[None], present[:, 0], at.signal, at.next_signal)[0] * count
    counts = torch.bincount(chosen[0], minlength=VOCABULARY).double()
    large = expected > 5
    statistic = float(((counts - expected)[large] ** 2 / expected[large]).sum())
    free = int(large.sum()) - 1
    assert abs(statistic - free) < 4 * (2 * free) ** 0.5
    assert counts[~large].sum() < 5 * expected[~large].sum() + 10


def test_the_grid_of_8_steps() -> None:
    at = grid(SamplingParams())
    times = [0.001 + 0.999 * (1 - step / 8) ** 0.3 for step in range(9)]
    signals = [1 - 0.999 * time for time in times]
    assert at.signal[:8].tolist() == pytest.approx(signals[:8], abs=1e-12)
    assert at.next_signal[:8].tolist() == pytest.approx(signals[1:], abs=1e-12)
    assert at.signal[0] == pytest.approx(0.001, abs=1e-12) and at.next_signal[7] == pytest.approx(0.999001)
    assert at.signal[8] == pytest.approx(math.exp(-0.7)) and at.sigma[8] == pytest.approx(0.7)
    assert at.sigma[0] == pytest.approx(-math.log(0.001), rel=1e-6) and at.sigma.dtype == torch.float32
    torch.testing.assert_close(at.temperature, torch.tensor([*(0.8 - 0.4 * step / 7 for step in range(8)), 0.4]))


def test_the_presets_differ_in_their_grids() -> None:
    four, _, many = (grid(params) for params in PRESETS)
    assert four.signal[2] == pytest.approx(1 - 0.999 * (0.001 + 0.999 * 0.5**0.2))
    assert four.temperature.tolist() == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.5])
    assert many.signal[16] == pytest.approx(1 - 0.999 * (0.001 + 0.999 * 0.5**0.3))
    assert len(many.signal) == 33 and many.temperature[31] == pytest.approx(0.4)


def test_rows_may_be_at_different_steps() -> None:
    """And a row that has finished, or never began, has finite levels."""
    step, steps = torch.tensor([0, 3, 4, 5, 1]), torch.tensor([8, 8, 4, 4, 1])
    numbers = torch.tensor([0.3, 0.3, 0.2, 0.2, 0.3]), torch.full((5,), 0.8), torch.full((5,), 0.4)
    together = levels(step, steps, *numbers)
    for row in range(5):
        one = slice(row, row + 1)
        alone = levels(step[one], steps[one], *(number[one] for number in numbers))
        for name in ("signal", "next_signal", "sigma", "temperature"):
            assert torch.equal(getattr(together, name)[one], getattr(alone, name))
            assert getattr(alone, name).isfinite().all()
    single = levels(torch.tensor([0]), torch.tensor([1]), *(number[:1] for number in numbers))
    assert single.temperature == pytest.approx(0.8) and single.signal == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("strength", "step"), [(1.0, 0), (0.99, 1), (0.95, 2), (0.8, 5), (0.6, 7), (0.5, 8), (0.1, 8), (0.0, 8)]
)
def test_an_edit_starts_at_its_noise(strength: float, step: int) -> None:
    assert first_step(strength, 8, 0.3) == step
    time = (1 - float(grid(SamplingParams()).signal[step])) / 0.999
    assert time <= strength or step == 8
