"""Weights in 4 or 8 bits: experts and linear layers that are unpacked on use.

nf4: blocks of 64 weights share a scale, and each weight is one of 16 levels that suit a normal distribution
(bitsandbytes packs and unpacks them; scales are stored in bfloat16 instead of float32, which saves 3 % of the memory
without measurable loss). int8: each output row has a scale, and each weight is an integer from -127 to 127.

bitsandbytes does not quantize the fused experts of this model. Here they are packed one by one, so that packing needs
memory for one expert. On a GPU one kernel runs all experts of a layer and unpacks their weights in registers
(``grouped_experts.py``). On a CPU, or without Triton, the chosen experts are unpacked one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..int8 import pack_int8
from .grouped_experts import BLOCK, ExpertMatrices, is_available, run_grouped


def can_pack(inputs: int, kind: str) -> bool:
    """Return True if matrices with this many inputs can be packed: nf4 needs whole blocks in every row."""
    return kind == "int8" or inputs % BLOCK == 0


def pack_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Pack [out, in] into 4 bits.

    Returns:
        codes: [out * in / 2] uint8, two weights each.
        scales: [out * in / 64] bfloat16.
    """
    from bitsandbytes import functional as bits

    codes, state = bits.quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
    return codes.view(-1), state.absmax.view(-1).to(torch.bfloat16)


def unpack_nf4(codes: Tensor, scales: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Unpack the result of ``pack_nf4``. Codes of several matrices may be concatenated."""
    from bitsandbytes import functional as bits

    make: Any = bits.QuantState
    state = make(absmax=scales.float(), shape=torch.Size(shape), blocksize=BLOCK, quant_type="nf4", dtype=dtype)
    weights: Tensor = bits.dequantize_4bit(codes.view(-1, 1), state)
    return weights


class PackedLinear(nn.Module):
    """A linear layer without bias, in 4 or 8 bits."""

    def __init__(self, weight: Tensor, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.shape = (weight.shape[0], weight.shape[1])
        codes, scales = pack_nf4(weight) if kind == "nf4" else pack_int8(weight)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.codes: Tensor
        self.scales: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        if self.kind == "nf4":
            return F.linear(inputs, unpack_nf4(self.codes, self.scales, self.shape, inputs.dtype))
        return F.linear(inputs, self.codes.to(inputs.dtype)) * self.scales.to(inputs.dtype)


class PackedExperts(nn.Module):
    """The experts of one layer in 4 or 8 bits, with the call signature of transformers' experts.

    Args:
        experts: number of experts.
        hidden: hidden size.
        inner: intermediate size of an expert.
        kind: "nf4" or "int8".
        activation: of the gate.
        device: device of the weights.

    The experts are empty until ``put`` fills them.
    """

    def __init__(
        self,
        experts: int,
        hidden: int,
        inner: int,
        kind: str,
        activation: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        super().__init__()
        self.experts, self.hidden, self.inner = experts, hidden, inner
        self.kind, self.act_fn = kind, activation
        self.use_kernel = device.type not in ("cpu", "mps") and is_available()
        """Run all experts in one kernel rather than one after the other."""
        for name, rows, columns in (("gate_up", 2 * inner, hidden), ("down", hidden, inner)):
            if kind == "nf4":
                codes = torch.empty(experts, rows * columns // 2, dtype=torch.uint8, device=device)
                scales = torch.empty(experts, rows * columns // BLOCK, dtype=torch.bfloat16, device=device)
            else:
                codes = torch.empty(experts, rows, columns, dtype=torch.int8, device=device)
                scales = torch.empty(experts, rows, dtype=torch.float32, device=device)
            self.register_buffer(f"{name}_codes", codes)
            self.register_buffer(f"{name}_scales", scales)

    def put(self, name: str, expert: int, weight: Tensor) -> None:
        """Pack a matrix of one expert.

        Args:
            name: "gate_up_proj", [2 * inner, hidden], or "down_proj", [hidden, inner].
            expert: index of the expert.
            weight: on the same device.
        """
        codes, scales = pack_nf4(weight) if self.kind == "nf4" else pack_int8(weight)
        part = name.removesuffix("_proj")
        getattr(self, f"{part}_codes")[expert].copy_(codes)
        getattr(self, f"{part}_scales")[expert].copy_(scales)

    def matrices(self, part: str) -> ExpertMatrices:
        """Return the packed "gate_up" or "down" matrices."""
        rows, columns = (2 * self.inner, self.hidden) if part == "gate_up" else (self.hidden, self.inner)
        return ExpertMatrices(self.kind, rows, columns, getattr(self, f"{part}_codes"), getattr(self, f"{part}_scales"))

    def unpacked(self, part: str, expert: int, dtype: torch.dtype) -> Tensor:
        """Return the unpacked "gate_up" or "down" matrix of an expert, [out, in]."""
        packed = self.matrices(part)
        assert packed.scales is not None
        codes, scales = packed.codes[expert], packed.scales[expert]
        if self.kind == "int8":
            return codes.to(dtype).mul_(scales[:, None].to(dtype))
        return unpack_nf4(codes, scales, (packed.outputs, packed.inputs), dtype)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Run each token through its experts.

        Args:
            hidden_states: [tokens, hidden].
            top_k_index: [tokens, k] int64, the experts of each token.
            top_k_weights: [tokens, k], their weights.

        Returns:
            [tokens, hidden].
        """
        if self.use_kernel:
            return run_grouped(
                hidden_states, top_k_index, top_k_weights, self.matrices("gate_up"), self.matrices("down"), self.act_fn
            )
        return self._looped(hidden_states, top_k_index, top_k_weights)

    def _looped(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Run the chosen experts one by one. Reads their counts on the host, which is free on a CPU."""
        tokens, chosen = top_k_index.shape
        order = top_k_index.reshape(-1).argsort(stable=True)
        rows = hidden_states[order // chosen]
        out = torch.empty_like(rows)
        begin = 0
        for expert, count in enumerate(torch.bincount(top_k_index.reshape(-1), minlength=self.experts).tolist()):
            if count:
                part = rows[begin : begin + count]
                gate, up = F.linear(part, self.unpacked("gate_up", expert, rows.dtype)).chunk(2, -1)
                out[begin : begin + count] = F.linear(self.act_fn(gate) * up, self.unpacked("down", expert, rows.dtype))
                begin += count
        out = out * top_k_weights.reshape(-1)[order, None]
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel(), device=order.device)
        return out[inverse].view(tokens, chosen, self.hidden).sum(1).to(hidden_states.dtype)
