"""Small random models of the LFM2 family for its tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tests.engine.diffusion.lfm2.reference_model import ReferenceModel
from torch import Tensor

from unwritten_engine.diffusion.lfm2.cache import Lfm2Cache
from unwritten_engine.diffusion.lfm2.config import Lfm2Config, read_config
from unwritten_engine.diffusion.lfm2.layers import Lfm2DiffusionModel, Lfm2Model
from unwritten_engine.diffusion.lfm2.random_model import random_config, random_weights
from unwritten_engine.diffusion.token_chunk import TokenChunk

CPU = torch.device("cpu")
BLOCK, CONTEXT, VOCABULARY, HIDDEN = 8, 128, 300, 32
SIZES: dict[str, Any] = {
    "vocabulary": VOCABULARY + 20,
    "real_vocabulary": VOCABULARY,
    "hidden": HIDDEN,
    "intermediate": 48,
    "layers": 7,
    "block": BLOCK,
}
"""Layers 2 and 5 have attention."""


def small_config() -> Lfm2Config:
    """Return the sizes of the small model."""
    return read_config(random_config(**SIZES), "small")


@cache
def small_weights(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return the weights of the small model."""
    with torch.inference_mode(False):  # a test that makes them first may be in inference mode, and others not
        return random_weights(small_config(), branch=0.5, dtype=dtype)


@cache
def reference(dtype: torch.dtype = torch.float32) -> ReferenceModel:
    """Return the plain model with these weights."""
    return ReferenceModel(random_config(**SIZES), small_weights(dtype))


def new_model(dtype: torch.dtype = torch.float32, *, rows: int = 3) -> Lfm2DiffusionModel:
    """Return our model with the same weights and an empty cache."""
    with torch.device("meta"):
        model = Lfm2Model(small_config())
    weights = {name.removeprefix("model."): weight for name, weight in small_weights(dtype).items()}
    model.load_state_dict(weights, assign=True)
    cache = Lfm2Cache(small_config(), rows=rows, context=CONTEXT, device=CPU, dtype=dtype)
    return Lfm2DiffusionModel(model.eval().requires_grad_(False), cache)


def random_ids(count: int, seed: int = 0) -> Tensor:
    """Return real tokens."""
    return torch.randint(VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed))


def prefill(model: Lfm2DiffusionModel, row: int, ids: Tensor, sizes: list[int] | None = None, start: int = 0) -> None:
    """Encode tokens into a row, in pieces of these sizes."""
    for size in sizes or [len(ids)]:
        model.encode(TokenChunk(row, start, ids[:size]))
        ids, start = ids[size:], start + size
    assert not len(ids)


def soft_embeddings(count: int, dtype: torch.dtype = torch.float32, seed: int = 3) -> Tensor:
    """Return mean embeddings of blocks, [count, block, hidden]."""
    return torch.randn(count, BLOCK, HIDDEN, generator=torch.Generator().manual_seed(seed)).to(dtype)


def denoise(
    model: Lfm2DiffusionModel,
    blocks: Tensor,
    lengths: list[int],
    *,
    sigma: Tensor | float = 1.2,
    soft: Tensor | None = None,
    has_soft: list[bool] | None = None,
) -> Tensor:
    """Denoise blocks in the first rows; without ``soft``, as in their first step."""
    count = len(blocks)
    dtype = model.embeddings.dtype
    given = torch.zeros(count, BLOCK, HIDDEN, dtype=dtype) if soft is None else soft
    flags = has_soft or [soft is not None] * count
    sigmas = sigma if isinstance(sigma, Tensor) else torch.full(blocks.shape, sigma)
    return model.denoise(
        blocks,
        given,
        torch.tensor(flags),
        sigmas,
        torch.tensor(lengths),
        max(lengths),
        min(lengths) != max(lengths),
    )


def reference_hidden(
    prompt: Tensor, block: Tensor, *, sigma: Tensor | float = 1.2, soft: Tensor | None = None, dtype: Any = None
) -> Tensor:
    """Return the plain model's last hidden states of a block after a prompt, [block, hidden]."""
    model = reference(dtype or torch.float32)
    start, size = len(prompt), len(block)
    levels = torch.zeros(1, start + size)
    levels[0, start:] = sigma
    selfcond: dict[str, Tensor] = {}
    if soft is not None:
        selfcond["selfcond_input"] = torch.cat([torch.zeros(start, HIDDEN, dtype=soft.dtype), soft])[None]
        selfcond["selfcond_pos_mask"] = levels > 0
    positions = torch.arange(start + size)[None]
    output = model(torch.cat([prompt, block])[None], levels, start, positions, positions[:, start:], **selfcond)
    hidden: Tensor = output.hidden_states[0, start:]
    torch.testing.assert_close(output.logits[0], hidden @ model.get_input_embeddings().weight.T)
    return hidden
