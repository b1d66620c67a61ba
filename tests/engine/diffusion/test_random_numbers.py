"""The noise: even, independent of everything but its coordinates, and the same in every batch."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from unwritten_engine.diffusion.random_numbers import RequestRandom, hash_coordinates, random_tokens, uniform


def at(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def line(seed: int, canvas: int, step: int, stream: RequestRandom = RequestRandom.CHOICE, length: int = 4096) -> Tensor:
    return uniform(at(seed), at(canvas), at(step), stream, length)[0]


def chi_square(counts: Tensor) -> float:
    """In standard deviations from what even counts have."""
    expected = counts.sum() / len(counts)
    free = len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - free) / (2 * free) ** 0.5)


@pytest.mark.parametrize("stream", RequestRandom)
def test_numbers_are_uniform(stream: RequestRandom) -> None:
    seeds = torch.arange(64)
    drawn = uniform(seeds, torch.zeros_like(seeds), torch.ones_like(seeds), stream, 4096)
    assert drawn.dtype == torch.float32 and drawn.shape == (64, 4096)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert abs(chi_square(torch.histc(drawn, 256, 0, 1))) < 4
    assert abs(drawn.mean() - 0.5) < 3 / (12 * drawn.numel()) ** 0.5
    assert (drawn * 2**24).eq((drawn * 2**24).round()).all()


def test_the_largest_number_is_below_one() -> None:
    drawn = line(3, 0, 1, length=2_000_000)
    assert drawn.max() <= 1 - 2.0**-24
    assert drawn.max() > 1 - 2.0**-18 and drawn.min() < 2.0**-18


@pytest.mark.parametrize("vocabulary", [1000, 1024, 262_144])
def test_tokens_are_uniform_and_in_the_vocabulary(vocabulary: int) -> None:
    seeds = torch.arange(100)
    drawn = random_tokens(seeds, seeds * 0, seeds * 0, RequestRandom.CANVAS, 4096, vocabulary)
    assert drawn.dtype == torch.int64
    assert drawn.min() >= 0 and drawn.max() < vocabulary
    bins = torch.bincount(drawn.flatten() * 8 // vocabulary)
    assert abs(chi_square(bins.float())) < 4
    if vocabulary <= 1024:
        counts = torch.bincount(drawn.flatten())
        assert len(counts) == vocabulary and counts.min() > 0 and abs(chi_square(counts.float())) < 4


def test_every_coordinate_changes_the_number() -> None:
    """Neighbours in any coordinate are no more alike than chance."""
    lines = [line(*place) for place in [(5, 0, 1), (6, 0, 1), (5, 1, 1), (5, 0, 2), (5, 1, 0), (0, 5, 1), (1, 0, 5)]]
    lines += [line(5, 0, 1, stream) for stream in RequestRandom if stream is not RequestRandom.CHOICE]
    lines += [line(2**32 - 1, 0, 1), line(0, 0, 0), lines[0].roll(1)]
    for one, other in combinations(lines, 2):
        both = torch.corrcoef(torch.stack([one, other]))[0, 1]
        assert abs(both) < 5 / len(one) ** 0.5
        assert (one == other).float().mean() < 0.002


def test_half_of_the_bits_change() -> None:
    """Changing one bit of any coordinate changes half of the bits of the hash."""
    base = [1234, 3, 17]
    for place in range(3):
        for bit in range(0, 20, 3):
            changed = list(base)
            changed[place] ^= 1 << bit
            one, other = (
                hash_coordinates(at(given[0]), at(given[1]), at(given[2]), RequestRandom.RENOISE, 512)
                for given in (base, changed)
            )
            flipped = sum(float(((one ^ other) >> n & 1).float().mean()) for n in range(64)) / 64
            assert abs(flipped - 0.5) < 0.02


def test_numbers_are_equal_alone_and_in_a_batch() -> None:
    seeds, canvases, steps = at(1, 2**32 - 1, 7), at(0, 4, 2), at(3, 0, 48)
    together = uniform(seeds, canvases, steps, RequestRandom.RENOISE, 100)
    for row in range(3):
        alone = line(int(seeds[row]), int(canvases[row]), int(steps[row]), RequestRandom.RENOISE, 100)
        assert torch.equal(together[row], alone)


def test_longer_rows_start_like_shorter_ones() -> None:
    assert torch.equal(line(9, 1, 1, length=10), line(9, 1, 1, length=300)[:10])
