"""The loss over canvases, and mean embeddings for self-conditioning, without all logits in memory at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from .packing import END, PAD, PINNED, TEXT

CHUNK: Final = 2**25
"""Logits at a time: 128 MB in float32. They are made once more in the backward pass."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much the places of a canvas count, beside text, which counts 1. Openings count nothing: they are given.

    Attributes:
        end: the end token.
        pad: each place after it. There are many of them, and they are soon learned.
    """

    end: float = 0.5
    pad: float = 0.05

    def of(self, kinds: Tensor) -> Tensor:
        """[...] float32 for uint8 kinds."""
        table = torch.zeros(4, device=kinds.device)
        table[TEXT], table[END], table[PAD], table[PINNED] = 1.0, self.end, self.pad, 0.0
        return table[kinds.long()]


def losses(hidden: Tensor, weight: Tensor, cap: float, targets: Tensor) -> Tensor:
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
