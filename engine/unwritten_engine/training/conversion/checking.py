"""Whether a converted model predicts what the original does: the causal encoder and the output matrix on clean text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two models agree on the next tokens of a text.

    Attributes:
        tokens: that were predicted.
        divergence: mean of KL(original || converted), in nats.
        same: share of the tokens of which both hold the same one for the likeliest.
        original: perplexity of the original.
        converted: perplexity of the converted model.
        capped: the divergence if logits were capped at 30, as DiffusionGemma's are.
    """

    tokens: int
    divergence: float
    same: float
    original: float
    converted: float
    capped: float


def agreement(original: Any, model: Any, ids: Tensor) -> Agreement:
    """Let both predict a text.

    Args:
        original: ``Gemma3ForCausalLM``.
        model: ``DiffusionGemmaForBlockDiffusion`` over the same vocabulary.
        ids: [n, length] int64; every row begins with the token that begins a text.
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
