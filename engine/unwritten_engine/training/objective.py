"""Noise on canvases, as the sampler's own: a token is replaced by one drawn evenly from the whole vocabulary.

Every random number of a step is drawn on the CPU by the run's seed and the number of the step, so that a run that is
resumed goes on as if it had never stopped, and is the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from .packing import END, PAD, PINNED, TEXT

MIN_NOISE: Final = 0.02
"""The lowest level of noise: below it there is hardly anything to learn."""
_STRIDE: Final = 0x9E3779B1
"""Sets the steps of one seed apart from those of its neighbours. A generator's seed has 32 bits that count on a CPU."""


@dataclass(frozen=True, slots=True)
class NoisyCanvases:
    """Canvases under noise.

    Attributes:
        ids: [N, C] int64.
        levels: [N] float32, the share of tokens that was to be replaced.
        conditioned: [N] bool, which get self-conditioning.
    """

    ids: Tensor
    levels: Tensor
    conditioned: Tensor


def add_noise(
    canvases: Tensor, kinds: Tensor, vocabulary: int, *, seed: int, step: int, share: float = 0.5
) -> NoisyCanvases:
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
    levels = MIN_NOISE + (1 - MIN_NOISE) * ranges / count
    conditioned = torch.rand(count, generator=drawn) < share
    return NoisyCanvases(add_noise_at_level(canvases, kinds, vocabulary, levels, drawn), levels, conditioned)


def add_noise_at_level(
    canvases: Tensor, kinds: Tensor, vocabulary: int, levels: Tensor, drawn: torch.Generator
) -> Tensor:
    """[N, C] int64: canvases with the share ``levels`` [N] of their tokens replaced, but for openings."""
    replaced = torch.rand(canvases.shape, generator=drawn) < levels[:, None]
    noise = torch.randint(vocabulary, canvases.shape, generator=drawn)
    return torch.where(replaced & (kinds != PINNED), noise, canvases)


CHUNK: Final = 2**25
"""Logits at a time: 128 MB in float32. They are made once more in the backward pass."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much the places of a canvas count, beside text, which counts 1. Openings count nothing: they are given.

    Attributes:
        end: the end token.
        pad: each place after it. There are many of them, and they are soon learned.
    """

    end: float = 0.5
    pad: float = 0.05

    def for_kinds(self, kinds: Tensor) -> Tensor:
        """[...] float32 for uint8 kinds."""
        table = torch.zeros(4, device=kinds.device)
        table[TEXT], table[END], table[PAD], table[PINNED] = 1.0, self.end, self.pad, 0.0
        return table[kinds.long()]


def token_losses(hidden: Tensor, weight: Tensor, cap: float, targets: Tensor) -> Tensor:
    """Cross-entropies under the soft-capped head.

    Args:
        hidden: [N, hidden].
        weight: [vocabulary, hidden].
        cap: logits are soft-capped to lie between -cap and cap.
        targets: [N] int64.

    Returns:
        [N] float32, in nats.
    """
    size = max(1, CHUNK // weight.shape[0])
    parts = [
        checkpoint(_loss, hidden[at : at + size], weight, cap, targets[at : at + size], use_reentrant=False)
        for at in range(0, len(hidden), size)
    ]
    return torch.cat(parts)


@torch.no_grad()
def mean_embeddings(hidden: Tensor, weight: Tensor, cap: float, temperature: Tensor, scale: float) -> Tensor:
    """What the sampler hands to the next step: embeddings averaged over the distribution at a temperature.

    Args:
        hidden: [N, hidden].
        weight: [vocabulary, hidden], tied to the embeddings.
        cap: of the logits.
        temperature: [N] float32.
        scale: of the embeddings.

    Returns:
        [N, hidden].
    """
    size = max(1, CHUNK // weight.shape[0])
    parts = []
    for at in range(0, len(hidden), size):
        logits = _logits(hidden[at : at + size], weight, cap) / temperature[at : at + size, None]
        parts.append(torch.softmax(logits, -1).to(weight.dtype) @ weight * scale)
    return torch.cat(parts)


def _logits(hidden: Tensor, weight: Tensor, cap: float) -> Tensor:
    logits: Tensor = torch.tanh((hidden @ weight.t()).float() / cap) * cap
    return logits


def _loss(hidden: Tensor, weight: Tensor, cap: float, targets: Tensor) -> Tensor:
    return cross_entropy(_logits(hidden, weight, cap), targets, reduction="none")
