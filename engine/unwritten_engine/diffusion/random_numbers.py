"""Random numbers that depend only on a request's seed and the canvas, step and position.

A stateful generator would give a request other numbers after a preemption or in another batch. A hash of the
coordinates has no state: the numbers are the same in every batch, on every device and inside a CUDA graph. Texts may
differ nevertheless, because a batch rounds differently. The hash is the finalizer of SplitMix64 (Steele, Lea and Flood,
2014), chained over the coordinates; 64-bit integers wrap around in torch.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import torch
from torch import Tensor

_GOLDEN: Final = 0x9E3779B97F4A7C15 - 2**64
_FIRST: Final = 0xBF58476D1CE4E5B9 - 2**64
_SECOND: Final = 0x94D049BB133111EB - 2**64


class RequestRandom(IntEnum):
    """The purpose of a number. Each purpose has its own stream of numbers."""

    CANVAS = 1
    """Initial tokens of a canvas."""
    CHOICE = 2
    """Sampling of tokens."""
    RENOISE = 3
    """Random tokens that replace those not accepted."""
    EDIT = 4
    """Which tokens of an edited text are replaced."""
    MIXTURE = 5
    """Whether a token is kept, sampled or replaced by a random one."""


def hash_coordinates(seeds: Tensor, canvases: Tensor, steps: Tensor, stream: RequestRandom, length: int) -> Tensor:
    """Hash the coordinates.

    Args:
        seeds: [B] int64, one per request.
        canvases: [B] int64, index of the canvas.
        steps: [B] int64, number of the step; 0 before the first.
        stream: purpose of the numbers.
        length: positions in a canvas.

    Returns:
        [B, length] int64 with 64 random bits.
    """
    state = _mixed(seeds * _GOLDEN + int(stream))
    state = _mixed(state + canvases * _GOLDEN)
    state = _mixed(state + steps * _GOLDEN)
    positions = torch.arange(1, length + 1, device=seeds.device)
    return _mixed(state[:, None] + positions * _GOLDEN)


def uniform(seeds: Tensor, canvases: Tensor, steps: Tensor, stream: RequestRandom, length: int) -> Tensor:
    """Return uniform numbers in [0, 1), [B, length] float32, each a multiple of 2^-24."""
    return (hash_coordinates(seeds, canvases, steps, stream, length) >> 40 & 0xFFFFFF).to(torch.float32) * 2.0**-24


def random_tokens(
    seeds: Tensor, canvases: Tensor, steps: Tensor, stream: RequestRandom, length: int, vocabulary: int
) -> Tensor:
    """Return uniformly random tokens, [B, length] int64.

    The bias of scaling 32 random bits to a vocabulary of 2^18 is below 2^-14 of each token's probability.
    """
    return ((hash_coordinates(seeds, canvases, steps, stream, length) >> 32 & 0xFFFFFFFF) * vocabulary) >> 32


def _mixed(state: Tensor) -> Tensor:
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's shift copies the sign bit."""
    return state >> bits & ((1 << (64 - bits)) - 1)
