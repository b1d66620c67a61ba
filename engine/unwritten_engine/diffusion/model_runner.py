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
from .sampler import EntropyLimits, OutputHead, accept_tokens, sample
from .sampling_params import SamplingParams
from .tokenization.canvas_plan import CanvasInit

UNSETTLED_NATS = 0.1
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
    left: list[int]


class TokenMasks:
    """Which tokens may stand in a class of positions: rows of one tensor, [rows, vocabulary] bool, row 0 all true.

    Equal masks share a row. Rows are never taken away while the engine runs; there are as many as different kinds
    of values in the shapes that were asked for.
    """

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self.rows = torch.ones((8, vocabulary), dtype=torch.bool, device=device)
        self._places: dict[bytes, int] = {}

    def place(self, mask: bytes) -> int:
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
        self, model: Any, body: DiffusionModel, *, top_k: int | None = None, graphs: CUDAGraphs | None = None
    ) -> None:
        self.body, self.top_k, self.graphs = body, top_k, graphs
        config = model.config
        table = model.model.decoder.embed_tokens
        self.head = OutputHead(
            weight=model.lm_head.weight,
            embeddings=table.weight,
            scale=float(table.embed_scale.to(table.weight.dtype)),
            cap=float(model.final_logit_softcapping),
        )
        rows, size, device = body.kv.rows, int(config.canvas_length), body.device
        self.size, self.device = size, device
        self.masks = TokenMasks(self.head.vocabulary, device)

        def per_row(dtype: torch.dtype) -> Tensor:
            return torch.zeros(rows, dtype=dtype, device=device)

        def per_place(dtype: torch.dtype) -> Tensor:
            return torch.zeros((rows, size), dtype=dtype, device=device)

        self.seeds, self.numbers, self.lengths = per_row(torch.int64), per_row(torch.int64), per_row(torch.int64)
        self.left, self.total = per_row(torch.int64), torch.ones(rows, dtype=torch.int64, device=device)
        self.coolest, self.span = per_row(torch.float32), per_row(torch.float32)
        self.bound, self.confidence = per_row(torch.float32), per_row(torch.float32)
        self.stability, self.unchanged = per_row(torch.int64), per_row(torch.int64)
        self.finished = torch.ones(rows, dtype=torch.bool, device=device)
        self.pins, self.classes = per_place(torch.int64), per_place(torch.int64)
        self.canvas, self.best = per_place(torch.int64), per_place(torch.int64)
        self.unsettled = torch.ones((rows, size), dtype=torch.bool, device=device)
        self.soft = torch.zeros((rows, size, table.weight.shape[1]), dtype=table.weight.dtype, device=device)
        self._state = [value for value in vars(self).values() if isinstance(value, Tensor)]

    def begin_canvas(self, row: int, *, seed: int, length: int, dial: SamplingParams, canvas: CanvasInit) -> int:
        """Open a canvas in a row that holds ``length`` tokens. Returns how many steps it may take."""
        size, device = self.size, self.device
        here = slice(row, row + 1)
        self.seeds[row], self.numbers[row], self.lengths[row] = seed, canvas.number, length
        steps = dial.steps
        if canvas.start and canvas.strength < 1:
            steps = max(1, round(dial.steps * canvas.strength))
        self.left[row], self.total[row] = steps, dial.steps
        self.coolest[row], self.span[row] = dial.t_min, dial.t_max - dial.t_min
        self.bound[row], self.confidence[row] = dial.entropy_bound, dial.confidence
        self.stability[row], self.unchanged[row] = dial.stability, 0
        self.finished[row] = False
        self.soft[row] = 0
        self.best[row] = -1
        self.unsettled[row] = True
        zero = torch.zeros(1, dtype=torch.int64, device=device)
        place = (self.seeds[here], self.numbers[here], zero)
        tokens = noise.tokens(*place, RequestRandom.CANVAS, size, self.head.vocabulary)[0]
        if canvas.start:
            start = torch.tensor(canvas.start, dtype=torch.int64, device=device)
            old = noise.uniform(*place, RequestRandom.EDIT, size)[0] >= canvas.strength
            tokens = torch.where((start >= 0) & old, start, tokens)
        self.pins[row] = torch.tensor(canvas.pins, dtype=torch.int64, device=device) if canvas.pins else -1
        self.classes[row] = torch.tensor(canvas.classes, dtype=torch.int64, device=device) if canvas.classes else 0
        self.canvas[row] = torch.where(self.pins[row] >= 0, self.pins[row], tokens)
        return steps

    def save(self, row: int) -> list[Tensor]:
        """A copy of a row's state."""
        return [tensor[row].clone() for tensor in self._state]

    def load(self, row: int, state: list[Tensor]) -> None:
        """Put a row's state back."""
        for tensor, value in zip(self._state, state, strict=True):
            tensor[row] = value

    def step(self, count: int, longest: int, *, even: bool, shaped: bool) -> None:
        """One denoising pass over the rows 0 to ``count`` - 1.

        Args:
            count: rows.
            longest: the largest number of tokens that one of them holds.
            even: all of them hold so many.
            shaped: some of them has ``classes``.
        """
        if self.graphs is None:
            self._pass(count, longest, not even, shaped)
            return
        count, longest = self.graphs.buckets(count, longest, self.body.kv.rows, self.body.kv.context)
        key = (count, longest, shaped, self.masks.rows.data_ptr() if shaped else 0)
        self.graphs.run(key, lambda: self._pass(count, longest, True, shaped))

    def fetch(self, count: int) -> StepOutput:
        """The drafts of the last pass; waits for it."""
        return StepOutput(
            best=self.best[:count].tolist(),
            unsettled=self.unsettled[:count].tolist(),
            finished=self.finished[:count].tolist(),
            left=self.left[:count].tolist(),
        )

    def _pass(self, count: int, longest: int, padded: bool, shaped: bool) -> None:
        canvas, soft, pins = self.canvas[:count], self.soft[:count], self.pins[:count]
        left, total = self.left[:count], self.total[:count]
        hidden = self.body.decode(canvas, soft, self.lengths[:count], longest, padded)

        place = (self.seeds[:count], self.numbers[:count], total - left + 1)
        temperature = self.coolest[:count] + self.span[:count] * (left / total)
        found = sample(
            hidden.reshape(count * self.size, -1),
            self.head,
            temperature.repeat_interleave(self.size, output_size=count * self.size),
            noise.uniform(*place, RequestRandom.CHOICE, self.size).view(-1),
            limits=EntropyLimits(self.classes[:count].reshape(-1), self.masks.rows) if shaped else None,
            top_k=self.top_k,
        )
        pinned = pins >= 0
        best = torch.where(pinned, pins, found.best.view(count, -1))
        entropy = torch.where(pinned, 0.0, found.entropy.view(count, -1))
        kept = accept_tokens(entropy, self.bound[:count])
        fresh = noise.tokens(*place, RequestRandom.RENOISE, self.size, self.head.vocabulary)
        if shaped:
            fresh = torch.where(self.masks.rows[self.classes[:count], fresh], fresh, found.drawn.view(count, -1))
        following = torch.where(kept, found.drawn.view(count, -1), fresh)
        following = torch.where(pinned, pins, following)
        certain = self.head.embeddings[pins.clamp(min=0)] * self.head.scale
        signal = torch.where(pinned[..., None], certain, found.soft.view(count, self.size, -1))

        changed = (best != self.best[:count]) & ~pinned
        unchanged = torch.where(changed.any(-1), 0, self.unchanged[:count] + 1)
        mean = entropy.sum(-1) / (~pinned).sum(-1).clamp(min=1)  # pins must not dilute it
        calm = (unchanged >= self.stability[:count]) & (mean < self.confidence[:count])
        live = ~self.finished[:count]
        unsettled = changed | (entropy > UNSETTLED_NATS)
        remaining = left - live.to(torch.int64)
        # All results are there before the first is written: a pass that runs out of memory leaves all as it was. They
        # are written in place, for a captured pass reads and writes the same memory each time.
        results = [
            (target[:count], torch.where(live.view(-1, *[1] * (value.dim() - 1)), value, target[:count]))
            for target, value in (
                (self.canvas, following),
                (self.best, best),
                (self.soft, signal),
                (self.unsettled, unsettled),
                (self.unchanged, unchanged),
                (self.left, remaining),
                (self.finished, calm | (remaining <= 0)),
            )
        ]
        for target, result in results:
            target.copy_(result)
