"""How DiffusionGemma chooses tokens after each step, and when a canvas is finished.

This is entropy-bounded unmasking (arXiv 2505.24857): the tokens of lowest entropy are accepted, and the others are
replaced by random ones. The mean embedding of each distribution conditions the next step. A canvas ends early if its
draft stays the same and its mean entropy is low.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..random_numbers import RequestRandom
from ..sampler import OutputHead, sample
from ..step_rows import StepChoice, StepRows
from .layers import DiffusionGemmaLayers
from .sampling_params import SamplingParams


class EntropyBoundRule:
    """See ``StepRule``.

    Args:
        module: transformers' ``DiffusionGemmaForBlockDiffusion``.
        model: its layers over the cache.
        top_k: number of tokens in the self-conditioning; None uses the whole distribution.
    """

    def __init__(self, module: Any, model: DiffusionGemmaLayers, *, top_k: int | None = None) -> None:
        table = module.model.decoder.embed_tokens
        self.head = OutputHead(
            weight=module.lm_head.weight,
            embeddings=table.weight,
            scale=float(table.embed_scale.to(table.weight.dtype)),
            cap=float(module.final_logit_softcapping),
        )
        self.vocabulary = self.head.vocabulary
        self._model, self._top_k = model, top_k
        rows, size, device = model.cache.rows, model.cache.block_length, model.device

        def per_row(dtype: torch.dtype) -> Tensor:
            return torch.zeros(rows, dtype=dtype, device=device)

        self.t_min, self.t_span = per_row(torch.float32), per_row(torch.float32)
        self.entropy_bound, self.confidence = per_row(torch.float32), per_row(torch.float32)
        self.stability, self.unchanged = per_row(torch.int64), per_row(torch.int64)
        self.soft_embeddings = torch.zeros((rows, size, table.weight.shape[1]), dtype=table.weight.dtype, device=device)
        self.state = [value for value in vars(self).values() if isinstance(value, Tensor)]

    def begin(self, row: int, params: SamplingParams, strength: float) -> tuple[int, int]:
        """See ``StepRule.begin``. An edit takes a part of the steps, the last ones."""
        self.t_min[row], self.t_span[row] = params.t_min, params.t_max - params.t_min
        self.entropy_bound[row], self.confidence[row] = params.entropy_bound, params.confidence
        self.stability[row], self.unchanged[row] = params.stability, 0
        self.soft_embeddings[row] = 0
        return max(1, round(params.steps * strength)) if strength < 1 else params.steps, params.steps

    def step(self, rows: StepRows) -> StepChoice:
        """See ``StepRule.step``."""
        count, size = rows.tokens.shape
        soft = self.soft_embeddings[:count]
        hidden = self._model.decode(rows.tokens, soft, rows.lengths, rows.max_length, rows.padded)
        output = sample(
            hidden.reshape(count * size, -1),
            self.head,
            rows.per_token(self.t_min[:count] + self.t_span[:count] * (rows.steps_left / rows.max_steps)),
            rows.uniform(RequestRandom.CHOICE).view(-1),
            constraints=rows.constraints,
            top_k=self._top_k,
        )
        best, sampled = output.best.view(count, size), output.sampled.view(count, size)
        entropy = torch.where(rows.pinned, 0.0, output.entropy.view(count, size))
        accepted = accept_tokens(entropy, self.entropy_bound[:count])
        fresh = rows.where_allowed(rows.random_tokens(RequestRandom.RENOISE, self.vocabulary), sampled)
        pin_embeddings = self.head.embeddings[rows.pins.clamp(min=0)] * self.head.scale
        next_soft = torch.where(rows.pinned[..., None], pin_embeddings, output.soft_embeddings.view(count, size, -1))

        changed = (best != rows.last_best) & ~rows.pinned
        unchanged = torch.where(changed.any(-1), 0, self.unchanged[:count] + 1)
        mean = entropy.sum(-1) / (~rows.pinned).sum(-1).clamp(min=1)  # without pinned positions
        return StepChoice(
            best=best,
            tokens=torch.where(accepted, sampled, fresh),
            entropy=entropy,
            finished=(unchanged >= self.stability[:count]) & (mean < self.confidence[:count]),
            updates=((soft, next_soft), (self.unchanged[:count], unchanged)),
        )


def accept_tokens(entropy: Tensor, bound: Tensor) -> Tensor:
    """Choose the positions that keep their sampled token.

    These are the k positions of lowest entropy whose total entropy, without the largest, is within the bound.

    Args:
        entropy: [B, C] float32.
        bound: [B] float32, in nats.

    Returns:
        [B, C] bool, at least one true per row.
    """
    ordered, order = torch.sort(entropy, dim=-1)
    fits = torch.cumsum(ordered, dim=-1) - ordered <= bound[:, None]
    return torch.zeros_like(fits).scatter(-1, order, fits)
