"""The canvases that are denoised together, as tensors on the device, and one denoising pass over all of them.

Every row is a request at its own step, with its own temperature, noise and prompt. A pass reads nothing back: whether a
canvas is finished is decided on the device, and the host looks at the result afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import random_numbers as noise
from .cuda_graphs import CUDAGraphs
from .model import DiffusionModel
from .random_numbers import RequestRandom
from .sampler import OutputHead, TokenConstraints, accept_tokens, sample
from .sampling_params import SamplingParams
from .tokenization.canvas_plan import CanvasInit

UNSETTLED_ENTROPY = 0.1
"""A position is unsettled while its entropy is above this, or if its likeliest token has just changed."""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a pass found, on the host.

    Attributes:
        best: [B, C] int64, the drafts.
        unsettled: [B, C] bool.
        finished: [B] bool, no more steps are needed.
        left: [B] int64, steps that may still be done in this canvas.
    """

    best: list[list[int]]
    unsettled: list[list[bool]]
    finished: list[bool]
    steps_left: list[int]


class TokenMasks:
    """Which tokens may stand in a class of positions: rows of one tensor, [rows, vocabulary] bool, row 0 all true.

    Equal masks share a row. Rows are never taken away while the engine runs; there are as many as different kinds
    of values in the shapes that were asked for.
    """

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self.rows = torch.ones((8, vocabulary), dtype=torch.bool, device=device)
        self._places: dict[bytes, int] = {}

    def register(self, mask: bytes) -> int:
        """The row of a mask, one byte per token, 1 where it may stand; shorter ones allow nothing after their end."""
        if mask not in self._places:
            number = len(self._places) + 1
            if number == len(self.rows):
                self.rows = torch.cat([self.rows, torch.ones_like(self.rows)])
            self.rows[number] = False
            self.rows[number, : len(mask)] = torch.frombuffer(bytearray(mask), dtype=torch.bool).to(self.rows.device)
            self._places[mask] = number
        return self._places[mask]


class ModelRunner:
    """The state of all rows, and the pass.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        body: its layers over the cache.
        top_k: truncates self-conditioning to so many tokens; None takes the whole distribution.
        graphs: replays passes on a GPU; None runs them plainly.
    """

    def __init__(
        self,
        model: Any,
        model_layers: DiffusionModel,
        *,
        top_k: int | None = None,
        cuda_graphs: CUDAGraphs | None = None,
    ) -> None:
        self.model, self.top_k, self.cuda_graphs = model_layers, top_k, cuda_graphs
        config = model.config
        table = model.model.decoder.embed_tokens
        self.head = OutputHead(
            weight=model.lm_head.weight,
            embeddings=table.weight,
            scale=float(table.embed_scale.to(table.weight.dtype)),
            cap=float(model.final_logit_softcapping),
        )
        rows, size, device = model_layers.kv_cache.rows, int(config.canvas_length), model_layers.device
        self.canvas_length, self.device = size, device
        self.masks = TokenMasks(self.head.vocabulary, device)

        def per_row(dtype: torch.dtype) -> Tensor:
            return torch.zeros(rows, dtype=dtype, device=device)

        def per_place(dtype: torch.dtype) -> Tensor:
            return torch.zeros((rows, size), dtype=dtype, device=device)

        self.seeds, self.canvas_numbers, self.lengths = per_row(torch.int64), per_row(torch.int64), per_row(torch.int64)
        self.steps_left, self.max_steps = per_row(torch.int64), torch.ones(rows, dtype=torch.int64, device=device)
        self.t_min, self.t_span = per_row(torch.float32), per_row(torch.float32)
        self.entropy_bound, self.confidence = per_row(torch.float32), per_row(torch.float32)
        self.stability, self.unchanged = per_row(torch.int64), per_row(torch.int64)
        self.finished = torch.ones(rows, dtype=torch.bool, device=device)
        self.pins, self.mask_ids = per_place(torch.int64), per_place(torch.int64)
        self.canvas, self.best = per_place(torch.int64), per_place(torch.int64)
        self.unsettled = torch.ones((rows, size), dtype=torch.bool, device=device)
        self.soft_embeddings = torch.zeros((rows, size, table.weight.shape[1]), dtype=table.weight.dtype, device=device)
        self._state = [value for value in vars(self).values() if isinstance(value, Tensor)]

    def begin_canvas(self, row: int, *, seed: int, length: int, params: SamplingParams, canvas: CanvasInit) -> int:
        """Open a canvas in a row that holds ``length`` tokens. Returns how many steps it may take."""
        size, device = self.canvas_length, self.device
        here = slice(row, row + 1)
        self.seeds[row], self.canvas_numbers[row], self.lengths[row] = seed, canvas.number, length
        steps = params.steps
        if canvas.initial and canvas.strength < 1:
            steps = max(1, round(params.steps * canvas.strength))
        self.steps_left[row], self.max_steps[row] = steps, params.steps
        self.t_min[row], self.t_span[row] = params.t_min, params.t_max - params.t_min
        self.entropy_bound[row], self.confidence[row] = params.entropy_bound, params.confidence
        self.stability[row], self.unchanged[row] = params.stability, 0
        self.finished[row] = False
        self.soft_embeddings[row] = 0
        self.best[row] = -1
        self.unsettled[row] = True
        zero = torch.zeros(1, dtype=torch.int64, device=device)
        place = (self.seeds[here], self.canvas_numbers[here], zero)
        tokens = noise.random_tokens(*place, RequestRandom.CANVAS, size, self.head.vocabulary)[0]
        if canvas.initial:
            start = torch.tensor(canvas.initial, dtype=torch.int64, device=device)
            old = noise.uniform(*place, RequestRandom.EDIT, size)[0] >= canvas.strength
            tokens = torch.where((start >= 0) & old, start, tokens)
        self.pins[row] = torch.tensor(canvas.pins, dtype=torch.int64, device=device) if canvas.pins else -1
        self.mask_ids[row] = torch.tensor(canvas.mask_ids, dtype=torch.int64, device=device) if canvas.mask_ids else 0
        self.canvas[row] = torch.where(self.pins[row] >= 0, self.pins[row], tokens)
        return steps

    def save(self, row: int) -> list[Tensor]:
        """A copy of a row's state."""
        return [tensor[row].clone() for tensor in self._state]

    def load(self, row: int, state: list[Tensor]) -> None:
        """Put a row's state back."""
        for tensor, value in zip(self._state, state, strict=True):
            tensor[row] = value

    def step(self, count: int, max_length: int, *, equal_lengths: bool, constrained: bool) -> None:
        """One denoising pass over the rows 0 to ``count`` - 1.

        Args:
            count: rows.
            longest: the largest number of tokens that one of them holds.
            even: all of them hold so many.
            shaped: some of them has ``classes``.
        """
        if self.cuda_graphs is None:
            self._pass(count, max_length, not equal_lengths, constrained)
            return
        count, max_length = self.cuda_graphs.buckets(
            count, max_length, self.model.kv_cache.rows, self.model.kv_cache.context
        )
        key = (count, max_length, constrained, self.masks.rows.data_ptr() if constrained else 0)
        self.cuda_graphs.run(key, lambda: self._pass(count, max_length, True, constrained))

    def fetch(self, count: int) -> StepOutput:
        """The drafts of the last pass; waits for it."""
        return StepOutput(
            best=self.best[:count].tolist(),
            unsettled=self.unsettled[:count].tolist(),
            finished=self.finished[:count].tolist(),
            steps_left=self.steps_left[:count].tolist(),
        )

    def _pass(self, count: int, longest: int, padded: bool, shaped: bool) -> None:
        canvas, soft, pins = self.canvas[:count], self.soft_embeddings[:count], self.pins[:count]
        left, total = self.steps_left[:count], self.max_steps[:count]
        hidden = self.model.decode(canvas, soft, self.lengths[:count], longest, padded)

        place = (self.seeds[:count], self.canvas_numbers[:count], total - left + 1)
        temperature = self.t_min[:count] + self.t_span[:count] * (left / total)
        found = sample(
            hidden.reshape(count * self.canvas_length, -1),
            self.head,
            temperature.repeat_interleave(self.canvas_length, output_size=count * self.canvas_length),
            noise.uniform(*place, RequestRandom.CHOICE, self.canvas_length).view(-1),
            constraints=TokenConstraints(self.mask_ids[:count].reshape(-1), self.masks.rows) if shaped else None,
            top_k=self.top_k,
        )
        pinned = pins >= 0
        best = torch.where(pinned, pins, found.best.view(count, -1))
        entropy = torch.where(pinned, 0.0, found.entropy.view(count, -1))
        kept = accept_tokens(entropy, self.entropy_bound[:count])
        fresh = noise.random_tokens(*place, RequestRandom.RENOISE, self.canvas_length, self.head.vocabulary)
        if shaped:
            fresh = torch.where(self.masks.rows[self.mask_ids[:count], fresh], fresh, found.sampled.view(count, -1))
        following = torch.where(kept, found.sampled.view(count, -1), fresh)
        following = torch.where(pinned, pins, following)
        certain = self.head.embeddings[pins.clamp(min=0)] * self.head.scale
        signal = torch.where(pinned[..., None], certain, found.soft_embeddings.view(count, self.canvas_length, -1))

        changed = (best != self.best[:count]) & ~pinned
        unchanged = torch.where(changed.any(-1), 0, self.unchanged[:count] + 1)
        mean = entropy.sum(-1) / (~pinned).sum(-1).clamp(min=1)  # pins must not dilute it
        calm = (unchanged >= self.stability[:count]) & (mean < self.confidence[:count])
        live = ~self.finished[:count]
        unsettled = changed | (entropy > UNSETTLED_ENTROPY)
        remaining = left - live.to(torch.int64)
        # All results are there before the first is written: a pass that runs out of memory leaves all as it was. They
        # are written in place, for a captured pass reads and writes the same memory each time.
        results = [
            (target[:count], torch.where(live.view(-1, *[1] * (value.dim() - 1)), value, target[:count]))
            for target, value in (
                (self.canvas, following),
                (self.best, best),
                (self.soft_embeddings, signal),
                (self.unsettled, unsettled),
                (self.unchanged, unchanged),
                (self.steps_left, remaining),
                (self.finished, calm | (remaining <= 0)),
            )
        ]
        for target, result in results:
            target.copy_(result)
