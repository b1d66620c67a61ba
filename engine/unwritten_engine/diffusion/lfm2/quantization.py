"""Linear layers in 8 bits for a CPU.

Each output has a scale for its weights. Each token has one for its inputs, which is computed in every pass, so that the
result for a token does not depend on the others in the batch. ``torch._int_mm`` multiplies the integers; torchao does
that too, but its layers are only fast in compiled code.

On x86 CPUs without instructions for products of 8 bits (VNNI), oneDNN adds pairs of products in 16 bits, which
saturate silently. The weights have 7 bits there, which always fit.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..int8 import LARGEST, pack_int8

_LARGEST_IN_7_BITS: Final = 63


class Int8Linear(nn.Module):
    """A linear layer with weights in 8 bits. It is empty until ``put`` fills it.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.empty(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scales", torch.empty(outputs))
        self.register_parameter("bias", None)
        self.codes: Tensor
        self.scales: Tensor
        self.bias: nn.Parameter | None

    def put(self, weight: Tensor) -> None:
        """Quantize [outputs, inputs]."""
        self.codes, self.scales = pack_int8(weight, LARGEST if multiplies_exactly() else _LARGEST_IN_7_BITS)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., tokens, inputs] to [..., tokens, outputs], in the dtype of the inputs."""
        codes, scales = pack_int8(inputs.flatten(end_dim=-2))
        product = multiply_int8(codes, self.codes.t())
        outputs = product.float().mul_(scales[:, None]).mul_(self.scales)
        if self.bias is not None:
            outputs += self.bias
        return outputs.to(inputs.dtype).view(*inputs.shape[:-1], -1)


def use_int8(module: nn.Module) -> None:
    """Replace all linear layers inside a module by empty ones in 8 bits. Biases stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            replacement = Int8Linear(child.in_features, child.out_features)
            replacement.bias = child.bias
            setattr(module, name, replacement)
        else:
            use_int8(child)


def multiply_int8(first: Tensor, second: Tensor) -> Tensor:
    """Return the product of two matrices of 8 bits, in 32 bits."""
    product: Tensor = torch._int_mm(first, second)  # pyright: ignore[reportPrivateImportUsage]
    return product


def has_onednn() -> bool:
    """True if torch was built with oneDNN. Without it, ``torch._int_mm`` is a plain loop."""
    onednn: Any = torch.backends.mkldnn
    return bool(onednn.is_available())


@cache
def multiplies_exactly() -> bool:
    """Return False if large products of 8 bits saturate on this CPU."""
    numbers = torch.full((32, 64), LARGEST, dtype=torch.int8)
    return bool((multiply_int8(numbers, numbers.t()) == LARGEST**2 * 64).all())
