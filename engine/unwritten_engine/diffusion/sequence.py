"""One request under way: from its tokens to its last canvas."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import EngineError
from ..frames import Frame, Priority, StopReason, Usage
from .sampling_params import SamplingParams
from .tokenization.canvas_plan import CanvasPlan
from .tokenization.detokenizer import DecodedText
from .tokenization.prompt_tokenizer import TokenizedPrompt


@dataclass(frozen=True, slots=True)
class CanvasState:
    """What is on the canvas after a step. It is replaced as a whole, for another thread reads it.

    Attributes:
        canvas: its number.
        before: the text of the canvases before it.
        ids: of the canvas.
        unsettled: for each of them.
        step: within this canvas, counted from 1.
        steps: that this canvas may take.
    """

    canvas: int
    finished_text: DecodedText
    ids: list[int]
    unsettled: list[bool]
    step: int
    max_steps: int


@dataclass(eq=False, slots=True)
class Sequence:
    """One request under way. The loop's thread works on it; others may read frames, and set ``cancelled`` and
    ``priority``.

    Attributes:
        spoken: the prompt.
        outline: what stands on its canvases, and how they are read.
        dial: how they are denoised.
        seed: of its noise.
        priority: who is waiting.
        number: counts requests; among equals the lower goes first.
        warming: only the beginning of the prompt is wanted, in the store.
        notify: called from the loop's thread when there is a new frame or an end.
        cancelled: nobody wants it any more.
        written: tokens of the finished canvases.
        before: their text.
        held: tokens of prompt and finished canvases that the row holds.
        parked: the state of its canvas while it is pre-empted.
        most: steps that its canvas may take.
        draft: what is on the canvas now.
        error: why it failed.
        usage: set at its end.
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
    canvas: int = 0
    steps: int = 0
    num_cached_tokens: int = 0
    num_reused_tokens: int = 0
    saved_state: list[Tensor] | None = None
    max_steps: int = 0
    state: CanvasState | None = None
    error: EngineError | None = None
    usage: Usage | None = None
    arrival_time: float = field(default_factory=time.monotonic)
    start_time: float | None = None
    waiting_since: float | None = field(default_factory=time.monotonic)
    """When it began to wait; None while it has a row."""
    waited_before: float = 0.0
    """Seconds in the queue before, those after a pre-emption too."""
    _fixed: int = 0

    @property
    def finished(self) -> bool:
        """It has come to its end, or failed."""
        return self.usage is not None or self.error is not None

    @property
    def cache_keys(self) -> tuple[Hashable, ...]:
        """What stands for all tokens that its row should hold."""
        return (*self.prompt.cache_keys, *self.output_ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens that its row should hold."""
        return (*self.prompt.ids, *self.output_ids)

    @property
    def num_target_tokens(self) -> int:
        """How many tokens its row should hold before it is denoised, or has warmed what it should."""
        return self.prompt.num_shared if self.warm_only else len(self.prompt.ids) + len(self.output_ids)

    @property
    def queued_seconds(self) -> float:
        """Seconds in the queue so far."""
        return self.waited_before + (0.0 if self.waiting_since is None else time.monotonic() - self.waiting_since)

    def mark_running(self) -> None:
        """It gets a row: waiting is over."""
        self.waited_before, self.waiting_since = self.queued_seconds, None
        self.start_time = time.monotonic() if self.start_time is None else self.start_time

    def mark_waiting(self) -> None:
        """It has no row any more, and waits for another."""
        self.waiting_since = time.monotonic()

    def commit(self, ids: list[int]) -> StopReason | None:
        """Take a finished canvas in. Returns why the text is at its end, or None if another canvas follows."""
        self.output_ids += ids
        self.canvas += 1
        settled = [False] * len(self.output_ids)
        self.finished_text = self.plan.decode(self.output_ids, settled, self.finished_text)
        full = self.canvas == self.plan.canvases
        if self.plan.skeleton is not None:
            return "end" if full else None
        if self.finished_text.ended:
            return "stop" if self.plan.ends_with_stop(self.output_ids) else "end"
        return "length" if full else None

    def finish(self, reason: StopReason) -> None:
        """It is at its end."""
        self.usage = Usage(
            tokens=self.finished_text.num_tokens,
            prompt_tokens=len(self.prompt.ids),
            cached_tokens=self.num_reused_tokens,
            steps=self.steps,
            canvases=self.canvas,
            seconds=max(0.0, time.monotonic() - self.arrival_time - self.waited_before),
            queued_seconds=self.waited_before,
            reason=reason,
            seed=self.seed,
        )

    def frame(self) -> Frame | None:
        """The newest frame; None before the first. Called from one thread, the reader's."""
        usage, draft = self.usage, self.state
        if usage is not None:
            last = max(self.canvas - 1, 0)
            text = self.finished_text.text
            step, steps = (0, self.params.steps) if draft is None else (draft.step, draft.max_steps)
            return Frame(text, (), len(text), last, self.plan.canvases, step, steps, usage)
        if draft is None:
            return None
        done = self.output_ids[: draft.canvas * len(draft.ids)]
        flags = [False] * len(done) + draft.unsettled
        found = self.plan.decode([*done, *draft.ids], flags, draft.finished_text)
        if self.plan.skeleton is None and draft.finished_text.resumable:
            self._fixed = max(self._fixed, self.plan.num_fixed_chars(draft.finished_text))
        canvases = self.plan.canvases
        return Frame(found.text, found.unsettled, self._fixed, draft.canvas, canvases, draft.step, draft.max_steps)
