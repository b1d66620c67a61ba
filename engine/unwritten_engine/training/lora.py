"""LoRA (arXiv 2106.09685): low-rank matrices that are trained instead of a checkpoint's own.

Encoder and decoder share their weights, so they share the LoRA matrices too. The result can be merged into the
checkpoint. Experts, embeddings and norms are not adapted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

_ADAPTED: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoRALinear(nn.Module):
    """The low-rank update of a matrix.

    Args:
        matrix: the matrix, [outputs, inputs].
        rank: rank of the update.
        generator: draws the first factor; the second is zero.
    """

    def __init__(self, matrix: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = matrix.shape
        first = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
        self.down = nn.Parameter(first.to(matrix.device))
        self.up = nn.Parameter(torch.zeros(outputs, rank, device=matrix.device))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what is added to the matrix product with [..., inputs]."""
        return nn.functional.linear(nn.functional.linear(inputs.to(self.down.dtype), self.down), self.up)

    def delta(self) -> Tensor:
        """Return the update of the matrix, [outputs, inputs]."""
        return self.up.detach() @ self.down.detach()


class LoRA(nn.Module):
    """The LoRA matrices of a model.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``; its outputs include the updates from now on.
        rank: rank of each update.
        seed: of the initial values.
    """

    def __init__(self, model: Any, rank: int, seed: int) -> None:
        super().__init__()
        model.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        decoder, encoder = model.model.decoder, model.model.encoder.language_model
        twins = dict(encoder.named_modules())
        self._matrices: list[tuple[Tensor, LoRALinear]] = []
        self.beside = nn.ModuleDict()
        for name, module in decoder.named_modules():
            if not isinstance(module, nn.Linear) or name.rpartition(".")[2] not in _ADAPTED:
                continue
            added = LoRALinear(module.weight, rank, generator)
            self.beside[name.replace(".", "/")] = added
            self._matrices.append((module.weight, added))
            for owner in (module, twins.get(name)):
                if owner is not None:
                    owner.register_forward_hook(_add_output(added))

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merge the updates into the model's matrices inside the block, to save it. The model must not run then."""
        before = [matrix.detach().clone() for matrix, _ in self._matrices]
        with torch.no_grad():
            for matrix, added in self._matrices:
                matrix.add_(added.delta().to(matrix.dtype))
        try:
            yield
        finally:
            with torch.no_grad():
                for (matrix, _), value in zip(self._matrices, before, strict=True):
                    matrix.copy_(value)


def _add_output(added: LoRALinear) -> Any:
    def add(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
        more: Tensor = added(inputs[0])
        return result + more.to(result.dtype)

    return add
