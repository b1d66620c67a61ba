"""Compute the memory of a DiffusionGemma. Does not use torch.

The numbers cover weights (shared by encoder and decoder), a KV cache and a canvas per request, and the workspace. The
workspace follows what ``layers.py``, ``sampler.py`` and ``grouped_experts.py`` do on a GPU. Tests compare it with
traced allocations of that code at full size.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from ..loading.memory_plan import DRAW_TILE, KINDS, PREFILL_CHUNK, VOCAB_BLOCK, MemoryNeeds, chunk_on_gpu
from .model_config import ModelConfig

_SCALE: Final = 64  # weights that share one 16-bit scale in nf4


def memory_needs(config: ModelConfig) -> MemoryNeeds:
    """Return the needs of a model, for ``plan_memory``."""
    return MemoryNeeds(
        kinds=KINDS,
        context=config.context,
        weights=partial(weight_bytes, config),
        cache=partial(cache_bytes, config),
        workspace=partial(workspace_bytes, config),
        advice="a GPU with more memory, a 4-bit GGUF file with llama.cpp, which can keep a part in main memory, or a "
        "vLLM server",
    )


def weight_bytes(config: ModelConfig, kind: str) -> int:
    """Return the bytes of the weights.

    Args:
        config: the model.
        kind: "float32", "bf16", "int8" (experts and other matrices of the layers in 8 bits with a 32-bit scale per row)
            or "nf4" (the same in 4 bits with a 16-bit scale per 64 weights). Embeddings, routers, norms and the vision
            tower stay in 16 bits.
    """
    counts = config.counts()
    packed = counts.experts + counts.linears
    unpacked = counts.total - packed
    if kind == "float32":
        return 4 * counts.total
    if kind == "bf16":
        return 2 * counts.total
    if kind == "int8":
        return 2 * unpacked + packed + 4 * _rows(config)
    return 2 * unpacked + packed // 2 + 2 * packed // _SCALE


def _rows(config: ModelConfig) -> int:
    """Return the number of rows of all quantized matrices."""
    rows = 2 * config.intermediate_size + config.hidden_size
    for layer in config.layers:
        rows += (
            config.num_heads * layer.head_dim
            + (1 if layer.full_attention else 2) * layer.num_kv_heads * layer.head_dim
            + config.hidden_size
        )
        rows += (
            2 * config.intermediate_size
            + config.hidden_size
            + config.num_experts * (2 * config.expert_size + config.hidden_size)
        )
    return rows


def cache_bytes(config: ModelConfig, tokens: int, number: int = 2) -> int:
    """Return the bytes of the KV cache of one request, with the places of its canvas.

    Args:
        config: the model.
        tokens: prompt and finished canvases; layers with a sliding window keep only the window.
        number: bytes per number: 2 in bf16, 4 in float32.
    """
    total = 0
    for layer in config.layers:
        positions = tokens if layer.full_attention else min(tokens, config.sliding_window - 1)
        total += 2 * layer.num_kv_heads * layer.head_dim * (config.canvas_length + positions) * number
    return total


def workspace_bytes(config: ModelConfig, rows: int, kind: str, context: int = 4096) -> int:
    """Return the bytes of everything besides weights and caches.

    That is the state of the canvases, the memory of a captured step, which its CUDA graph keeps, and the memory of a
    step that is not captured or of a prompt that is prefilled.

    Args:
        config: the model.
        rows: canvases that run together.
        kind: weight format.
        context: cached tokens per canvas.
    """
    number = 4 if kind == "float32" else 2
    state = rows * config.canvas_length * (config.hidden_size * number + 4 * 8) + 8 * config.vocab_size
    step = step_bytes(config, rows, kind)
    return state + step + max(step, prefill_bytes(config, kind, context))


def step_bytes(config: ModelConfig, rows: int, kind: str) -> int:
    """Return the peak bytes of one denoising step: in the experts, in attention, in the sampler, or in its draw."""
    number = 4 if kind == "float32" else 2
    positions, hidden = rows * config.canvas_length, config.hidden_size
    chunk = min(config.vocab_size, chunk_on_gpu(positions))
    masses = positions * config.vocab_size // VOCAB_BLOCK * 4
    copies = 0 if kind == "float32" else number  # of the shares, to multiply them in 16 bits
    logits = positions * chunk * (2 * 4 + copies) + masses + positions * hidden * (2 * 4 + number)
    tile = min(DRAW_TILE, positions)
    weights = tile * (VOCAB_BLOCK * hidden * number + config.vocab_size // VOCAB_BLOCK * 4)
    return max(
        _experts_bytes(config, positions, kind),
        _attention_bytes(config, positions, number),
        logits,
        weights + masses + positions * hidden * (4 + number),
    )


def prefill_bytes(config: ModelConfig, kind: str, context: int) -> int:
    """Return the peak bytes of prefilling ``PREFILL_CHUNK`` tokens at the end of a context."""
    number = 4 if kind == "float32" else 2
    tokens = min(PREFILL_CHUNK, context)
    window = min(context, config.sliding_window - 1 + tokens)
    widest = max(config.layers, key=lambda layer: layer.head_dim)
    heads = 2 * (config.num_heads + widest.num_kv_heads) * widest.head_dim  # queries, results, keys and values
    rotary = 2 * sum({layer.head_dim for layer in config.layers})
    # Attention wants its mask in numbers.
    attention = tokens * (-(-context // 16) * 16 + 2 * config.hidden_size + heads + rotary) * number
    attention += _attention_sums(tokens * config.num_heads * widest.head_dim, number)
    return tokens * (context + window) + max(_experts_bytes(config, tokens, kind), attention)


def _experts_bytes(config: ModelConfig, positions: int, kind: str) -> int:
    """Return the peak bytes of the experts on this many positions."""
    number = 4 if kind == "float32" else 2
    hidden, inner = config.hidden_size, config.expert_size
    stream = positions * hidden * number
    if kind in KINDS[1:]:  # one kernel: inner states and results of all pairs
        experts = 6 * stream + positions * config.top_k * max(3 * inner, inner + hidden) * number
    else:  # transformers: rows and results, and results with their weights in float32, in two orders
        experts = 5 * stream + positions * config.top_k * hidden * (2 * number + 2 * 4)
    return _rotary_bytes(config, positions, number) + experts


def _attention_bytes(config: ModelConfig, positions: int, number: int) -> int:
    """Return the peak bytes of attention in a step: queries in two orders, results, keys and values."""
    widest = max(config.layers, key=lambda layer: layer.head_dim)
    queries = positions * config.num_heads * widest.head_dim
    keys = 2 * positions * widest.num_kv_heads * widest.head_dim
    total = (2 * positions * config.hidden_size + 3 * queries + keys) * number
    return _rotary_bytes(config, positions, number) + total + _attention_sums(queries, number)


def _rotary_bytes(config: ModelConfig, positions: int, number: int) -> int:
    return 2 * positions * sum({layer.head_dim for layer in config.layers}) * number


def _attention_sums(results: int, number: int) -> int:
    """Return the bytes in which attention adds up its results: in 32 bits, if they have 16."""
    return 0 if number == 4 else 4 * results
