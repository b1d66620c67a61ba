"""Pack matrices into 8 bits: each row has a scale, and each number is an integer."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

LARGEST: Final = 127


def pack_int8(weight: Tensor, largest: int = LARGEST) -> tuple[Tensor, Tensor]:
    """Pack [..., out, in] into 8 bits.

    Args:
        weight: the numbers.
        largest: the largest integer; the smallest is its negative.

    Returns:
        codes: int8, of the same shape.
        scales: [..., out] float32.
    """
    wide = weight.float()
    scales = wide.abs().amax(-1).clamp_min(1e-12) / largest
    return (wide / scales[..., None]).round_().to(torch.int8), scales
