"""Measure attention inputs on text for the conversion, and compare the converted model with the original."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from unwritten_engine.engine import Progress

_BATCH = 4


def attention_inputs(model: Any, ids: Tensor, progress: Progress) -> list[Tensor]:
    """Return the normalized input of each layer's attention, before the norm's weights.

    Args:
        model: ``Gemma3ForCausalLM``.
        ids: [n, length] int64; every row starts with the begin token.
        progress: gets the share of processed rows.

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


def ridge_regression(inputs: Tensor, targets: Tensor, weights: Tensor, strength: float) -> Tensor:
    """Return the regularized linear map from inputs to targets.

    Args:
        inputs: [n, in].
        targets: [n, out].
        weights: [n], weights of the samples.
        strength: regularization, relative to the sum of the weights.

    Returns:
        [out, in].
    """
    scaled = inputs * weights[:, None]
    square = (inputs.T @ scaled).double()
    square.diagonal().add_(strength * float(weights.sum()))
    found: Tensor = torch.linalg.solve(square, (scaled.T @ targets).double()).T.float()
    return found


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two models on the next tokens of a text.

    Attributes:
        tokens: predicted tokens.
        divergence: mean of KL(original || converted), in nats.
        same: share of tokens with the same most likely prediction.
        original: perplexity of the original.
        converted: perplexity of the converted model.
        capped: the divergence if logits were capped at 30, as in DiffusionGemma.
    """

    tokens: int
    divergence: float
    same: float
    original: float
    converted: float
    capped: float


def compare_models(original: Any, model: Any, ids: Tensor) -> Agreement:
    """Compare the predictions of two models.

    Args:
        original: ``Gemma3ForCausalLM``.
        model: ``DiffusionGemmaForBlockDiffusion`` with the same vocabulary.
        ids: [n, length] int64; every row starts with the begin token.
    """
    totals = torch.zeros(5, dtype=torch.float64)
    count = 0
    for row in torch.split(ids, 1):
        with torch.no_grad():
            wanted = original(row, use_cache=False).logits[0, :-1].float()
            hidden = model.model.encoder.language_model(row).last_hidden_state[0, :-1]
            raw = model.lm_head(hidden).float()
        found = _capped(raw, model.final_logit_softcapping)
        truth, target = log_softmax(wanted, -1), row[0, 1:]
        totals += torch.stack(
            [
                _divergence(truth, found),
                (wanted.argmax(-1) == found.argmax(-1)).sum().double(),
                cross_entropy(wanted, target, reduction="sum").double(),
                cross_entropy(found, target, reduction="sum").double(),
                _divergence(truth, _capped(raw, 30.0)),
            ]
        )
        count += len(target)
    divergence, same, original_loss, converted_loss, capped = (totals / count).tolist()
    return Agreement(count, divergence, same, math.exp(original_loss), math.exp(converted_loss), capped)


def _capped(logits: Tensor, cap: float) -> Tensor:
    return torch.tanh(logits / cap) * cap


def _divergence(truth: Tensor, found: Tensor) -> Tensor:
    return (truth.exp() * (truth - log_softmax(found, -1))).sum().double()
