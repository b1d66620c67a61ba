"""Keys and values in rows: the ring of sliding layers, copies, and the store of snapshots."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from unwritten_engine.diffusion.diffusion_gemma.kv_cache import KVCache
from unwritten_engine.diffusion.diffusion_gemma.random_model import random_config
from unwritten_engine.diffusion.prefix_cache import PrefixCache, Snapshot

CANVAS, WINDOW, CONTEXT = 8, 16, 100
SLIDING, FULL = 0, 5  # layers of the small model


def cache(*, rows: int = 3, context: int = CONTEXT, **shape: Any) -> KVCache:
    config = random_config(window=WINDOW, **shape).text_config
    return KVCache(config, rows=rows, context=context, canvas=CANVAS, device=torch.device("cpu"), dtype=torch.float32)


def marked(kv: KVCache, layer: int, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Keys and values that say which token and layer they are of."""
    heads, width = kv.keys[layer].shape[1], kv.keys[layer].shape[3]
    tokens = torch.arange(start, start + count, dtype=torch.float32) + 1
    keys = tokens[None, :, None].expand(heads, count, width) * 100 + layer
    return keys, -keys


def write(kv: KVCache, row: int, sizes: list[int], start: int = 0) -> int:
    for size in sizes:
        for layer in range(len(kv.keys)):
            kv.write(layer, row, start, *marked(kv, layer, start, size))
        start += size
    return start


def tokens_at(kv: KVCache, layer: int, row: int, length: int) -> list[int]:
    """Which token lies at each place, as its keys say."""
    keys, values = kv.past(layer, row, length)
    assert torch.equal(keys, -values)
    assert torch.equal(keys, keys[:1, :, :1].expand_as(keys))
    return ((keys[0, :, 0] - layer) / 100 - 1).long().tolist()


@pytest.mark.parametrize("sizes", [[3], [15], [16], [17], [40], [7, 8], [7, 9], [14, 1, 1, 1], [5, 30, 2], [16, 16, 9]])
def test_slots_hold_the_tokens_of_their_positions(sizes: list[int]) -> None:
    kv = cache()
    length = write(kv, 1, sizes)
    assert tokens_at(kv, FULL, 1, length) == list(range(length)) == kv.positions(FULL, length).tolist()
    ring = tokens_at(kv, SLIDING, 1, length)
    assert ring == kv.positions(SLIDING, length).tolist()
    assert sorted(ring) == list(range(max(0, length - (WINDOW - 1)), length))
    for layer in range(len(kv.keys)):  # the other rows and the place of the canvas are as they were
        assert not kv.keys[layer][0].any() and not kv.keys[layer][2].any()
        assert not kv.keys[layer][1, :, :CANVAS].any()


def test_a_context_shorter_than_the_window_needs_no_ring() -> None:
    kv = cache(context=10)
    assert set(kv.places) == {10}
    assert tokens_at(kv, SLIDING, 0, write(kv, 0, [4, 6])) == list(range(10))


def test_buffers_have_the_stated_size() -> None:
    kv = cache()
    assert kv.nbytes == sum(tensor.nbytes for tensor in [*kv.keys, *kv.values])
    assert kv.keys[SLIDING].shape[2] == CANVAS + WINDOW - 1
    assert kv.keys[FULL].shape[2] == CANVAS + CONTEXT


@pytest.mark.parametrize("length", [1, 15, 16, 33])
def test_a_snapshot_starts_another_row(length: int) -> None:
    kv = cache()
    write(kv, 0, [length])
    snapshot = kv.save(0, range(length))
    write(kv, 0, [50])  # the copy stays as it was
    write(kv, 2, [90])  # what was there before is not in the way
    kv.load(2, snapshot)
    for layer in (SLIDING, FULL):
        assert tokens_at(kv, layer, 2, length) == kv.positions(layer, length).tolist()
    end = write(kv, 2, [20], start=length)
    for layer in (SLIDING, FULL):
        assert tokens_at(kv, layer, 2, end) == kv.positions(layer, end).tolist()


@pytest.mark.parametrize("length", [1, 15, 40])
def test_a_row_moves(length: int) -> None:
    kv = cache()
    write(kv, 0, [60])
    write(kv, 2, [length])
    kv.move(2, 0, length)
    for layer in (SLIDING, FULL):
        assert tokens_at(kv, layer, 0, length) == kv.positions(layer, length).tolist()


def snapshot(*tokens: int, size: int = 10) -> Snapshot:
    return Snapshot(tokens, (torch.zeros(size, dtype=torch.uint8),))


def test_the_longest_prefix_is_found() -> None:
    kept = PrefixCache(1000)
    for tokens in [(1, 2), (1, 2, 3, 4), (1, 3), (1, 2, 3, 4, 5, 6)]:
        kept.put(snapshot(*tokens))
    found = kept.longest_prefix((1, 2, 3, 4, 5))
    assert found is not None and found.tokens == (1, 2, 3, 4)
    whole = kept.longest_prefix((1, 3))
    assert whole is not None and whole.tokens == (1, 3)
    assert kept.longest_prefix((2, 1)) is None
    assert kept.longest_prefix(()) is None


def test_the_least_recently_used_is_evicted() -> None:
    kept = PrefixCache(30)
    for first in range(3):
        assert kept.put(snapshot(first, first))
    assert kept.longest_prefix((0, 0, 0)) is not None  # used again
    assert kept.put(snapshot(3, 3))
    assert [(number, number) in kept for number in range(4)] == [True, False, True, True]
    assert len(kept) == 3 and kept.nbytes == 30


def test_the_limit_is_in_bytes() -> None:
    kept = PrefixCache(30)
    assert not kept.put(snapshot(1, size=31))
    assert len(kept) == kept.nbytes == 0
    kept.put(snapshot(1, size=10))
    kept.put(snapshot(2, size=15))
    assert kept.put(snapshot(3, size=30))
    assert len(kept) == 1 and kept.nbytes == 30
    assert not kept.put(snapshot(4, size=31))
    assert (3,) in kept


def test_shared_storage_is_counted_once() -> None:
    kept = PrefixCache(100)
    kept.put(snapshot(1, size=40))
    kept.put(snapshot(1, size=60))
    assert len(kept) == 1 and kept.nbytes == 60
    kept.drop((1,))
    kept.drop((1,))
    assert len(kept) == kept.nbytes == 0
    kept.put(snapshot(2, size=40))
    kept.clear()
    assert len(kept) == kept.nbytes == 0 and kept.longest_prefix((2,)) is None


def test_a_cache_of_zero_bytes_stores_nothing() -> None:
    assert not PrefixCache(0).put(snapshot(1))
