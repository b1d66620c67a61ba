"""Small matrices beside those of a checkpoint, which learn in their place (LoRA, arXiv 2106.09685).

Encoder and decoder share their weights, so they share the small matrices too: what is learned can be added to the
checkpoint's own matrices, once, and the result is a checkpoint like any other. Experts, embeddings and norms stay.
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
    """What is added to a matrix.

    Args:
        matrix: the matrix, [outputs, inputs].
        rank: of what is added.
        generator: draws the first of the two; the second begins at zero.
    """

    def __init__(self, matrix: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = matrix.shape
        first = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
        self.down = nn.Parameter(first.to(matrix.device))
        self.up = nn.Parameter(torch.zeros(outputs, rank, device=matrix.device))

    def forward(self, given: Tensor) -> Tensor:
        """What is added to the matrix' product with [..., inputs]."""
        return nn.functional.linear(nn.functional.linear(given.to(self.down.dtype), self.down), self.up)

    def delta(self) -> Tensor:
        """[outputs, inputs]: what is added to the matrix."""
        return self.up.detach() @ self.down.detach()


class LoRA(nn.Module):
    """The small matrices of a model.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``; from now on its products have them added.
        rank: of each.
        seed: of their first values.
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
            for here in (module, twins.get(name)):
                if here is not None:
                    here.register_forward_hook(_add_output(added))

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Meanwhile the small matrices are a part of the model's own, to be written. It must not be asked then."""
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
    def add(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
        more: Tensor = added(given[0])
        return result + more.to(result.dtype)

    return add
