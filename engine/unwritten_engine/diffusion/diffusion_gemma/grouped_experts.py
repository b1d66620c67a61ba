"""The experts of a layer on a GPU: one Triton kernel for all of them.

A token uses a few of many experts, so the products of a layer differ in which matrix they take. ``run_grouped`` sorts
the pairs of token and expert by expert and cuts them into tiles of rows that share an expert. One kernel then runs all
tiles. It reads 4-bit, 8-bit or plain weights and unpacks them in registers, so unpacked weights are never in memory.

All shapes depend on the number of tokens only, and nothing is read by the host: the experts can be part of a CUDA
graph. The number of tiles is the largest that can occur; tiles that are not needed return at once.

Triton comes with the CUDA builds of torch. Tile sizes have not been tuned on hardware.
"""
# Triton may be missing, and its kernels are not quite Python.
# pyright: reportOptionalMemberAccess=false, reportInvalidTypeForm=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor

try:
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]
except ImportError:  # builds of torch for the CPU, macOS and Windows
    triton = tl = None

BLOCK: Final = 64
"""Columns that the kernel takes at a time. In nf4 they share a scale."""
COLUMNS: Final = 64
"""Outputs that one program computes."""
MAX_TILE: Final = 64
"""The largest tile in rows."""


@dataclass(frozen=True, slots=True)
class ExpertMatrices:
    """One matrix of each expert of a layer.

    Attributes:
        kind: "plain", "int8" or "nf4".
        outputs: rows of a matrix.
        inputs: columns of a matrix; in nf4 a multiple of 64.
        codes: the weights, [experts, outputs, inputs], or in nf4 two to a byte.
        scales: of a row in int8, of 64 weights in nf4; None for plain weights.
    """

    kind: str
    outputs: int
    inputs: int
    codes: Tensor
    scales: Tensor | None


def is_available() -> bool:
    """True if Triton is installed."""
    return triton is not None


def run_grouped(
    hidden: Tensor,
    chosen: Tensor,
    weights: Tensor,
    gate_up: ExpertMatrices,
    down: ExpertMatrices,
    activation: Callable[[Tensor], Tensor],
) -> Tensor:
    """Run each token through its experts, without waiting for the host.

    Args:
        hidden: [tokens, inputs].
        chosen: [tokens, k] int64, the experts of each token.
        weights: [tokens, k], their weights.
        gate_up: gates and inputs of the experts, stacked.
        down: outputs of the experts.
        activation: of the gates.

    Returns:
        [tokens, outputs] in the dtype of ``hidden``.
    """
    count, k = chosen.shape
    experts = gate_up.codes.shape[0]
    order = chosen.reshape(-1).argsort(stable=True)
    tiles = make_tiles(chosen, experts, tile_rows(count * k, experts))
    up = _multiply(hidden, gate_up, order, tiles, k, None)
    gate, linear = up.chunk(2, dim=-1)
    inner = activation(gate).mul_(linear)
    del up, gate, linear
    out = _multiply(inner, down, order, tiles, 1, weights.reshape(-1).float())
    return out.view(count, k, -1).sum(1)


def run_plain(experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Run unquantized experts of transformers; an implementation for its ``ExpertsInterface``."""
    if hidden.requires_grad:  # in training: the kernel has no derivative
        from transformers.integrations.moe import grouped_mm_experts_forward

        return grouped_mm_experts_forward(experts, hidden, chosen, weights)
    gate_up, down = (
        ExpertMatrices("plain", matrix.shape[1], matrix.shape[2], matrix, None)
        for matrix in (experts.gate_up_proj, experts.down_proj)
    )
    return run_grouped(hidden, chosen, weights, gate_up, down, experts.act_fn)


def tile_rows(pairs: int, experts: int) -> int:
    """Return the rows of a tile: about as many as an expert has, and a power of two."""
    rows = 16  # the least that tensor cores take
    while rows < MAX_TILE and rows * experts < pairs:
        rows *= 2
    return rows


@dataclass(frozen=True, slots=True)
class Tiles:
    """Rows of pairs, sorted by expert, in tiles that do not cross an expert.

    Attributes:
        size: rows of a tile.
        experts: [tiles] int32, the expert of each tile.
        starts: [tiles] int32, its first row.
        ends: [tiles] int32, the end of its expert's rows; 0 for tiles that are not needed.
    """

    size: int
    experts: Tensor
    starts: Tensor
    ends: Tensor


def make_tiles(chosen: Tensor, experts: int, size: int) -> Tiles:
    """Cut the sorted pairs into tiles. The number of tiles depends on shapes only."""
    flat = chosen.reshape(-1)
    counts = torch.zeros(experts, dtype=torch.int64, device=flat.device)
    counts.scatter_add_(0, flat, torch.ones_like(flat))  # bincount would wait for the host
    ends, tiles = counts.cumsum(0), (counts + size - 1) // size
    behind = tiles.cumsum(0)
    numbers = torch.arange(flat.numel() // size + experts, device=flat.device)
    expert = torch.searchsorted(behind, numbers, right=True).clamp_(max=experts - 1)
    start = (ends - counts)[expert] + (numbers - (behind - tiles)[expert]) * size
    end = torch.where(numbers < behind[-1], ends[expert], 0)
    return Tiles(size, expert.int(), start.int(), end.int())


def _multiply(
    rows: Tensor, matrices: ExpertMatrices, order: Tensor, tiles: Tiles, shared: int, factors: Tensor | None
) -> Tensor:
    """Multiply the row of each pair with the matrix of its expert.

    Args:
        rows: [pairs / shared, inputs].
        matrices: one per expert.
        order: [pairs] int64, the pairs sorted by expert.
        tiles: of the sorted pairs.
        shared: pairs in a row that take the same row.
        factors: [pairs] float32, multiplied with the results; None for 1.

    Returns:
        [pairs, outputs], in the order of the pairs.
    """
    out = torch.empty((order.numel(), matrices.outputs), dtype=rows.dtype, device=rows.device)
    _launch(rows.contiguous(), matrices, order, tiles, shared, factors, out)
    return out


def _launch(
    rows: Tensor,
    matrices: ExpertMatrices,
    order: Tensor,
    tiles: Tiles,
    shared: int,
    factors: Tensor | None,
    out: Tensor,
) -> None:
    codes = matrices.codes
    scales = codes if matrices.scales is None else matrices.scales  # arguments that a format does not use
    levels = _levels(rows.device) if matrices.kind == "nf4" else codes
    device_of: Any = torch.cuda.device_of
    with device_of(rows):  # Triton launches on the current GPU, not on that of the tensors
        _grouped_matmul[(tiles.experts.numel(), triton.cdiv(matrices.outputs, COLUMNS))](
            rows, codes, scales, levels, factors if factors is not None else out, out,
            order, tiles.experts, tiles.starts, tiles.ends, matrices.inputs, matrices.outputs,
            KIND=matrices.kind, SHARED=shared, WEIGHTED=factors is not None, ROWS=tiles.size, COLUMNS=COLUMNS,
            num_warps=4, num_stages=3,
        )  # fmt: skip


@cache
def _levels(device: torch.device) -> Tensor:
    """Return the 16 levels of nf4."""
    from bitsandbytes import functional as bits

    get_levels: Any = bits.get_4bit_type
    levels: Tensor = get_levels("nf4", device="cpu")
    return levels.to(device)


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _grouped_matmul(  # type: ignore[no-untyped-def]
        rows, codes, scales, levels, factors, out, order, tile_experts, tile_starts, tile_ends, inputs, outputs,
        KIND: tl.constexpr, SHARED: tl.constexpr, WEIGHTED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    ) -> None:  # fmt: skip
        tile = tl.program_id(0)
        start = tl.load(tile_starts + tile)
        end = tl.load(tile_ends + tile)
        if start >= end:  # a tile that is not needed
            return
        place = start + tl.arange(0, ROWS)
        real = place < end
        pair = tl.load(order + place, mask=real, other=0)
        row = rows + (pair // SHARED)[:, None] * inputs
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        inside = column < outputs
        matrix = tl.load(tile_experts + tile).to(tl.int64) * outputs + column  # rows of all matrices, stacked
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(0, inputs, 64):
            if KIND == "nf4":  # the first of two weights is in the upper half of a byte
                half = tl.arange(0, 32)
                even = tl.load(row + (k + 2 * half)[None, :], mask=real[:, None], other=0.0)
                odd = tl.load(row + (k + 2 * half + 1)[None, :], mask=real[:, None], other=0.0)
                packed = tl.load(
                    codes + ((matrix * inputs + k) // 2)[None, :] + half[:, None], mask=inside[None, :], other=0
                )
                scale = tl.load(scales + (matrix * inputs + k) // 64, mask=inside, other=0.0).to(tl.float32)
                upper = (tl.load(levels + (packed >> 4).to(tl.int32)) * scale[None, :]).to(even.dtype)
                lower = (tl.load(levels + (packed & 15).to(tl.int32)) * scale[None, :]).to(even.dtype)
                total = tl.dot(even, upper, total, input_precision="ieee")
                total = tl.dot(odd, lower, total, input_precision="ieee")
            else:
                at = k + tl.arange(0, 64)
                valid = at < inputs
                values = tl.load(row + at[None, :], mask=real[:, None] & valid[None, :], other=0.0)
                weight = tl.load(
                    codes + (matrix * inputs)[None, :] + at[:, None], mask=inside[None, :] & valid[:, None], other=0
                )
                total = tl.dot(values, weight.to(values.dtype), total, input_precision="ieee")
        if KIND == "int8":
            total *= tl.load(scales + matrix, mask=inside, other=0.0)[None, :]
        if WEIGHTED:
            total *= tl.load(factors + pair, mask=real, other=0.0)[:, None]
        tl.store(
            out + pair[:, None] * outputs + column[None, :], total.to(out.dtype.element_ty),
            mask=real[:, None] & inside[None, :],
        )  # fmt: skip
