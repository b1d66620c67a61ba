"""The state of all rows as tensors on the device, and one denoising step over all of them.

Every row is a sequence with its own step, random numbers and prompt, and a *block*, the tokens that are denoised
together. A step reads nothing back to the host: whether a block is finished is decided on the device, and the host
fetches the result afterwards. Rows that have finished no longer change, so the next step may start before the host
knows. What is computed in a step is defined by the family's step rule.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .cuda_graphs import CUDAGraphs
from .family import DiffusionModel, SamplingParams, StepRule
from .random_numbers import RequestRandom, random_tokens, uniform
from .step_rows import StepRows
from .token_chunk import to_tensor
from .tokenization.canvas_plan import BlockInit

UNSETTLED_ENTROPY = 0.1
"""A position is unsettled while its entropy in nats is above this, or if its most likely token has just changed."""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Results of a step on the host.

    Attributes:
        best: [B, C], the tokens to show.
        unsettled: [B, C], whether a token may still change.
        finished: [B], whether the block is finished.
        steps_left: [B], steps that remain in this block.
    """

    best: list[list[int]]
    unsettled: list[list[bool]]
    finished: list[bool]
    steps_left: list[int]


class TokenMasks:
    """Registry of allowed tokens for positions with a schema.

    Equal masks share a row, and row 0 allows everything. Rows are never removed; there are as many as different kinds
    of values in the schemas in use. ``register`` may be called from any thread, because it does not use the device.
    """

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self.rows = torch.ones((8, vocabulary), dtype=torch.bool, device=device)
        """[rows, vocabulary] bool on the device, after ``upload``."""
        self._lock = threading.Lock()
        self._numbers: dict[bytes, int] = {}
        self._new: deque[tuple[int, bytes]] = deque()

    def register(self, mask: bytes) -> int:
        """Return the row of a mask, given as one byte per token (1 is allowed). Missing bytes count as 0."""
        with self._lock:
            number = self._numbers.get(mask)
            if number is None:
                number = self._numbers[mask] = len(self._numbers) + 1
                self._new.append((number, mask))
            return number

    def upload(self) -> None:
        """Copy new masks to the device. Call it from the thread that runs steps."""
        while self._new:
            number, mask = self._new[0]
            if number == len(self.rows):
                self.rows = torch.cat([self.rows, torch.ones_like(self.rows)])
            row = torch.zeros(self.rows.shape[1], dtype=torch.bool)
            row[: len(mask)] = torch.frombuffer(bytearray(mask), dtype=torch.bool)
            self.rows[number].copy_(row)
            self._new.popleft()


class StepResults:
    """Results of a step on their way to the host.

    Args:
        packed: [B, block + 2] int32: tokens with a bit for unsettled ones, then finished and steps left.
        host: pinned memory for a copy from a GPU; None on a CPU.
    """

    def __init__(self, packed: Tensor, host: Tensor | None) -> None:
        self._event: Any = None
        if host is None:
            self._packed = packed.clone()  # the next step may already run while this one is read
            return
        self._packed = host[: len(packed)]
        self._packed.copy_(packed, non_blocking=True)
        make: Any = torch.cuda.Event
        self._event = make()
        self._event.record()

    def wait(self) -> StepOutput:
        """Wait for the step and return its results."""
        if self._event is not None:
            self._event.synchronize()
        rows: list[list[int]] = self._packed.tolist()
        return StepOutput(
            best=[[token >> 1 for token in row[:-2]] for row in rows],
            unsettled=[[bool(token & 1) for token in row[:-2]] for row in rows],
            finished=[bool(row[-2]) for row in rows],
            steps_left=[row[-1] for row in rows],
        )


class ModelRunner:
    """State of all rows, and the denoising step.

    Args:
        model: the layers over their cache.
        rule: the family's step rule.
        cuda_graphs: replays steps on a GPU; None runs them eagerly.
    """

    def __init__(self, model: DiffusionModel, rule: StepRule, *, cuda_graphs: CUDAGraphs | None = None) -> None:
        self.model, self.rule, self.cuda_graphs = model, rule, cuda_graphs
        rows, size, device = model.cache.rows, model.cache.block_length, model.device
        self.block_length, self.device, self._on_gpu = size, device, device.type == "cuda"
        self.masks = TokenMasks(rule.vocabulary, device)

        def per_row() -> Tensor:
            return torch.zeros(rows, dtype=torch.int64, device=device)

        def per_place() -> Tensor:
            return torch.zeros((rows, size), dtype=torch.int64, device=device)

        self.seeds, self.numbers, self.lengths, self.steps_left = per_row(), per_row(), per_row(), per_row()
        self.max_steps = torch.ones(rows, dtype=torch.int64, device=device)
        self.finished = torch.ones(rows, dtype=torch.bool, device=device)
        self.pins, self.mask_ids, self.tokens, self.best = per_place(), per_place(), per_place(), per_place()
        self.packed = torch.zeros((rows, size + 2), dtype=torch.int32, device=device)
        self._state = [*(value for value in vars(self).values() if isinstance(value, Tensor)), *rule.state]
        # Two, because a step is sent while the one before is read.
        self._host = deque(torch.zeros_like(self.packed, device="cpu").pin_memory() for _ in range(2 * self._on_gpu))

    def begin_block(self, row: int, *, seed: int, length: int, params: SamplingParams, block: BlockInit) -> int:
        """Start a block in a row that holds ``length`` tokens. Return its maximum number of steps."""
        size, device = self.block_length, self.device
        rows = slice(row, row + 1)
        steps, max_steps = self.rule.begin(row, params, block.strength if block.initial else 1.0)
        if block.pins and min(block.pins) >= 0:
            steps = 1  # nothing is left to choose
        self.seeds[row], self.numbers[row], self.lengths[row] = seed, block.number, length
        self.steps_left[row], self.max_steps[row] = steps, max_steps
        self.finished[row] = False
        self.best[row] = -1
        zero = torch.zeros(1, dtype=torch.int64, device=device)
        coordinates = (self.seeds[rows], self.numbers[rows], zero)
        tokens = random_tokens(*coordinates, RequestRandom.CANVAS, size, self.rule.vocabulary)[0]
        if block.initial:
            start = to_tensor(block.initial, device)
            keep = uniform(*coordinates, RequestRandom.EDIT, size)[0] >= block.strength
            tokens = torch.where((start >= 0) & keep, start, tokens)
        self.pins[row] = to_tensor(block.pins, device) if block.pins else -1
        self.mask_ids[row] = to_tensor(block.mask_ids, device) if block.mask_ids else 0
        self.tokens[row] = torch.where(self.pins[row] >= 0, self.pins[row], tokens)
        return steps

    def save(self, row: int) -> list[Tensor]:
        """Return a copy of a row's state."""
        return [tensor[row].clone() for tensor in self._state]

    def load(self, row: int, state: list[Tensor]) -> None:
        """Restore a row's state."""
        for tensor, value in zip(self._state, state, strict=True):
            tensor[row] = value

    def step(self, count: int, max_length: int, *, equal_lengths: bool, constrained: bool) -> None:
        """Run one denoising step for the rows 0 to ``count`` - 1.

        Args:
            count: number of rows.
            max_length: the largest number of cached tokens of a row.
            equal_lengths: all rows hold ``max_length`` tokens.
            constrained: some row has ``mask_ids``.
        """
        if constrained:
            self.masks.upload()
        if self.cuda_graphs is None:
            self._step(count, max_length, not equal_lengths, constrained)
            return
        size = self.cuda_graphs.buckets(count, max_length, self.model.cache.rows, self.model.cache.context)
        # A captured step uses the memory of the masks, which are copied to a larger one when their number doubles.
        key = (*size, len(self.masks.rows) if constrained else 0)
        self.cuda_graphs.run(key, lambda: self._step(*size, True, constrained))

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture the steps of all sizes, without masks. The rows must be free."""
        if self.cuda_graphs is None:
            return
        cache = self.model.cache
        for count in reversed(self.cuda_graphs.row_buckets(cache.rows)):  # smaller graphs reuse memory of the largest
            for length in reversed(self.cuda_graphs.length_buckets(cache.context)):
                step = partial(self._step, count, length, True, False)
                step()  # libraries choose and load their kernels by size, which a capture does not allow
                self.cuda_graphs.capture((count, length, 0), step)

    def send(self, count: int) -> StepResults:
        """Start to copy the results of the last step to the host, in one transfer."""
        self._host.rotate()
        return StepResults(self.packed[:count], self._host[0] if self._host else None)

    def fetch(self, count: int) -> StepOutput:
        """Wait for the last step and return its results."""
        return self.send(count).wait()

    def _step(self, count: int, max_length: int, padded: bool, constrained: bool) -> None:
        pins, left = self.pins[:count], self.steps_left[:count]
        pinned = pins >= 0
        rows = StepRows(
            tokens=self.tokens[:count],
            last_best=self.best[:count],
            pins=pins,
            pinned=pinned,
            lengths=self.lengths[:count],
            max_length=max_length,
            padded=padded,
            steps_left=left,
            max_steps=self.max_steps[:count],
            seeds=self.seeds[:count],
            numbers=self.numbers[:count],
            mask_ids=self.mask_ids[:count] if constrained else None,
            masks=self.masks.rows,
        )
        choice = self.rule.step(rows)
        best = torch.where(pinned, pins, choice.best)
        unsettled = ((best != rows.last_best) | (choice.entropy > UNSETTLED_ENTROPY)) & ~pinned
        live = ~self.finished[:count]
        remaining = left - live.to(torch.int64)
        finished = remaining <= 0
        if choice.finished is not None:
            finished |= choice.finished
        columns = (best * 2 + unsettled, finished[:, None], remaining[:, None])
        # All results are computed before the first is written, so that running out of memory changes nothing. They are
        # written in place, because a CUDA graph uses the same memory each time.
        results = [
            (target, torch.where(live.view(-1, *[1] * (value.dim() - 1)), value, target))
            for target, value in (
                (rows.tokens, torch.where(pinned, pins, choice.tokens)),
                (rows.last_best, best),
                (left, remaining),
                (self.finished[:count], finished),
                (self.packed[:count], torch.cat([column.to(torch.int32) for column in columns], dim=1)),
                *choice.updates,
            )
        ]
        for target, result in results:
            target.copy_(result)
