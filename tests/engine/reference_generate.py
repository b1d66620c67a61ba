"""``generate()`` of transformers with the random numbers of our loop, as a reference for tests and benchmarks.

``generate()`` uses torch's global generator. Here its random numbers are replaced by those of ``random_numbers``, so
both loops must produce the same tokens. Nothing else is changed. While it runs, ``torch.multinomial`` is patched in the
whole process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from unwritten_engine.diffusion import random_numbers as noise
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SamplingParams
from unwritten_engine.diffusion.random_numbers import RequestRandom


class _Noise:
    """Random numbers of several requests, in the order in which ``generate()`` uses them."""

    def __init__(self, seeds: Sequence[int], size: int, vocabulary: int, device: torch.device) -> None:
        self._seeds = torch.tensor(seeds, device=device)
        self._size, self._vocabulary = size, vocabulary
        self.canvas, self.step = -1, 0

    def _place(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._seeds, torch.full_like(self._seeds, self.canvas), torch.full_like(self._seeds, self.step)

    def tokens(self) -> Tensor:
        """Return the initial tokens of a canvas, or the tokens that replace those not accepted."""
        stream = RequestRandom.RENOISE if self.step else RequestRandom.CANVAS
        return noise.random_tokens(*self._place(), stream, self._size, self._vocabulary)

    def choice(self, probabilities: Tensor, num_samples: int) -> Tensor:
        """Replace ``torch.multinomial``: invert the cumulative distribution."""
        chance = noise.uniform(*self._place(), RequestRandom.CHOICE, self._size).view(-1, 1).double()
        passed = torch.cumsum(probabilities.double(), dim=-1)
        return torch.searchsorted(passed, chance * passed[:, -1:], right=True)


@contextmanager
def _drawing(numbers: _Noise) -> Iterator[None]:
    from transformers.models.diffusion_gemma import generation_diffusion_gemma as generation

    mixin: Any = generation.DiffusionGemmaGenerationMixin
    step, prepare = mixin._denoising_step, mixin._prepare_denoiser_inputs

    def stepping(self: Any, **arguments: Any) -> Any:
        numbers.step += 1
        return step(self, **arguments)

    def preparing(self: Any, **arguments: Any) -> Any:
        numbers.canvas, numbers.step = numbers.canvas + 1, 0
        return prepare(self, **arguments)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(mixin, "_denoising_step", stepping))
        stack.enter_context(mock.patch.object(mixin, "_prepare_denoiser_inputs", preparing))
        stack.enter_context(
            mock.patch.object(
                generation.EntropyBoundSampler,
                "initialize_canvas",
                lambda self, batch_size, device: numbers.tokens(),
            )
        )
        stack.enter_context(mock.patch.object(torch, "multinomial", numbers.choice))
        yield


def reference_generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    params: SamplingParams,
    canvases: int,
    *,
    end: int,
    pad: int = 0,
) -> list[list[int]]:
    """Return the tokens of ``generate()`` with the random numbers of our loop.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        prompts: token ids, all of the same length.
        seeds: one per prompt.
        params: how canvases are denoised.
        canvases: maximum number of canvases.
        end: the end token.
        pad: padding after the end token.

    Returns:
        The new tokens of each prompt.
    """
    from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

    device = model.lm_head.weight.device
    size = int(model.config.canvas_length)
    numbers = _Noise(seeds, size, int(model.config.text_config.vocab_size), device)
    with _drawing(numbers):
        found = model.generate(
            torch.tensor([list(prompt) for prompt in prompts], device=device),
            max_new_tokens=canvases * size,
            max_denoising_steps=params.steps,
            sampler_config=EntropyBoundSamplerConfig(params.entropy_bound),
            t_max=params.t_max,
            t_min=params.t_min,
            stability_threshold=params.stability,
            confidence_threshold=params.confidence,
            eos_token_id=end,
            pad_token_id=pad,
        )
    if numbers.canvas < 0 or numbers.step < 1:
        raise RuntimeError("generate() did not use the random numbers: this version of transformers is not supported.")
    return [row[len(prompts[0]) :].tolist() for row in found.sequences]


def until_end(ids: list[int], end: int) -> list[int]:
    """Return the tokens up to and including the first end token. Only ``generate()`` pads after it."""
    return ids[: ids.index(end) + 1] if end in ids else ids
