"""Compute a model's memory, and plan what fits on a device. Does not use torch.

The numbers cover weights (shared by encoder and decoder), a KV cache and a canvas per request, and the workspace, on
the GPU or in main memory. The workspace follows what ``model.py``, ``sampler.py`` and ``grouped_experts.py`` do on a
GPU. Tests compare it with traced allocations of that code at full size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ...errors import ModelUnsupported
from .model_config import ModelConfig

KINDS: Final = ("bf16", "int8", "nf4")
"""Weight formats, best first."""
KIND_LABELS: Final = {"float32": "32 bits", "bf16": "bf16", "int8": "8 bits", "nf4": "4 bits"}
RESERVE: Final = 700_000_000
"""Bytes of the driver, its libraries and allocator fragmentation on a GPU."""
BLOCK: Final = 64
"""Tokens per block, the unit in which the sampler stores masses."""
DRAW_TILE: Final = 256
"""Positions at a time while tokens are drawn: each needs the weights of a whole block."""
PREFILL_CHUNK: Final = 1024
"""Prompt tokens that are prefilled in one pass. More would need more memory than a step of four canvases."""
_CHUNK: Final = 16_384  # tokens of the vocabulary that the sampler has logits of at one time
_LOGITS: Final = 2**24  # logits at one time, which limits the chunk with many positions: 67 MB in float32
_SCALE: Final = 64  # weights that share one 16-bit scale in nf4


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


def chunk_on_gpu(positions: int) -> int:
    """Return how many tokens of the vocabulary the sampler processes at a time on a GPU."""
    return max(BLOCK, min(_CHUNK, _LOGITS // positions // BLOCK * BLOCK))


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
    masses = positions * config.vocab_size // BLOCK * 4
    copies = 0 if kind == "float32" else number  # of the shares, to multiply them in 16 bits
    logits = positions * chunk * (2 * 4 + copies) + masses + positions * hidden * (2 * 4 + number)
    tile = min(DRAW_TILE, positions)
    weights = tile * (BLOCK * hidden * number + config.vocab_size // BLOCK * 4)
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


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Division of a device's memory.

    Attributes:
        kind: weight format: "float32", "bf16", "int8" or "nf4".
        weights: bytes of the weights.
        rows: requests that run together.
        context: maximum tokens of one request.
        cache: bytes of the KV caches of all rows.
        prefixes: bytes of the prefix cache.
        workspace: bytes of steps and prefills, see ``workspace_bytes``.
        free: bytes that remain.
        reason: why this weight format was chosen, in a sentence.
    """

    kind: str
    weights: int
    rows: int
    context: int
    cache: int
    prefixes: int
    workspace: int
    free: int
    reason: str

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return self.weights + self.cache + self.prefixes + self.workspace


def plan_memory(
    config: ModelConfig,
    *,
    memory: int,
    device: str,
    kind: str | None = None,
    plain: str = "bf16",
    rows: int | None = None,
    context: int | None = None,
    reserve: int = 0,
) -> MemoryPlan:
    """Plan the memory of a device.

    Args:
        config: the model.
        memory: usable bytes.
        device: name for messages, such as "This GPU".
        kind: weight format; None chooses the best that fits.
        plain: format without quantization, "bf16" or "float32".
        rows: requests that run together; None chooses as many as fit, up to 16.
        context: tokens per request; None chooses as many as fit with these rows, from 4,096 to 32,768 or the model's
            maximum.
        reserve: bytes to leave free, such as ``RESERVE``.

    Raises:
        ModelUnsupported: it does not fit. The message has the numbers and advice.
    """
    available = memory - reserve
    for choice in (plain, *KINDS[1:]) if kind is None else (kind,):
        plan = _fit(config, available, choice, rows, context)
        if plan is not None:
            return _with_reason(plan, config, kind, memory, device)
    raise ModelUnsupported(_refusal(config, memory, device, kind, rows, context, reserve))


def _min_context(config: ModelConfig, context: int | None) -> int:
    return min(config.context, 4096 if context is None else context)


def _fit(config: ModelConfig, available: int, kind: str, rows: int | None, context: int | None) -> MemoryPlan | None:
    number = 4 if kind == "float32" else 2
    weights = weight_bytes(config, kind)
    tokens = _min_context(config, context)
    for count in (16, 12, 8, 6, 4, 3, 2, 1) if rows is None else (rows,):
        left = (
            available
            - weights
            - count * cache_bytes(config, tokens, number)
            - workspace_bytes(config, count, kind, tokens)
        )
        if left < 0:
            continue
        while context is None and 2 * tokens <= min(config.context, 32_768):
            more = count * (cache_bytes(config, 2 * tokens, number) - cache_bytes(config, tokens, number))
            more += workspace_bytes(config, count, kind, 2 * tokens) - workspace_bytes(config, count, kind, tokens)
            if more > left // 2:  # the other half is for the prefix cache
                break
            tokens, left = 2 * tokens, left - more
        prefixes = min(left // 2, 16 * cache_bytes(config, tokens, number))
        return MemoryPlan(
            kind=kind,
            weights=weights,
            rows=count,
            context=tokens,
            cache=count * cache_bytes(config, tokens, number),
            prefixes=prefixes,
            workspace=workspace_bytes(config, count, kind, tokens),
            free=left - prefixes,
            reason="",
        )
    return None


def _with_reason(plan: MemoryPlan, config: ModelConfig, asked: str | None, memory: int, device: str) -> MemoryPlan:
    if asked is not None:
        reason = f"The weights are kept in {KIND_LABELS[plan.kind]} ({gigabytes(plan.weights)}), as requested."
    elif plan.kind not in KINDS[1:]:
        label = f"{KIND_LABELS[plan.kind]} ({gigabytes(plan.weights)})"
        reason = f"The weights are kept in {label}: {device} has {gigabytes(memory)}."
    else:
        better = KINDS[KINDS.index(plan.kind) - 1]
        reason = (
            f"The weights are kept in {KIND_LABELS[plan.kind]} ({gigabytes(plan.weights)}): {device} has "
            f"{gigabytes(memory)}, and {KIND_LABELS[better]} would need {gigabytes(required_bytes(config, better))}."
        )
    return replace(plan, reason=reason)


def required_bytes(config: ModelConfig, kind: str, rows: int = 1, context: int = 4096) -> int:
    """Return the total bytes of weights, caches and workspace."""
    tokens, number = min(context, config.context), 4 if kind == "float32" else 2
    cache = rows * cache_bytes(config, tokens, number)
    return weight_bytes(config, kind) + cache + workspace_bytes(config, rows, kind, tokens)


def _refusal(
    config: ModelConfig, memory: int, device: str, kind: str | None, rows: int | None, context: int | None, reserve: int
) -> str:
    tokens = _min_context(config, context)
    count = rows or 1
    choices = [*KINDS, *([kind] if kind and kind not in KINDS else [])]
    required = {choice: required_bytes(config, choice, count, tokens) for choice in choices}
    sizes = ", ".join(f"{gigabytes(size)} in {KIND_LABELS[choice]}" for choice, size in required.items())
    ways = []
    fitting = [choice for choice in KINDS if required[choice] <= memory - reserve]
    if kind is not None and fitting:
        ways.append(f'quantize="{fitting[0]}"'.replace('"bf16"', '"none"'))
    if count > 1 and required_bytes(config, kind or KINDS[-1], 1, tokens) <= memory - reserve:
        ways.append("parallel=1")
    if tokens > 4096 and required_bytes(config, kind or KINDS[-1], count, 4096) <= memory - reserve:
        ways.append("context=4096")
    if not ways:
        ways.append(
            "a GPU with more memory, a 4-bit GGUF file with llama.cpp, which can keep a part in main memory, or a "
            "vLLM server"
        )
    reserved = f", of which the driver needs {gigabytes(reserve)}" if reserve else ""
    requests = f"{count} request{'s' * (count > 1)} of {tokens:,} tokens"
    return (
        f"{device} has {gigabytes(memory)}{reserved}. The model needs {sizes} for {requests}. Try {' and '.join(ways)}."
    )


def gigabytes(size: int) -> str:
    """Format bytes: "16.4 GB", or "3 MB" below a tenth of a gigabyte."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{max(1, round(size / 1e6)):,} MB"
