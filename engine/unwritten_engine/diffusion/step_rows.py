"""What a step rule gets, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .random_numbers import RequestRandom, random_tokens, uniform
from .sampler import TokenConstraints


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows of a step: 0 to B - 1, each a block of C tokens. The tensors are views of the runner's; only read them.

    Attributes:
        tokens: [B, C] int64, the tokens to denoise.
        last_best: [B, C] int64, the most likely tokens of the last step; -1 before the first.
        pins: [B, C] int64, fixed tokens; -1 where a token is free.
        pinned: [B, C] bool, whether a token is fixed.
        lengths: [B] int64, tokens that each row of the cache holds.
        max_length: the largest of ``lengths``, or more.
        padded: whether some row holds fewer than ``max_length`` tokens.
        steps_left: [B] int64, steps that remain, with this one.
        max_steps: [B] int64, steps of a block that is not an edit.
        seeds: [B] int64, of the requests.
        numbers: [B] int64, index of the block in its request.
        mask_ids: [B, C] int64, a row of ``masks`` for each position; None if all tokens are allowed.
        masks: [masks, vocabulary] bool; row 0 allows everything.
    """

    tokens: Tensor
    last_best: Tensor
    pins: Tensor
    pinned: Tensor
    lengths: Tensor
    max_length: int
    padded: bool
    steps_left: Tensor
    max_steps: Tensor
    seeds: Tensor
    numbers: Tensor
    mask_ids: Tensor | None
    masks: Tensor

    @property
    def step(self) -> Tensor:
        """Number of the step, [B] int64. The first of a block is 1, and an edit starts later."""
        return self.max_steps - self.steps_left + 1

    @property
    def constraints(self) -> TokenConstraints | None:
        """Allowed tokens for the sampler."""
        return None if self.mask_ids is None else TokenConstraints(self.mask_ids.reshape(-1), self.masks)

    def per_token(self, values: Tensor) -> Tensor:
        """Repeat a value of each row for all its tokens, [B * C]."""
        return values[:, None].expand(self.tokens.shape).reshape(-1)

    def uniform(self, stream: RequestRandom) -> Tensor:
        """Return uniform numbers in [0, 1) for this step, [B, C] float32."""
        return uniform(self.seeds, self.numbers, self.step, stream, self.tokens.shape[1])

    def random_tokens(self, stream: RequestRandom, vocabulary: int) -> Tensor:
        """Return uniformly random tokens for this step, [B, C] int64."""
        return random_tokens(self.seeds, self.numbers, self.step, stream, self.tokens.shape[1], vocabulary)

    def where_allowed(self, tokens: Tensor, otherwise: Tensor) -> Tensor:
        """Replace tokens that a schema does not allow, [B, C] int64."""
        return tokens if self.mask_ids is None else torch.where(self.masks[self.mask_ids, tokens], tokens, otherwise)


@dataclass(frozen=True, slots=True)
class StepChoice:
    """Results of a step. The runner puts the pins into ``best`` and ``tokens``, and ignores ``entropy`` there.

    Attributes:
        best: [B, C] int64, the tokens to show; those of a block's last step are its text. -1 where the distribution is
            not a number.
        tokens: [B, C] int64, the tokens of the next step.
        entropy: [B, C] float32, entropy of each distribution in nats.
        finished: [B] bool, whether a block may end before its last step; None if it never does.
        updates: pairs of a part of ``StepRule.state`` and its new value. The runner copies the values in rows that have
            not finished.
    """

    best: Tensor
    tokens: Tensor
    entropy: Tensor
    finished: Tensor | None = None
    updates: Sequence[tuple[Tensor, Tensor]] = ()
