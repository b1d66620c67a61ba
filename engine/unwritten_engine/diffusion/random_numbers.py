"""Random numbers that belong to a request: by its seed, canvas, step and position, and by nothing else.

A generator with a state would give a request other numbers when it is pre-empted and resumed, or when somebody joins
its batch, and would have to be kept in step between host and device. A hash of the coordinates has no state: the
numbers are the same in every batch, on every device, and inside a captured graph. The hash is SplitMix64's finaliser
(Steele, Lea and Flood, 2014), chained over the coordinates; 64-bit integers wrap around in torch as they do in C.
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
    """What a number is drawn for; each has numbers of its own."""

    CANVAS = 1
    """The tokens that a canvas begins with."""
    CHOICE = 2
    """Which token is sampled."""
    RENOISE = 3
    """The tokens that take the place of those not accepted."""
    EDIT = 4
    """Which tokens of a starting text are drawn anew."""


def hash_coordinates(seeds: Tensor, canvases: Tensor, steps: Tensor, stream: RequestRandom, length: int) -> Tensor:
    """Hashes of the coordinates.

    Args:
        seeds: [B] int64, one per request.
        canvases: [B] int64, the number of the canvas.
        steps: [B] int64, the number of the step; 0 for what is drawn before the first.
        stream: what the numbers are for.
        length: positions in a canvas.

    Returns:
        [B, length] int64, all 64 bits random.
    """
    state = _mixed(seeds * _GOLDEN + int(stream))
    state = _mixed(state + canvases * _GOLDEN)
    state = _mixed(state + steps * _GOLDEN)
    places = torch.arange(1, length + 1, device=seeds.device)
    return _mixed(state[:, None] + places * _GOLDEN)


def uniform(seeds: Tensor, canvases: Tensor, steps: Tensor, stream: RequestRandom, length: int) -> Tensor:
    """Numbers from 0 up to but not including 1, [B, length] float32, each a multiple of 2^-24."""
    return (hash_coordinates(seeds, canvases, steps, stream, length) >> 40 & 0xFFFFFF).to(torch.float32) * 2.0**-24


def random_tokens(
    seeds: Tensor, canvases: Tensor, steps: Tensor, stream: RequestRandom, length: int, vocabulary: int
) -> Tensor:
    """Tokens drawn evenly from the whole vocabulary, [B, length] int64.

    The bias of scaling 32 random bits to a vocabulary of 2^18 is below 2^-14 of each token's share.
    """
    return ((hash_coordinates(seeds, canvases, steps, stream, length) >> 32 & 0xFFFFFFFF) * vocabulary) >> 32


def _mixed(state: Tensor) -> Tensor:
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """A logical shift to the right; that of torch copies the sign."""
    return state >> bits & ((1 << (64 - bits)) - 1)
