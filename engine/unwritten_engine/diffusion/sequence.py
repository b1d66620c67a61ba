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
    before: DecodedText
    ids: list[int]
    unsettled: list[bool]
    step: int
    steps: int


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
    warming: bool = False
    notify: Callable[[], None] | None = None
    cancelled: bool = False
    written: list[int] = field(default_factory=list)
    before: DecodedText = field(default_factory=lambda: DecodedText(""))
    canvas: int = 0
    steps: int = 0
    num_cached_tokens: int = 0
    num_reused_tokens: int = 0
    saved_state: list[Tensor] | None = None
    most: int = 0
    draft: CanvasState | None = None
    error: EngineError | None = None
    usage: Usage | None = None
    asked: float = field(default_factory=time.monotonic)
    begun: float | None = None
    since: float | None = field(default_factory=time.monotonic)
    """When it began to wait; None while it has a row."""
    waited: float = 0.0
    """Seconds in the queue before, those after a pre-emption too."""
    _fixed: int = 0

    @property
    def finished(self) -> bool:
        """It has come to its end, or failed."""
        return self.usage is not None or self.error is not None

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """What stands for all tokens that its row should hold."""
        return (*self.prompt.keys, *self.written)

    @property
    def ids(self) -> tuple[int, ...]:
        """All tokens that its row should hold."""
        return (*self.prompt.ids, *self.written)

    @property
    def num_target_tokens(self) -> int:
        """How many tokens its row should hold before it is denoised, or has warmed what it should."""
        return self.prompt.shared if self.warming else len(self.prompt.ids) + len(self.written)

    @property
    def queued(self) -> float:
        """Seconds in the queue so far."""
        return self.waited + (0.0 if self.since is None else time.monotonic() - self.since)

    def joined(self) -> None:
        """It gets a row: waiting is over."""
        self.waited, self.since = self.queued, None
        self.begun = time.monotonic() if self.begun is None else self.begun

    def waits(self) -> None:
        """It has no row any more, and waits for another."""
        self.since = time.monotonic()

    def commit(self, ids: list[int]) -> StopReason | None:
        """Take a finished canvas in. Returns why the text is at its end, or None if another canvas follows."""
        self.written += ids
        self.canvas += 1
        settled = [False] * len(self.written)
        self.before = self.plan.read(self.written, settled, self.before)
        full = self.canvas == self.plan.canvases
        if self.plan.skeleton is not None:
            return "end" if full else None
        if self.before.ended:
            return "stop" if self.plan.stopped(self.written) else "end"
        return "length" if full else None

    def finish(self, reason: StopReason) -> None:
        """It is at its end."""
        self.usage = Usage(
            tokens=self.before.tokens,
            prompt_tokens=len(self.prompt.ids),
            cached_tokens=self.num_reused_tokens,
            steps=self.steps,
            canvases=self.canvas,
            seconds=max(0.0, time.monotonic() - self.asked - self.waited),
            queued_seconds=self.waited,
            reason=reason,
            seed=self.seed,
        )

    def frame(self) -> Frame | None:
        """The newest frame; None before the first. Called from one thread, the reader's."""
        usage, draft = self.usage, self.draft
        if usage is not None:
            last = max(self.canvas - 1, 0)
            text = self.before.text
            step, steps = (0, self.params.steps) if draft is None else (draft.step, draft.steps)
            return Frame(text, (), len(text), last, self.plan.canvases, step, steps, usage)
        if draft is None:
            return None
        done = self.written[: draft.canvas * len(draft.ids)]
        flags = [False] * len(done) + draft.unsettled
        found = self.plan.read([*done, *draft.ids], flags, draft.before)
        if self.plan.skeleton is None and draft.before.whole:
            self._fixed = max(self._fixed, self.plan.certain(draft.before))
        canvases = self.plan.canvases
        return Frame(found.text, found.unsettled, self._fixed, draft.canvas, canvases, draft.step, draft.steps)
