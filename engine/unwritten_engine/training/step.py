"""One training step: noise, self-conditioning, loss, and the optimizer step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from .config import TrainingConfig
from .objective import LossWeights, add_noise, add_noise_at_level, mean_embeddings, token_losses
from .packing import TEXT, PackedBatch
from .trainable_model import EncodedPrefix, TrainableModel

T_MIN, T_SPAN = 0.4, 0.4
"""The temperatures of the published sampler, which falls from 0.8 to 0.4 as a canvas settles, for self-conditioning."""
EVAL_NOISE_LEVELS: Final = (0.25, 0.5, 0.75, 1.0)
"""Noise levels of the evaluation."""


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Metrics of a step.

    Attributes:
        loss: weighted mean over the canvases, in nats.
        grad_norm: gradient norm before clipping.
        tokens: text tokens on the canvases, including copies.
    """

    loss: float
    grad_norm: float
    tokens: int


def make_optimizer(weights: Iterable[nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay for matrices only."""
    trainable = [weight for weight in weights if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trainable if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in trainable if weight.ndim < 2], "weight_decay": 0.0},
    ]
    fused = bool(trainable) and trainable[0].device.type == "cuda"
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=1.0, betas=(0.9, 0.98), fused=fused)


class Stepper:
    """Runs training steps.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        weights: the trained weights: the model's own, or those of LoRA.
        config: the configuration.
        device: device of the model.
    """

    def __init__(
        self, model: Any, weights: Iterable[nn.Parameter], config: TrainingConfig, device: torch.device
    ) -> None:
        self._model = TrainableModel(model)
        self._config, self._device = config, device
        self._weights = list(weights)
        self._loss_weights = LossWeights(config.end_weight, config.pad_weight)
        table = model.model.decoder.embed_tokens
        self._scale = float(table.scalar_embed_scale)
        self._vocabulary = int(table.weight.shape[0])

    def step(self, batch: PackedBatch, number: int, optimizer: torch.optim.AdamW) -> StepMetrics:
        """Train on a batch. A step whose gradient is not finite is skipped and reported as nan.

        Args:
            batch: on the CPU.
            number: number of the step, from 0.
            optimizer: of the weights.
        """
        config = self._config
        noised = add_noise(
            batch.canvases.flatten(0, 1),
            batch.kinds.flatten(0, 1),
            self._vocabulary,
            seed=config.seed,
            step=number,
            share=config.self_conditioned_share,
        )
        batch_on_device, ids = batch.to(self._device), noised.ids.view(batch.canvases.shape).to(self._device)
        counts = (
            self._loss_weights.for_kinds(batch_on_device.kinds) * (batch_on_device.canvas_document_ids >= 0)[:, :, None]
        )
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(number)
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad(), self._autocast():
            with self._model.record_routing() as reading:
                prefix = self._model.encode(batch_on_device)
            soft = self._self_conditioning(prefix, batch_on_device, ids, noised.levels, noised.conditioned)
            with self._model.record_routing() as looking:
                hidden = self._model.decode(prefix, batch_on_device, ids, soft)
            nats = token_losses(
                hidden.flatten(0, 1), self._model.weight, self._model.cap, batch_on_device.canvases.flatten()
            )
            loss = (nats * counts.flatten()).sum() / counts.sum().clamp(min=1e-6)
            total = loss + config.balance_weight * torch.stack([*reading, *looking]).mean()
        torch.autograd.backward(total)
        grad_norm = float(nn.utils.clip_grad_norm_(self._weights, config.max_grad_norm))
        if not math.isfinite(grad_norm):
            optimizer.zero_grad(set_to_none=True)
            return StepMetrics(math.nan, math.nan, 0)
        optimizer.step()
        return StepMetrics(float(loss.detach()), grad_norm, int((batch_on_device.kinds == TEXT).sum()))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[PackedBatch]) -> dict[float, float]:
        """Return the mean loss of text in nats per token, by noise level (``EVAL_NOISE_LEVELS``).

        The noise is always the same, and there is no self-conditioning, so that results are reproducible.
        """
        sums, tokens = dict.fromkeys(EVAL_NOISE_LEVELS, 0.0), 0
        for number, batch in enumerate(batches):
            batch_on_device = batch.to(self._device)
            flat, kinds = batch.canvases.flatten(0, 1), batch.kinds.flatten(0, 1)
            text = ((batch_on_device.kinds == TEXT) & (batch_on_device.canvas_document_ids >= 0)[:, :, None]).flatten()
            tokens += int(text.sum())
            with self._autocast():
                prefix = self._model.encode(batch_on_device)
                for level in EVAL_NOISE_LEVELS:
                    drawn = torch.Generator().manual_seed(number)
                    noised = add_noise_at_level(flat, kinds, self._vocabulary, torch.full((len(flat),), level), drawn)
                    ids = noised.view(batch.canvases.shape).to(self._device)
                    hidden = self._model.decode(prefix, batch_on_device, ids, None).flatten(0, 1)
                    nats = token_losses(
                        hidden[text], self._model.weight, self._model.cap, batch_on_device.canvases.flatten()[text]
                    )
                    sums[level] += float(nats.sum())
        return {level: total / max(1, tokens) for level, total in sums.items()}

    def _self_conditioning(
        self, prefix: EncodedPrefix, batch: PackedBatch, ids: Tensor, levels: Tensor, conditioned: Tensor
    ) -> Tensor | None:
        """Return the mean embeddings of a first pass, for the canvases with self-conditioning, [B, K·C, hidden]."""
        if not bool(conditioned.any()):
            return None
        with torch.no_grad():
            hidden = self._model.decode(prefix.detached(), batch, ids, None)
            rows, count, size = ids.shape
            heat = (T_MIN + T_SPAN * levels).to(self._device)
            soft = mean_embeddings(
                hidden.flatten(0, 1),
                self._model.weight,
                self._model.cap,
                heat.repeat_interleave(size),
                self._scale,
            )
            mask = conditioned.to(self._device).view(rows, count, 1, 1)
            return (soft.view(rows, count, size, -1) * mask).view(rows, count * size, -1)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        plain = self._device.type != "cuda" if self._config.dtype == "auto" else self._config.dtype == "float32"
        if plain:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)
