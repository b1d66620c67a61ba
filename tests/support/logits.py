"""Compare logits of two models on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences between a quantized model and the original, on the same inputs.

    Attributes:
        error: root mean square of the difference of the logits, relative to their standard deviation.
        largest: the largest difference of a logit.
        agreement: share of positions with the same most likely token.
    """

    error: float
    largest: float
    agreement: float


def compare(logits: Tensor, packed: Tensor) -> Difference:
    """Compare logits [..., vocabulary] of two models at the same positions."""
    gap = (packed - logits).float()
    spread = (logits - logits.mean(-1, keepdim=True)).float().pow(2).mean().sqrt()
    same = (logits.argmax(-1) == packed.argmax(-1)).float().mean()
    return Difference(float(gap.pow(2).mean().sqrt() / spread), float(gap.abs().max()), float(same))


@torch.no_grad()
def canvas_logits(model: Any, prompt: Tensor, canvas: Tensor) -> Tensor:
    """Return the logits [batch, canvas, vocabulary] of one denoising pass. Token ids have the shape [batch, n]."""
    found: Tensor = model(input_ids=prompt, decoder_input_ids=canvas).logits
    return found
