"""Rows of the LFM2 cache: snapshots, moves, and the inputs of the convolutions at exactly the row's length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.engine.diffusion.lfm2.small_models import (
    BLOCK,
    CONTEXT,
    CPU,
    denoise,
    new_model,
    prefill,
    random_ids,
    reference_hidden,
    small_config,
)
from torch import Tensor

from unwritten_engine.diffusion.lfm2.cache import Lfm2Cache
from unwritten_engine.diffusion.lfm2.layers import Lfm2DiffusionModel
from unwritten_engine.diffusion.prefix_cache import PrefixCache

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


def block_after(model: Lfm2DiffusionModel, row: int, length: int) -> Tensor:
    """Hidden states of a block in this row."""
    blocks = random_ids(BLOCK, 9).expand(model.cache.rows, -1)
    return denoise(model, blocks, [length if own == row else 0 for own in range(model.cache.rows)])[row]


def equal(found: Tensor, prompt: Tensor) -> None:
    wanted = reference_hidden(prompt, random_ids(BLOCK, 9), dtype=DOUBLE)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, DOUBLE])
def test_buffers_have_the_stated_size(dtype: torch.dtype) -> None:
    config = small_config()
    cache = Lfm2Cache(config, rows=3, context=CONTEXT, device=CPU, dtype=dtype)
    assert cache.nbytes == 3 * config.row_bytes(CONTEXT, torch.zeros(0, dtype=dtype).element_size())
    assert (cache.rows, cache.context, cache.block_length) == (3, CONTEXT, BLOCK)


@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_a_snapshot_starts_another_row(length: int) -> None:
    model, prompt, more = new_model(DOUBLE), random_ids(length), random_ids(15, 2)
    prefill(model, 0, prompt)
    snapshot = model.cache.save(0, prompt.tolist())
    prefill(model, 0, random_ids(30, 5), start=length)  # the copy stays as it was
    prefill(model, 2, random_ids(90, 6))  # what was there before is not in the way
    model.cache.load(2, snapshot)
    equal(block_after(model, 2, length), prompt)
    prefill(model, 2, more, [1, 14], start=length)
    equal(block_after(model, 2, length + 15), torch.cat([prompt, more]))


def test_a_snapshot_has_only_its_tokens() -> None:
    model = new_model(DOUBLE)
    prefill(model, 0, random_ids(40))
    snapshot = model.cache.save(0, random_ids(40).tolist())
    config = small_config()
    assert snapshot.nbytes == config.row_bytes(40, 8) - config.row_bytes(0, 8) + model.cache.conv_inputs[:, 0].nbytes
    store = PrefixCache(10**9)
    assert store.put(snapshot) and store.nbytes == snapshot.nbytes


@pytest.mark.parametrize("length", [1, 2, 40])
def test_a_row_moves(length: int) -> None:
    model, prompt, more = new_model(DOUBLE), random_ids(length), random_ids(15, 2)
    prefill(model, 0, random_ids(60, 4))
    prefill(model, 2, prompt)
    model.cache.move(2, 0, length)
    equal(block_after(model, 0, length), prompt)
    prefill(model, 0, more, start=length)
    equal(block_after(model, 0, length + 15), torch.cat([prompt, more]))


def test_a_row_moves_before_its_first_token() -> None:
    """Such a row may still hold an earlier sequence."""
    model = new_model(DOUBLE)
    prefill(model, 1, random_ids(60, 4))
    model.cache.move(1, 0, 0)
    prefill(model, 0, random_ids(5), [2, 3])
    equal(block_after(model, 0, 5), random_ids(5))


def test_a_row_is_saved_moved_and_continued_only_at_its_length() -> None:
    """At another length, its convolutions would silently continue with the wrong inputs."""
    model = new_model()
    prefill(model, 0, random_ids(20))
    with pytest.raises(ValueError, match="holds 20 tokens"):
        model.cache.save(0, random_ids(19).tolist())
    with pytest.raises(ValueError, match="holds 20 tokens"):
        model.cache.move(0, 1, 21)
    with pytest.raises(ValueError, match="holds 20 tokens"):
        prefill(model, 0, random_ids(5), start=10)
    with pytest.raises(ValueError, match="holds 0 tokens"):
        prefill(model, 1, random_ids(5), start=10)
    prefill(model, 0, random_ids(5))  # from the start, at any time
    assert model.cache.lengths == [5, 0, 0]


def test_too_many_tokens_are_refused_before_anything_changes() -> None:
    model = new_model(DOUBLE)
    prefill(model, 0, random_ids(20))
    with pytest.raises(ValueError, match="context"):
        prefill(model, 0, random_ids(CONTEXT), start=20)
    equal(block_after(model, 0, 20), random_ids(20))
    prefill(model, 1, random_ids(CONTEXT))
    equal(block_after(model, 1, CONTEXT), random_ids(CONTEXT))
