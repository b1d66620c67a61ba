"""Plan the memory of a device: what fits besides the weights of a model. Does not use torch.

How much a model needs is its family's to say (``MemoryNeeds``). The numbers cover weights, the caches of all requests
and the workspace, on the GPU or in main memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ...errors import ModelUnsupported

KINDS: Final = ("bf16", "int8", "nf4")
"""Weight formats, best first."""
KIND_LABELS: Final = {"float32": "32 bits", "bf16": "bf16", "int8": "8 bits", "nf4": "4 bits"}
RESERVE: Final = 700_000_000
"""Bytes of the driver, its libraries and allocator fragmentation on a GPU."""
VOCAB_BLOCK: Final = 64
"""Tokens per block, the unit in which the sampler stores masses."""
DRAW_TILE: Final = 256
"""Positions at a time while tokens are drawn: each needs the weights of a whole block."""
PREFILL_CHUNK: Final = 1024
"""Prompt tokens that are prefilled in one pass. More would need more memory than a step of four canvases."""
_CHUNK: Final = 16_384  # tokens of the vocabulary that the sampler has logits of at one time
_LOGITS: Final = 2**24  # logits at one time, which limits the chunk with many positions: 67 MB in float32


def chunk_on_gpu(positions: int) -> int:
    """Return how many tokens of the vocabulary the sampler processes at a time on a GPU."""
    return max(VOCAB_BLOCK, min(_CHUNK, _LOGITS // positions // VOCAB_BLOCK * VOCAB_BLOCK))


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """How much memory a model needs. Its family computes this from the ``config.json``.

    Attributes:
        kinds: weight formats that the family supports besides "float32", best first.
        context: maximum tokens of one request.
        weights: returns the bytes of the weights in a format.
        cache: returns the bytes of the cache of one request for a number of tokens and of bytes per number (2 or 4).
        workspace: returns the bytes of everything else for a number of rows, a weight format, and cached tokens per
            row: the state of the rows, and the peak of a denoising step or of a prefill.
        advice: other ways to run a model that does not fit.
    """

    kinds: tuple[str, ...]
    context: int
    weights: Callable[[str], int]
    cache: Callable[[int, int], int]
    workspace: Callable[[int, str, int], int]
    advice: str


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
        workspace: bytes of steps and prefills, see ``MemoryNeeds``.
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
    needs: MemoryNeeds,
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
        needs: of the model.
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
    for choice in (plain, *needs.kinds[1:]) if kind is None else (kind,):
        plan = _fit(needs, available, choice, rows, context)
        if plan is not None:
            return _with_reason(plan, needs, kind, memory, device)
    raise ModelUnsupported(_refusal(needs, memory, device, kind, rows, context, reserve))


def _min_context(needs: MemoryNeeds, context: int | None) -> int:
    return min(needs.context, 4096 if context is None else context)


def _fit(needs: MemoryNeeds, available: int, kind: str, rows: int | None, context: int | None) -> MemoryPlan | None:
    number = 4 if kind == "float32" else 2
    weights = needs.weights(kind)
    tokens = _min_context(needs, context)
    for count in (16, 12, 8, 6, 4, 3, 2, 1) if rows is None else (rows,):
        left = available - weights - count * needs.cache(tokens, number) - needs.workspace(count, kind, tokens)
        if left < 0:
            continue
        while context is None and 2 * tokens <= min(needs.context, 32_768):
            more = count * (needs.cache(2 * tokens, number) - needs.cache(tokens, number))
            more += needs.workspace(count, kind, 2 * tokens) - needs.workspace(count, kind, tokens)
            if more > left // 2:  # the other half is for the prefix cache
                break
            tokens, left = 2 * tokens, left - more
        prefixes = min(left // 2, 16 * needs.cache(tokens, number))
        return MemoryPlan(
            kind=kind,
            weights=weights,
            rows=count,
            context=tokens,
            cache=count * needs.cache(tokens, number),
            prefixes=prefixes,
            workspace=needs.workspace(count, kind, tokens),
            free=left - prefixes,
            reason="",
        )
    return None


def _with_reason(plan: MemoryPlan, needs: MemoryNeeds, asked: str | None, memory: int, device: str) -> MemoryPlan:
    if asked is not None:
        reason = f"The weights are kept in {KIND_LABELS[plan.kind]} ({gigabytes(plan.weights)}), as requested."
    elif plan.kind not in needs.kinds[1:]:
        label = f"{KIND_LABELS[plan.kind]} ({gigabytes(plan.weights)})"
        reason = f"The weights are kept in {label}: {device} has {gigabytes(memory)}."
    else:
        better = needs.kinds[needs.kinds.index(plan.kind) - 1]
        reason = (
            f"The weights are kept in {KIND_LABELS[plan.kind]} ({gigabytes(plan.weights)}): {device} has "
            f"{gigabytes(memory)}, and {KIND_LABELS[better]} would need {gigabytes(required_bytes(needs, better))}."
        )
    return replace(plan, reason=reason)


def required_bytes(needs: MemoryNeeds, kind: str, rows: int = 1, context: int = 4096) -> int:
    """Return the total bytes of weights, caches and workspace."""
    tokens, number = min(context, needs.context), 4 if kind == "float32" else 2
    cache = rows * needs.cache(tokens, number)
    return needs.weights(kind) + cache + needs.workspace(rows, kind, tokens)


def _refusal(
    needs: MemoryNeeds, memory: int, device: str, kind: str | None, rows: int | None, context: int | None, reserve: int
) -> str:
    tokens = _min_context(needs, context)
    count = rows or 1
    choices = [*needs.kinds, *([kind] if kind and kind not in needs.kinds else [])]
    required = {choice: required_bytes(needs, choice, count, tokens) for choice in choices}
    sizes = ", ".join(f"{gigabytes(size)} in {KIND_LABELS[choice]}" for choice, size in required.items())
    ways = []
    fitting = [choice for choice in needs.kinds if required[choice] <= memory - reserve]
    if kind is not None and fitting:
        ways.append(f'quantize="{fitting[0]}"'.replace('"bf16"', '"none"'))
    if count > 1 and required_bytes(needs, kind or needs.kinds[-1], 1, tokens) <= memory - reserve:
        ways.append("parallel=1")
    if tokens > 4096 and required_bytes(needs, kind or needs.kinds[-1], count, 4096) <= memory - reserve:
        ways.append("context=4096")
    if not ways:
        ways.append(needs.advice)
    reserved = f", of which the driver needs {gigabytes(reserve)}" if reserve else ""
    requests = f"{count} request{'s' * (count > 1)} of {tokens:,} tokens"
    return (
        f"{device} has {gigabytes(memory)}{reserved}. The model needs {sizes} for {requests}. Try {' and '.join(ways)}."
    )


def gigabytes(size: int) -> str:
    """Format bytes: "16.4 GB", or "3 MB" below a tenth of a gigabyte."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{max(1, round(size / 1e6)):,} MB"
