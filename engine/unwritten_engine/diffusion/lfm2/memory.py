"""Compute the memory of an LFM2 diffusion model. Does not use torch."""

from __future__ import annotations

from functools import partial
from typing import Final

from ..loading.memory_plan import DRAW_TILE, PREFILL_CHUNK, VOCAB_BLOCK, MemoryNeeds, chunk_on_gpu
from .config import Lfm2Config

KINDS: Final = ("bf16", "int8")
"""Weight formats besides "float32"."""


def memory_needs(config: Lfm2Config) -> MemoryNeeds:
    """Return the needs of a model, for ``plan_memory``."""
    return MemoryNeeds(
        kinds=KINDS,
        context=config.context,
        weights=partial(weight_bytes, config),
        cache=config.row_bytes,
        workspace=partial(workspace_bytes, config),
        advice="a machine with more memory",
    )


def weight_bytes(config: Lfm2Config, kind: str) -> int:
    """Return the bytes of the weights in a format.

    In "int8", the matrices of the layers have 8 bits and a 32-bit scale per row; all others have 16 bits.
    """
    if kind == "int8":
        counts = config.counts()
        return 2 * (counts.total - counts.linears) + counts.linears + 4 * config.linear_rows()
    return config.weight_bytes(4 if kind == "float32" else 2)


def workspace_bytes(config: Lfm2Config, rows: int, kind: str, context: int = 4096) -> int:
    """Return the bytes of everything besides weights and caches: the state of the rows, and a step or a prefill.

    Args:
        config: the model.
        rows: blocks that run together.
        kind: weight format.
        context: cached tokens per row.
    """
    number = 4 if kind == "float32" else 2
    positions = rows * config.block_length
    state = positions * (config.hidden_size * number + 4 * 8)
    return state + max(
        _layer_bytes(config, positions, context, number) + _sampler_bytes(config, positions, number),
        _layer_bytes(config, min(PREFILL_CHUNK, context), context, number),
    )


def _layer_bytes(config: Lfm2Config, positions: int, context: int, number: int) -> int:
    """Return the peak bytes of one layer: its inputs and modulation, and its widest branch or attention."""
    stream = positions * config.hidden_size * number
    widest = max(3 * config.intermediate_size, 6 * config.hidden_size)
    mask = positions * (config.block_length + context) * (1 + number)  # attention wants its mask in numbers
    return 8 * stream + positions * widest * number + mask


def _sampler_bytes(config: Lfm2Config, positions: int, number: int) -> int:
    """Return the peak bytes of the sampler: logits of a part of the vocabulary, masses, and a tile of the draw."""
    chunk = min(config.vocab_size, chunk_on_gpu(positions))
    masses = positions * config.vocab_size // VOCAB_BLOCK * 4
    tile = min(DRAW_TILE, positions) * (
        VOCAB_BLOCK * config.hidden_size * number + config.vocab_size // VOCAB_BLOCK * 4
    )
    return masses + max(positions * chunk * (2 * 4 + number), tile) + positions * config.hidden_size * (2 * 4 + number)
