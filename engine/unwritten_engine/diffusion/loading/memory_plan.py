"""What a model takes in memory, and the plan that fits the device. No torch.

Bytes are those of the GPU, or of the machine's memory on a CPU. The figures count what this engine keeps: the weights
once (encoder and decoder share them), a cache of keys and values per request, and the workspace of one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...errors import ModelUnsupported
from .model_config import ModelConfig

KINDS: Final = ("bf16", "int8", "nf4")
"""How weights may be kept, the best first."""
KIND_LABELS: Final = {"float32": "32 bits", "bf16": "bf16", "int8": "8 bits", "nf4": "4 bits"}
RESERVE: Final = 700_000_000
"""Bytes that the driver, its libraries and the allocator's gaps take on a GPU."""
GROUP_BYTES: Final = 256 * 1024**2
"""Bytes of experts that are unpacked at one time when weights are quantised."""
_BLOCK: Final = 64  # weights that share one 16-bit scale in nf4
_TILE: Final = 16_384  # tokens of the vocabulary that the sampler has logits of at one time


def weight_bytes(config: ModelConfig, kind: str) -> int:
    """Bytes of the weights.

    Args:
        sizes: the model.
        kind: "float32", "bf16", "int8" (experts and other matrices of the layers in 8 bits with a scale of 32 bits
            per row) or "nf4" (the same in 4 bits with a scale of 16 bits per 64). Embeddings, routers, norms and the
            vision tower stay in 16 bits.
    """
    counts = config.counts()
    packed = counts.experts + counts.linears
    kept = counts.total - packed
    if kind == "float32":
        return 4 * counts.total
    if kind == "bf16":
        return 2 * counts.total
    if kind == "int8":
        return 2 * kept + packed + 4 * _rows(config)
    return 2 * kept + packed // 2 + 2 * packed // _BLOCK


def _rows(config: ModelConfig) -> int:
    """Rows of all matrices that are quantised: each has a scale in 8 bits."""
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
    """Bytes of the keys and values of one request.

    Args:
        sizes: the model.
        tokens: prompt and finished canvases; layers with a window keep only so many.
        number: bytes of one number: 2 in bf16, 4 in float32.
    """
    total = 0
    for layer in config.layers:
        kept = tokens if layer.full_attention else min(tokens, config.sliding_window)
        total += 2 * layer.num_kv_heads * layer.head_dim * kept * number
    return total


def workspace_bytes(config: ModelConfig, rows: int, kind: str, context: int = 4096) -> int:
    """Bytes of one step beside weights and caches, at its peak.

    Args:
        sizes: the model.
        rows: canvases that run together.
        kind: how the weights are kept; quantised experts are unpacked ``GROUP_BYTES`` at a time.
        context: tokens that the canvases see; keys and values are joined with the canvas's own, layer by layer.
    """
    number = 4 if kind == "float32" else 2
    positions = rows * config.canvas_length
    stream = (
        positions * config.hidden_size * (6 * number + 2 * 4)
    )  # the residual, its norms in float32, soft embeddings
    routed = positions * config.top_k * (2 * config.hidden_size + 3 * config.expert_size) * number
    dense = positions * 3 * config.intermediate_size * number
    widest = max(
        config.layers,
        key=lambda layer: (
            layer.num_kv_heads * layer.head_dim * (context if layer.full_attention else config.sliding_window)
        ),
    )
    seen = (context if widest.full_attention else min(context, config.sliding_window)) + config.canvas_length
    attention = (
        rows * 2 * widest.num_kv_heads * widest.head_dim * seen * number
        + 3 * positions * config.num_heads * widest.head_dim * number
    )
    logits = positions * min(_TILE, config.vocab_size) * 4 * 3
    unpacked = (
        min(GROUP_BYTES, 2 * config.num_experts * 3 * config.hidden_size * config.expert_size)
        if kind in KINDS[1:]
        else 0
    )
    return stream + max(routed + unpacked, dense, attention, logits)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How the memory of a device is used.

    Attributes:
        kind: how the weights are kept: "float32", "bf16", "int8" or "nf4".
        weights: bytes of the weights.
        rows: requests that run together.
        context: tokens of prompt and text that one request may use.
        cache: bytes of the caches of all running requests.
        prefixes: bytes for the caches of shared beginnings of prompts.
        workspace: bytes of one step.
        free: bytes that are left.
        reason: why this way of keeping the weights, in a sentence.
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
    """Divide the memory of a device.

    Args:
        sizes: the model.
        memory: bytes that may be used.
        device: what it is called in messages, such as "This GPU".
        kind: how the weights are kept; None takes the best that fits.
        plain: how they are kept when they are not quantised, "bf16" or "float32".
        rows: requests that run together; None takes as many as fit, up to 16.
        context: tokens per request; None takes as many as fit with these rows, from 4,096 up to 32,768, or what the
            model can.
        reserve: bytes to leave alone, such as ``RESERVE``.

    Raises:
        ModelUnsupported: it does not fit; the message has the figures and what to do.
    """
    room = memory - reserve
    for choice in (plain, *KINDS[1:]) if kind is None else (kind,):
        found = _fit(config, room, choice, rows, context)
        if found is not None:
            return _with_reason(found, config, kind, memory, device)
    raise ModelUnsupported(_refusal(config, memory, device, kind, rows, context, reserve))


def _min_context(config: ModelConfig, context: int | None) -> int:
    return min(config.context, 4096 if context is None else context)


def _fit(config: ModelConfig, room: int, kind: str, rows: int | None, context: int | None) -> MemoryPlan | None:
    number = 4 if kind == "float32" else 2
    weights = weight_bytes(config, kind)
    tokens = _min_context(config, context)
    for count in (16, 12, 8, 6, 4, 3, 2, 1) if rows is None else (rows,):
        left = (
            room - weights - count * cache_bytes(config, tokens, number) - workspace_bytes(config, count, kind, tokens)
        )
        if left < 0:
            continue
        while context is None and 2 * tokens <= min(config.context, 32_768):
            more = count * (cache_bytes(config, 2 * tokens, number) - cache_bytes(config, tokens, number))
            more += workspace_bytes(config, count, kind, 2 * tokens) - workspace_bytes(config, count, kind, tokens)
            if more > left // 2:  # the other half is for shared beginnings
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


def _with_reason(found: MemoryPlan, config: ModelConfig, asked: str | None, memory: int, device: str) -> MemoryPlan:
    if asked is not None:
        reason = f"The weights are kept in {KIND_LABELS[found.kind]} ({gigabytes(found.weights)}), as asked for."
    elif found.kind not in KINDS[1:]:
        kept = f"{KIND_LABELS[found.kind]} ({gigabytes(found.weights)})"
        reason = f"The weights are kept in {kept}: {device} has {gigabytes(memory)}."
    else:
        better = KINDS[KINDS.index(found.kind) - 1]
        reason = (
            f"The weights are kept in {KIND_LABELS[found.kind]} ({gigabytes(found.weights)}): {device} has "
            f"{gigabytes(memory)}, and {KIND_LABELS[better]} would need {gigabytes(required_bytes(config, better))}."
        )
    return MemoryPlan(
        **{name: getattr(found, name) for name in MemoryPlan.__slots__ if name != "reason"}, reason=reason
    )


def required_bytes(config: ModelConfig, kind: str, rows: int = 1, context: int = 4096) -> int:
    """Bytes in all: weights, caches and workspace of so many requests."""
    tokens, number = min(context, config.context), 4 if kind == "float32" else 2
    cache = rows * cache_bytes(config, tokens, number)
    return weight_bytes(config, kind) + cache + workspace_bytes(config, rows, kind, tokens)


def _refusal(
    config: ModelConfig, memory: int, device: str, kind: str | None, rows: int | None, context: int | None, reserve: int
) -> str:
    tokens = _min_context(config, context)
    count = rows or 1
    choices = [*KINDS, *([kind] if kind and kind not in KINDS else [])]
    takes = {choice: required_bytes(config, choice, count, tokens) for choice in choices}
    told = ", ".join(f"{gigabytes(size)} in {KIND_LABELS[choice]}" for choice, size in takes.items())
    ways = []
    fitting = [choice for choice in KINDS if takes[choice] <= memory - reserve]
    if kind is not None and fitting:
        ways.append(f'quantize="{fitting[0]}"'.replace('"bf16"', '"none"'))
    if count > 1 and required_bytes(config, kind or KINDS[-1], 1, tokens) <= memory - reserve:
        ways.append("parallel=1")
    if tokens > 4096 and required_bytes(config, kind or KINDS[-1], count, 4096) <= memory - reserve:
        ways.append("context=4096")
    if not ways:
        ways.append(
            "a card with more memory, the GGUF file in 4 bits with llama.cpp, which can keep a part of it in the "
            "machine's own memory, or a server (vLLM)"
        )
    kept = f", of which {gigabytes(reserve)} are left to the driver" if reserve else ""
    asked = f"{count} request{'s' * (count > 1)} of {tokens:,} tokens"
    return f"{device} has {gigabytes(memory)}{kept}. For {asked} it would take {told}. Try {' and '.join(ways)}."


def gigabytes(size: int) -> str:
    """Bytes for people: "16.4 GB", or "3 MB" below a tenth."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{max(1, round(size / 1e6)):,} MB"
