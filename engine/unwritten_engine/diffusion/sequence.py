"""The state of one request: from its tokens to its last block."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import EngineError
from ..frames import Frame, Priority, StopReason, Usage
from .family import SamplingParams
from .tokenization.canvas_plan import CanvasPlan
from .tokenization.detokenizer import DecodedText
from .tokenization.prompt_tokenizer import TokenizedPrompt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlockState:
    """State of a block after a step. Replaced as a whole, because another thread reads it.

    Attributes:
        block: index of the block.
        finished_text: text of the previous blocks.
        ids: tokens of the block.
        unsettled: for each token, whether it may still change.
        step: step within this block, from 1.
        max_steps: maximum steps of this block.
    """

    block: int
    finished_text: DecodedText
    ids: list[int]
    unsettled: list[bool]
    step: int
    max_steps: int


@dataclass(eq=False, slots=True)
class Sequence:
    """One running request.

    The loop's thread updates it. Other threads may read frames, and set ``cancelled`` and ``priority``.

    Attributes:
        prompt: the tokenized prompt.
        plan: initial contents of the blocks, and how to decode them.
        params: sampling parameters.
        seed: of the random numbers.
        priority: scheduling priority.
        number: order of arrival.
        warm_only: only the shared prefix is prefilled, for the prefix cache.
        notify: called in the loop's thread after a new draft or the end.
        cancelled: the result is no longer needed.
        output_ids: tokens of the finished blocks.
        finished_text: their text.
        block: index of the current block.
        steps: steps so far, over all blocks.
        num_cached_tokens: tokens of prompt and finished blocks in the cache.
        num_reused_tokens: prompt tokens that came from the prefix cache.
        saved_state: state of the block while the sequence is preempted.
        max_steps: maximum steps of the current block.
        state: state of the current block.
        error: why it failed.
        usage: set at its end.
        arrival_time, start_time: monotonic seconds; the start is the first admission.
        waiting_since: start of the current wait; None while it has a row.
        waited_before: seconds of earlier waits, including those after a preemption.
    """

    prompt: TokenizedPrompt
    plan: CanvasPlan
    params: SamplingParams
    seed: int
    priority: Priority = Priority.CLICK
    number: int = 0
    warm_only: bool = False
    notify: Callable[[], None] | None = None
    cancelled: bool = False
    output_ids: list[int] = field(default_factory=list)
    finished_text: DecodedText = field(default_factory=lambda: DecodedText(""))
    block: int = 0
    steps: int = 0
    num_cached_tokens: int = 0
    num_reused_tokens: int = 0
    saved_state: list[Tensor] | None = None
    max_steps: int = 0
    state: BlockState | None = None
    error: EngineError | None = None
    usage: Usage | None = None
    arrival_time: float = field(default_factory=time.monotonic)
    start_time: float | None = None
    waiting_since: float | None = field(default_factory=time.monotonic)
    waited_before: float = 0.0
    _fixed: int = 0
    _furthest: tuple[int, int] = (0, 0)

    @property
    def finished(self) -> bool:
        """True after the end or a failure."""
        return self.usage is not None or self.error is not None

    @property
    def cache_keys(self) -> tuple[Hashable, ...]:
        """Keys of all tokens that belong into the KV cache, for the prefix cache."""
        return (*self.prompt.cache_keys, *self.output_ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens that belong into the KV cache."""
        return (*self.prompt.ids, *self.output_ids)

    @property
    def num_target_tokens(self) -> int:
        """Number of tokens that must be cached before denoising, or for a warm-up."""
        return self.prompt.num_shared if self.warm_only else len(self.prompt.ids) + len(self.output_ids)

    @property
    def queued_seconds(self) -> float:
        """Seconds in the queue so far."""
        return self.waited_before + (0.0 if self.waiting_since is None else time.monotonic() - self.waiting_since)

    def mark_running(self) -> None:
        """End the wait: the sequence has a row."""
        self.waited_before, self.waiting_since = self.queued_seconds, None
        self.start_time = time.monotonic() if self.start_time is None else self.start_time

    def mark_waiting(self) -> None:
        """Start to wait for a row."""
        self.waiting_since = time.monotonic()

    def commit(self, ids: list[int]) -> StopReason | None:
        """Append a finished block. Return why the text ends, or None if another block follows."""
        self.output_ids += ids
        self.block += 1
        settled = [False] * len(self.output_ids)
        self.finished_text = self.plan.decode(self.output_ids, settled, self.finished_text)
        last = self.block == self.plan.num_blocks
        if self.plan.skeleton is not None:
            return "end" if last else None
        if self.finished_text.ended:
            return "stop" if self.plan.ends_with_stop(self.output_ids) else "end"
        return "length" if last else None

    def finish(self, reason: StopReason) -> None:
        """Set the usage."""
        self.usage = Usage(
            tokens=self.finished_text.num_tokens,
            prompt_tokens=len(self.prompt.ids),
            cached_tokens=self.num_reused_tokens,
            steps=self.steps,
            canvases=self.plan.num_canvases(self.block),
            seconds=max(0.0, time.monotonic() - self.arrival_time - self.waited_before),
            queued_seconds=self.waited_before,
            reason=reason,
            seed=self.seed,
        )

    def frame(self) -> Frame | None:
        """Return the newest frame, or None before the first. Call it from one thread."""
        usage, state, plan = self.usage, self.state, self.plan
        block, step, max_steps = max(self.block - 1, 0), 0, self.params.steps
        if state is not None:
            block, step, max_steps = state.block if usage is None else block, state.step, state.max_steps
        # A block that is written again because it was empty does not move the progress back.
        block, step = self._furthest = max(self._furthest, (block, step))
        canvas, index, blocks = plan.place_in_canvas(block)
        progress = (canvas, plan.canvases, index * max_steps + step, blocks * max_steps)
        if usage is not None:
            text = self.finished_text.text
            return Frame(text, (), len(text), *progress, usage)
        if state is None:
            return None
        done = self.output_ids[: state.block * len(state.ids)]
        given, may_change = plan.given_after(state.block)
        unsettled = [False] * len(done) + state.unsettled + may_change
        decoded = plan.decode([*done, *state.ids, *given], unsettled, state.finished_text)
        if plan.skeleton is None and state.finished_text.resumable:
            self._fixed = max(self._fixed, plan.num_fixed_chars(state.finished_text))
        return Frame(decoded.text, decoded.unsettled, self._fixed, *progress)
