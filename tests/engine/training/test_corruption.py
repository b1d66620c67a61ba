"""Noise on canvases."""

from __future__ import annotations

import torch

from unwritten_engine.training.objective import MIN_NOISE, add_noise, add_noise_at_level
from unwritten_engine.training.packing import PINNED, TEXT

CANVASES = torch.full((64, 256), 5)
KINDS = torch.full((64, 256), TEXT, dtype=torch.uint8)


def test_noise_repeats_by_seed_and_step() -> None:
    one = add_noise(CANVASES, KINDS, 1000, seed=1, step=7)
    same = add_noise(CANVASES, KINDS, 1000, seed=1, step=7)
    assert torch.equal(one.ids, same.ids) and torch.equal(one.levels, same.levels)
    for seed, step in ((1, 8), (2, 7)):
        assert not torch.equal(one.ids, add_noise(CANVASES, KINDS, 1000, seed=seed, step=step).ids)


def test_noise_levels_are_uniform() -> None:
    noised = add_noise(CANVASES, KINDS, 100_000, seed=0, step=0)
    ordered = noised.levels.sort().values
    assert float(ordered[0]) >= MIN_NOISE and float(ordered[-1]) <= 1
    expected = MIN_NOISE + (1 - MIN_NOISE) * (torch.arange(64) + 0.5) / 64
    assert (ordered - expected).abs().max() <= 0.5 / 64 + 1e-6, "one in each of 64 equal ranges"
    replaced = (noised.ids != 5).float().mean(1)
    assert (replaced - noised.levels).abs().max() < 0.12
    assert 16 < int(noised.conditioned.sum()) < 48


def test_noise_is_drawn_from_the_whole_vocabulary() -> None:
    ids = add_noise_at_level(CANVASES, KINDS, 16, torch.ones(64), torch.Generator().manual_seed(0))
    counts = torch.bincount(ids.flatten(), minlength=16).float() / ids.numel()
    assert len(counts) == 16 and (counts - 1 / 16).abs().max() < 0.01


def test_openings_stay() -> None:
    kinds = KINDS.clone()
    kinds[:, :9] = PINNED
    ids = add_noise_at_level(CANVASES, kinds, 1000, torch.ones(64), torch.Generator().manual_seed(0))
    assert (ids[:, :9] == 5).all() and (ids[:, 9:] != 5).float().mean() > 0.99
