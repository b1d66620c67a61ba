"""The reverse step of uniform-state diffusion: noise levels, and the tokens of the next level.

At time t, from 1 (all noise) to 0 (text), a token of the text is present with the probability ``signal``; otherwise a
uniformly random token is in its place. The model is given the noise level ``sigma = -log(signal)`` of each token. A
block runs ``steps`` denoising steps down to almost no noise, then a readout.

The posterior of a token at the next level, given the present token and the model's distribution of the text's token,
is a distribution over the whole vocabulary. It is a mixture of three: the present token, the model's distribution, and
the uniform one. So one of three tokens is chosen, and nothing of the size of the vocabulary is computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

EPSILON: Final = 1e-3
"""The smallest time, and 1 minus the slope of the signal."""
READOUT_SIGNAL: Final = math.exp(-0.7)
"""Highest signal in the readout, as published. The model is told of more noise than the schedule has there."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Noise levels of rows, each [B]. Signals are float64, or float32 on a device without it.

    Attributes:
        signal: present signal.
        next_signal: signal after the step.
        sigma: float32, present noise level.
        temperature: float32, divides the logits.
    """

    signal: Tensor
    next_signal: Tensor
    sigma: Tensor
    temperature: Tensor


def levels(step: Tensor, steps: Tensor, rho: Tensor, t_max: Tensor, t_min: Tensor) -> Levels:
    """Return the levels of a step.

    Args:
        step: [B] int64, from 0; at ``steps`` it is the readout.
        steps: [B] int64, denoising steps per block.
        rho: [B] float32, exponent of the time grid.
        t_max: [B] float32, temperature of the first step.
        t_min: [B] float32, temperature of the last step and of the readout.
    """
    wide = torch.float64 if step.device.type != "mps" else torch.float32
    readout = step >= steps
    exponent = rho.to(wide)

    def signal(at: Tensor) -> Tensor:
        left = (1 - at.to(wide) / steps).clamp(min=0.0)
        return 1 - (1 - EPSILON) * (EPSILON + (1 - EPSILON) * left**exponent)

    present = torch.where(readout, signal(steps).clamp(max=READOUT_SIGNAL), signal(step))
    cooled = torch.where(readout, 1.0, step / (steps - 1).clamp(min=1))
    return Levels(
        signal=present,
        next_signal=torch.where(readout, 1.0, signal(step + 1)),
        sigma=-torch.log(present).to(torch.float32),
        temperature=torch.lerp(t_max, t_min, cooled),
    )


def first_step(strength: float, steps: int, rho: float) -> int:
    """Return the first step whose time is at most ``strength``; ``steps``, the readout, if no other is."""
    for step in range(steps):
        if EPSILON + (1 - EPSILON) * (1 - step / steps) ** rho <= strength:
            return step
    return steps


def mixture_weights(probability: Tensor, signal: Tensor, next_signal: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return the probabilities of keeping the present token, and of taking one of the model's distribution.

    Otherwise a uniformly random token is taken. Each of the three may be the present token.

    Args:
        probability: of the present token in the model's distribution.
        signal: present signal.
        next_signal: signal after the step; 1 in the readout, which leaves no noise.
        vocabulary: number of tokens.
    """
    evidence = signal * vocabulary * probability
    total = evidence + (1 - signal)
    return (evidence + (signal / next_signal - signal)) / total, (next_signal - signal) / total


def choose(
    tokens: tuple[Tensor, Tensor, Tensor], chance: Tensor, probability: Tensor, at: Levels, vocabulary: int
) -> Tensor:
    """Choose the tokens of the next level, [B, block] int64.

    Args:
        tokens: present, sampled and uniformly random tokens, each [B, block].
        chance: [B, block] in [0, 1), chooses among the three.
        probability: [B, block], of the present tokens in the model's distribution.
        at: levels of the rows.
        vocabulary: number of tokens.
    """
    present, sampled, random = tokens
    wide = at.signal.dtype
    keep, take = mixture_weights(probability.to(wide), at.signal[:, None], at.next_signal[:, None], vocabulary)
    return torch.where(chance < keep, present, torch.where(chance < keep + take, sampled, random))
