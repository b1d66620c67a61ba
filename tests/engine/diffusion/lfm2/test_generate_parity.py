"""Whole generations, token for token, against the publisher's sampler for the same random numbers.

The publisher's code is not part of this repository. Set ``LFM_DIFFUSION`` to a folder with its ``lfm_diffusion``
package to run this comparison, and ``LFM_DIFFUSION_SEEDS`` to the number of generations per preset.

That sampler draws one number per token of the vocabulary; ours draws three per position. So its noise is set such that
it chooses what our three numbers choose. For that, the distribution that it hands to the generator is taken apart into
the present token, the model's distribution and the uniform one.
"""

from __future__ import annotations

import importlib
import math
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.engine.diffusion.lfm2.reference_model import ReferenceModel
from tests.engine.diffusion.lfm2.small_models import (
    BLOCK,
    CONTEXT,
    CPU,
    SIZES,
    VOCABULARY,
    prefill,
    random_ids,
    small_config,
)
from torch import Tensor

from unwritten_engine.diffusion.lfm2.cache import Lfm2Cache
from unwritten_engine.diffusion.lfm2.layers import Lfm2DiffusionModel, Lfm2Model
from unwritten_engine.diffusion.lfm2.random_model import random_config, random_weights
from unwritten_engine.diffusion.lfm2.sampling_params import PRESETS, SamplingParams
from unwritten_engine.diffusion.lfm2.step_rule import PosteriorRule
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.random_numbers import RequestRandom, random_tokens, uniform
from unwritten_engine.diffusion.token_chunk import TokenChunk
from unwritten_engine.diffusion.tokenization.canvas_plan import BlockInit

FOLDER = os.environ.get("LFM_DIFFUSION")
SEEDS = range(int(os.environ.get("LFM_DIFFUSION_SEEDS", "2")))
BLOCKS = 4

pytestmark = pytest.mark.skipif(not FOLDER, reason="LFM_DIFFUSION is not set to a folder with the publisher's code")


@pytest.fixture(scope="module")
def publisher() -> Iterator[ModuleType]:
    """Return the publisher's sampler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("lfm_diffusion.sampler")


class SameNoise:
    """Stands in for torch's generator in the publisher's sampler.

    Args:
        seed: of the request.
        params: sampling parameters.
    """

    def __init__(self, seed: int, params: SamplingParams) -> None:
        self.seed, self.params = torch.tensor([seed]), params
        self.block, self.step = -1, 0
        self.tokens = torch.zeros(0, dtype=torch.int64)
        self.kinds: Counter[str] = Counter()
        """How often each of the three tokens was chosen."""

    def randint(self, low: int, high: int, size: tuple[int, int], device: Any = None) -> Tensor:
        """Return the first tokens of a block."""
        self.block, self.step = self.block + 1, 0
        found = random_tokens(*self._coordinates(), RequestRandom.CANVAS, size[1], high)
        self.tokens = found[0]
        return found

    def rand_like(self, posterior: Tensor) -> Tensor:
        """Return noise with which the publisher's sampler chooses the token that our three numbers choose."""
        self.step += 1
        count, vocabulary = posterior.shape[1:]
        signal, next_signal = self._signals()
        keep, take, belief = self._parts(posterior[0], signal, next_signal)
        chance, place = (
            uniform(*self._coordinates(), stream, count)[0].double()
            for stream in (RequestRandom.MIXTURE, RequestRandom.CHOICE)
        )
        random = random_tokens(*self._coordinates(), RequestRandom.RENOISE, count, vocabulary)[0]
        passed = belief.cumsum(-1)
        sampled = torch.searchsorted(passed, place[:, None] * passed[:, -1:], right=True)[:, 0]
        self.tokens = torch.where(chance < keep, self.tokens, torch.where(chance < keep + take, sampled, random))
        kinds = torch.where(chance < keep, 0, torch.where(chance < keep + take, 1, 2)).tolist()
        self.kinds.update(("kept", "sampled", "random")[kind] for kind in kinds)
        noise = torch.zeros_like(posterior)
        noise[0, torch.arange(count), self.tokens] = 1 - 1e-9
        return noise

    def _coordinates(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.seed, torch.tensor([self.block]), torch.tensor([self.step])

    def _signals(self) -> tuple[float, float]:
        def signal(step: int) -> float:
            return 1 - 0.999 * (0.001 + 0.999 * math.pow(1 - step / self.params.steps, self.params.rho))

        if self.step > self.params.steps:
            return min(signal(self.params.steps), 2.718281828459045**-0.7), 1.0
        return signal(self.step - 1), signal(self.step)

    def _parts(self, posterior: Tensor, signal: float, next_signal: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the share of the present token, that of the belief, and the belief, of a posterior [N, vocabulary].

        At the present token, the posterior is (V signal p + signal / next - signal + (next - signal) p + rest / V) /
        (V signal p + 1 - signal), which gives p; with p, the other places give the rest of the belief.
        """
        vocabulary = posterior.shape[1]
        quotient, step = signal / next_signal, next_signal - signal
        rest = (1 - quotient) * (1 - next_signal)
        here = posterior.gather(1, self.tokens[:, None])[:, 0]
        slope = signal * vocabulary
        present = (quotient - signal + rest / vocabulary - here * (1 - signal)) / (here * slope - slope - step)
        present = present.clamp(0, 1)
        total = slope * present + 1 - signal
        belief = ((posterior * total[:, None] - rest / vocabulary) / step).clamp(min=0)
        belief.scatter_(1, self.tokens[:, None], present[:, None])
        assert (belief.sum(-1) - 1).abs().max() < 1e-4
        return (slope * present + quotient - signal) / total, step / total, belief


@cache
def weights(dtype: torch.dtype) -> dict[str, Tensor]:
    """Return weights of a model that is less certain, so that it often changes its tokens."""
    found = random_weights(small_config(), branch=0.4, dtype=dtype)
    return {name: value * 0.1 if name == "model.embedding_norm.weight" else value for name, value in found.items()}


@cache
def reference(dtype: torch.dtype) -> ReferenceModel:
    """Return the plain model, which the publisher's sampler runs."""
    return ReferenceModel(random_config(**SIZES), weights(dtype))


def ours(prompt: Tensor, params: SamplingParams, seed: int, end: int, dtype: torch.dtype) -> list[list[int]]:
    """Return the blocks of a generation by this engine."""
    with torch.device("meta"):
        module = Lfm2Model(small_config())
    module.load_state_dict({name.removeprefix("model."): value for name, value in weights(dtype).items()}, assign=True)
    cache = Lfm2Cache(small_config(), rows=1, context=CONTEXT, device=CPU, dtype=dtype)
    model = Lfm2DiffusionModel(module.eval().requires_grad_(False), cache)
    runner = ModelRunner(model, PosteriorRule(model))
    prefill(model, 0, prompt)
    length, blocks = len(prompt), []
    for number in range(BLOCKS):
        for _ in range(runner.begin_block(0, seed=seed, length=length, params=params, block=BlockInit(number))):
            runner.step(1, length, equal_lengths=True, constrained=False)
        output = runner.fetch(1)
        assert output.finished == [True]
        blocks.append(output.best[0])
        if end in blocks[-1]:
            break
        model.encode(TokenChunk(0, length, torch.tensor(blocks[-1])))
        length += BLOCK
    return blocks


@pytest.mark.parametrize("params", PRESETS, ids=lambda params: f"{params.steps} steps")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_token_is_that_of_the_publisher(
    publisher: ModuleType, monkeypatch: pytest.MonkeyPatch, params: SamplingParams, dtype: torch.dtype, seed: int
) -> None:
    prompt, end = random_ids(3 + 5 * seed % 40, seed), VOCABULARY - 1 - seed
    noise = SameNoise(seed, params)
    monkeypatch.setattr(torch, "randint", noise.randint)
    monkeypatch.setattr(torch, "rand_like", noise.rand_like)
    config = {"steps_per_block": params.steps, "block_size": BLOCK, "rho": params.rho, "temp_end": params.t_min}
    wanted = publisher.generate_ids(
        reference(dtype), prompt.tolist(), config, max_new_tokens=BLOCKS * BLOCK, eos_token_id=end
    )
    monkeypatch.undo()
    blocks = ours(prompt, params, seed, end, dtype)
    found = [token for block in blocks for token in block]
    assert (found[: found.index(end)] if end in found else found) == wanted
    assert len(blocks) == noise.block + 1
    assert min(noise.kinds[kind] for kind in ("kept", "sampled", "random")) > 0
