"""Tokens on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """Tokens to prefill into a row.

    Attributes:
        row: row of the cache.
        start: number of tokens that the row already holds.
        ids: [n] int64 tokens.
        embeddings: [n, hidden] in place of the token embeddings, if the chunk has images; else None.
        image_indices: [n] int64, image index of each token or -1. Tokens of one image attend to each other. None
            without images.
    """

    row: int
    start: int
    ids: Tensor
    embeddings: Tensor | None = None
    image_indices: Tensor | None = None


def to_tensor(ids: Sequence[int], device: torch.device) -> Tensor:
    """Return ids as an int64 tensor on the device. The copy to a GPU does not wait for running work."""
    tensor = torch.tensor(ids, dtype=torch.int64)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
