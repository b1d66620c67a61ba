"""What a model's attention is given while it reads ordinary text: from this the conversion takes its means."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...engine import Progress

_BATCH = 4


def attention_inputs(model: Any, ids: Tensor, progress: Progress) -> list[Tensor]:
    """What the attention of each layer is given, normalised, before the weights of the norm.

    Args:
        model: ``Gemma3ForCausalLM``.
        ids: [n, length] int64; every row begins with the token that begins a text.
        progress: told the share of the rows that are read.

    Returns:
        For each layer [n, length, hidden]; every vector has a mean square of 1.
    """
    found: list[list[Tensor]] = [[] for _ in model.model.layers]
    hooks = []
    for into, layer in zip(found, model.model.layers, strict=True):
        norm = layer.input_layernorm

        def keep(_module: Any, given: tuple[Tensor, ...], into: list[Tensor] = into, norm: Any = norm) -> None:
            into.append(norm._norm(given[0].float()))

        hooks.append(norm.register_forward_pre_hook(keep))
    try:
        with torch.no_grad():
            for start in range(0, len(ids), _BATCH):
                progress(start / len(ids), "Reading text to measure what attention is given")
                model.model(ids[start : start + _BATCH], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(parts) for parts in found]


def ridge(inputs: Tensor, targets: Tensor, weights: Tensor, strength: float) -> Tensor:
    """The linear map that comes closest to the targets and is small.

    Args:
        inputs: [n, in].
        targets: [n, out].
        weights: [n], how much each of them counts.
        strength: how much the size of the map counts, as a share of the sum of the weights.

    Returns:
        [out, in].
    """
    scaled = inputs * weights[:, None]
    square = (inputs.T @ scaled).double()
    square.diagonal().add_(strength * float(weights.sum()))
    found: Tensor = torch.linalg.solve(square, (scaled.T @ targets).double()).T.float()
    return found
