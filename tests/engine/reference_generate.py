"""``generate()`` of transformers with our noise, to compare with: the slow and obvious path.

``generate()`` draws with torch's global generator. Here its draws are replaced by those of ``noise.py``, so that both
loops must come to the same tokens; nothing else of it is touched. For tests and benchmarks only: while it runs,
``torch.multinomial`` is another function in the whole process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from unwritten_engine.diffusion import random_numbers as noise
from unwritten_engine.diffusion.random_numbers import RequestRandom
from unwritten_engine.diffusion.sampling_params import SamplingParams


class _Noise:
    """The numbers of some requests, in the order in which ``generate()`` asks for them."""

    def __init__(self, seeds: Sequence[int], size: int, vocabulary: int, device: torch.device) -> None:
        self._seeds = torch.tensor(seeds, device=device)
        self._size, self._vocabulary = size, vocabulary
        self.canvas, self.step = -1, 0

    def _place(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._seeds, torch.full_like(self._seeds, self.canvas), torch.full_like(self._seeds, self.step)

    def tokens(self) -> Tensor:
        """What a canvas begins with, and what replaces tokens that are not accepted."""
        stream = RequestRandom.RENOISE if self.step else RequestRandom.CANVAS
        return noise.random_tokens(*self._place(), stream, self._size, self._vocabulary)

    def choice(self, probabilities: Tensor, num_samples: int) -> Tensor:
        """In place of ``torch.multinomial``: by the cumulative distribution."""
        chance = noise.uniform(*self._place(), RequestRandom.CHOICE, self._size).view(-1, 1).double()
        passed = torch.cumsum(probabilities.double(), dim=-1)
        return torch.searchsorted(passed, chance * passed[:, -1:], right=True)


@contextmanager
def _drawing(given: _Noise) -> Iterator[None]:
    from transformers.models.diffusion_gemma import generation_diffusion_gemma as theirs

    mixin: Any = theirs.DiffusionGemmaGenerationMixin
    step, prepare = mixin._denoising_step, mixin._prepare_denoiser_inputs

    def stepping(self: Any, **arguments: Any) -> Any:
        given.step += 1
        return step(self, **arguments)

    def preparing(self: Any, **arguments: Any) -> Any:
        given.canvas, given.step = given.canvas + 1, 0
        return prepare(self, **arguments)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(mixin, "_denoising_step", stepping))
        stack.enter_context(mock.patch.object(mixin, "_prepare_denoiser_inputs", preparing))
        stack.enter_context(
            mock.patch.object(
                theirs.EntropyBoundSampler, "initialize_canvas", lambda self, batch_size, device: given.tokens()
            )
        )
        stack.enter_context(mock.patch.object(torch, "multinomial", given.choice))
        yield


def reference(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    dial: SamplingParams,
    canvases: int,
    *,
    end: int,
    pad: int = 0,
) -> list[list[int]]:
    """What ``generate()`` writes with our noise.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        prompts: token ids, all of one length.
        seeds: one for each.
        dial: how canvases are denoised.
        canvases: how many may be written.
        end: the end token.
        pad: what ``generate()`` puts after it.

    Returns:
        The new tokens of each.
    """
    from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

    device = model.lm_head.weight.device
    size = int(model.config.canvas_length)
    given = _Noise(seeds, size, int(model.config.text_config.vocab_size), device)
    with _drawing(given):
        found = model.generate(
            torch.tensor([list(prompt) for prompt in prompts], device=device),
            max_new_tokens=canvases * size,
            max_denoising_steps=dial.steps,
            sampler_config=EntropyBoundSamplerConfig(dial.entropy_bound),
            t_max=dial.t_max,
            t_min=dial.t_min,
            stability_threshold=dial.stability,
            confidence_threshold=dial.confidence,
            eos_token_id=end,
            pad_token_id=pad,
        )
    if given.canvas < 0 or given.step < 1:
        raise RuntimeError("generate() did not ask for the noise that was given: this version works in another way.")
    return [row[len(prompts[0]) :].tolist() for row in found.sequences]


def until_end(ids: list[int], end: int) -> list[int]:
    """The tokens up to and with the first end token: ``generate()`` pads after it, the loop leaves what was there."""
    return ids[: ids.index(end) + 1] if end in ids else ids
