"""Noise on canvases, as the sampler's own: a token is replaced by one drawn evenly from the whole vocabulary.

Every random number of a step is drawn on the CPU by the run's seed and the number of the step, so that a run that is
resumed goes on as if it had never stopped, and is the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from .packing import PINNED

LEAST: Final = 0.02
"""The lowest level of noise: below it there is hardly anything to learn."""
_STRIDE: Final = 0x9E3779B1
"""Sets the steps of one seed apart from those of its neighbours. A generator's seed has 32 bits that count on a CPU."""


@dataclass(frozen=True, slots=True)
class Noised:
    """Canvases under noise.

    Attributes:
        ids: [N, C] int64.
        levels: [N] float32, the share of tokens that was to be replaced.
        conditioned: [N] bool, which get self-conditioning.
    """

    ids: Tensor
    levels: Tensor
    conditioned: Tensor


def corrupt(canvases: Tensor, kinds: Tensor, vocabulary: int, *, seed: int, step: int, share: float = 0.5) -> Noised:
    """Noise for a training step.

    Levels are spread evenly over the batch (one in each of N equal ranges from ``LEAST`` to 1, in random order): the
    mean loss of a step wavers less than with independent ones. Openings stay as they are, for the engine pins them.

    Args:
        canvases: [N, C] int64 on the CPU.
        kinds: [N, C] uint8, what stands where.
        vocabulary: tokens to draw from.
        seed: of the run.
        step: its number.
        share: of the canvases that get self-conditioning.
    """
    count = len(canvases)
    drawn = torch.Generator().manual_seed((seed * _STRIDE + step) % 2**32)
    ranges = torch.randperm(count, generator=drawn) + torch.rand(count, generator=drawn)
    levels = LEAST + (1 - LEAST) * ranges / count
    conditioned = torch.rand(count, generator=drawn) < share
    return Noised(at_level(canvases, kinds, vocabulary, levels, drawn), levels, conditioned)


def at_level(canvases: Tensor, kinds: Tensor, vocabulary: int, levels: Tensor, drawn: torch.Generator) -> Tensor:
    """[N, C] int64: canvases with the share ``levels`` [N] of their tokens replaced, but for openings."""
    replaced = torch.rand(canvases.shape, generator=drawn) < levels[:, None]
    noise = torch.randint(vocabulary, canvases.shape, generator=drawn)
    return torch.where(replaced & (kinds != PINNED), noise, canvases)
