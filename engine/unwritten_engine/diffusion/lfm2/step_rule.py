"""How LFM2 diffusion chooses tokens: a fixed number of denoising steps per block, then a readout.

Every free token may change in every step, see ``posterior``. The mean embedding of each distribution conditions the
next step. Pinned tokens are clean: the model is told that they have no noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..random_numbers import RequestRandom
from ..sampler import OutputHead, sample
from ..step_rows import StepChoice, StepRows
from .posterior import choose, first_step, levels
from .sampling_params import SamplingParams

if TYPE_CHECKING:
    from .layers import Lfm2DiffusionModel


class PosteriorRule:
    """See ``StepRule``.

    Args:
        model: the layers over their cache.
        top_k: number of tokens in the self-conditioning; None uses the whole distribution.
    """

    def __init__(self, model: Lfm2DiffusionModel, *, top_k: int | None = None) -> None:
        table = model.embeddings
        self.head = OutputHead(weight=table, embeddings=table, scale=1.0, cap=None)
        self.vocabulary = self.head.vocabulary
        self._model, self._top_k = model, top_k
        rows, size, device = model.cache.rows, model.cache.block_length, model.device

        def per_row(dtype: torch.dtype) -> Tensor:
            return torch.zeros(rows, dtype=dtype, device=device)

        self.t_max, self.t_min, self.rho = torch.ones(3, rows, dtype=torch.float32, device=device)
        self.started = per_row(torch.bool)
        self.soft_embeddings = torch.zeros((rows, size, table.shape[1]), dtype=table.dtype, device=device)
        self.state = [value for value in vars(self).values() if isinstance(value, Tensor)]

    def begin(self, row: int, params: SamplingParams, strength: float) -> tuple[int, int]:
        """See ``StepRule.begin``. An edit starts at the first step that expects no more noise than it has."""
        self.t_max[row], self.t_min[row], self.rho[row] = params.t_max, params.t_min, params.rho
        self.started[row] = False
        self.soft_embeddings[row] = 0
        passes = params.steps + 1
        return passes - first_step(strength, params.steps, params.rho), passes

    def step(self, rows: StepRows) -> StepChoice:
        """See ``StepRule.step``."""
        count, size = rows.tokens.shape
        soft, started = self.soft_embeddings[:count], self.started[:count]
        steps = (rows.max_steps - 1).clamp(min=1)  # without the readout; rows that were never used have none
        done = rows.max_steps - rows.steps_left
        at = levels(done, steps, self.rho[:count], self.t_max[:count], self.t_min[:count])
        sigma = torch.where(rows.pinned, 0.0, at.sigma[:, None])
        hidden = self._model.denoise(rows.tokens, soft, started, sigma, rows.lengths, rows.max_length, rows.padded)
        output = sample(
            hidden.reshape(count * size, -1),
            self.head,
            rows.per_token(at.temperature),
            rows.uniform(RequestRandom.CHOICE).view(-1),
            present=rows.tokens.reshape(-1),
            constraints=rows.constraints,
            top_k=self._top_k,
        )
        assert output.present_probability is not None
        best, sampled = output.best.view(count, size), output.sampled.view(count, size)
        # A random token that is not allowed would stay until it is sampled again, so it is sampled at once. The present
        # token may be one at first; the readout replaces it, because its probability is 0.
        random = rows.where_allowed(rows.random_tokens(RequestRandom.RENOISE, self.vocabulary), sampled)
        tokens = choose(
            (rows.tokens, sampled, random),
            rows.uniform(RequestRandom.MIXTURE),
            output.present_probability.view(count, size),
            at,
            self.vocabulary,
        )
        # The text is what the readout draws; before it, the draft shows the most likely tokens. -1 reports a failure.
        is_text = (done >= steps)[:, None] & (best >= 0)
        return StepChoice(
            best=torch.where(is_text, tokens, best),
            tokens=tokens,
            entropy=output.entropy.view(count, size),
            updates=((soft, output.soft_embeddings.view(count, size, -1)), (started, torch.ones_like(started))),
        )
