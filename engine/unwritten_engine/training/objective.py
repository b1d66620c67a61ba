"""The training objective: noise on canvases like the sampler's, and the loss.

Noise replaces tokens by uniformly random ones. All random numbers of a step are drawn on the CPU from the run's seed
and the number of the step, so that a resumed run continues identically on every device.
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
"""The lowest noise level; below it there is little to learn."""
_STRIDE: Final = 0x9E3779B1
"""Separates the steps of neighbouring seeds. On a CPU, generator seeds have 32 effective bits."""


@dataclass(frozen=True, slots=True)
class NoisyCanvases:
    """Canvases with noise.

    Attributes:
        ids: [N, C] int64.
        levels: [N] float32, the share of tokens to be replaced.
        conditioned: [N] bool, which canvases get self-conditioning.
    """

    ids: Tensor
    levels: Tensor
    conditioned: Tensor


def add_noise(
    canvases: Tensor, kinds: Tensor, vocabulary: int, *, seed: int, step: int, share: float = 0.5
) -> NoisyCanvases:
    """Add the noise of a training step.

    Noise levels are stratified over the batch (one in each of N equal ranges from ``MIN_NOISE`` to 1, in random order),
    which reduces the variance of the loss. Openings are not changed, because the engine pins them.

    Args:
        canvases: [N, C] int64 on the CPU.
        kinds: [N, C] uint8, kinds of positions.
        vocabulary: number of tokens.
        seed: of the run.
        step: number of the step.
        share: share of canvases with self-conditioning.
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
    """Replace the share ``levels`` [N] of the tokens, except openings. Return [N, C] int64."""
    replaced = torch.rand(canvases.shape, generator=drawn) < levels[:, None]
    noise = torch.randint(vocabulary, canvases.shape, generator=drawn)
    return torch.where(replaced & (kinds != PINNED), noise, canvases)


CHUNK: Final = 2**25
"""Logits at a time: 128 MB in float32. They are recomputed in the backward pass."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Loss weights of positions, relative to text. Openings have weight 0.

    Attributes:
        end: the end token.
        pad: each padding position; there are many, and they are learned quickly.
    """

    end: float = 0.5
    pad: float = 0.05

    def for_kinds(self, kinds: Tensor) -> Tensor:
        """Return float32 weights for uint8 kinds, [...]."""
        table = torch.zeros(4, device=kinds.device)
        table[TEXT], table[END], table[PAD], table[PINNED] = 1.0, self.end, self.pad, 0.0
        return table[kinds.long()]


def token_losses(hidden: Tensor, weight: Tensor, cap: float, targets: Tensor) -> Tensor:
    """Return cross-entropies under the soft-capped output head.

    Args:
        hidden: [N, hidden].
        weight: [vocabulary, hidden].
        cap: logits are soft-capped to [-cap, cap].
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
    """Return the self-conditioning of the sampler: embeddings averaged over the distribution at a temperature.

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
