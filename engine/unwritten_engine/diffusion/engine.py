"""The diffusion engine: runs the denoising loop in a thread and bridges it to the event loop."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import abc, deque
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from ..engine import About
from ..errors import EngineClosed, EngineError, GenerationFailed, PromptTooLong
from ..frames import Frame, Priority, Prompt, Request
from .family import SamplingParams
from .loop import DenoisingLoop
from .model_runner import TokenMasks
from .sequence import Sequence
from .tokenization.canvas_plan import CanvasPlan, plan_canvases
from .tokenization.detokenizer import Detokenizer
from .tokenization.prompt_tokenizer import PromptTokenizer


@dataclass(slots=True)
class _RequestInbox:
    """Messages from other threads to the loop's thread."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    sequences: deque[Sequence] = field(default_factory=deque)
    closed: bool = False


class DiffusionEngine:
    """An engine for one loaded model. Created by ``open_diffusion``.

    Args:
        loop: schedules the sequences.
        about: description of this engine.
        block_length: tokens that are denoised together.
        detokenizer: decodes the model's tokens.
        prompt_tokenizer: encodes prompts.
        masks: registry of token masks for schemas.
        make_params: returns the sampling parameters for the options of a request. See ``Family.sampling_params``.
        notes: sentences that are added to ``about.reasons``; it may grow while the engine runs.

    Raises:
        EngineError: the loop cannot start.
    """

    def __init__(
        self,
        loop: DenoisingLoop,
        about: About,
        *,
        block_length: int,
        detokenizer: Detokenizer,
        prompt_tokenizer: PromptTokenizer,
        masks: TokenMasks,
        make_params: Callable[[Mapping[str, Any]], SamplingParams],
        notes: abc.Sequence[str] = (),
    ) -> None:
        self._about, self._notes, self._block_length = about, notes, block_length
        self._detokenizer, self._prompt_tokenizer = detokenizer, prompt_tokenizer
        self._masks, self._make_params = masks, make_params
        self._inbox = _RequestInbox()
        self._active: dict[int, Sequence] = {}  # by id of the request
        ready: Future[None] = Future()
        # Only the thread references the loop and the model, so that their memory is freed when it ends.
        self._thread = threading.Thread(
            target=self._run_loop, args=(loop, ready), name="unwritten-diffusion", daemon=True
        )
        self._thread.start()
        ready.result()

    @property
    def about(self) -> About:
        """See ``Engine.about``."""
        return replace(self._about, reasons=(*self._about.reasons, *self._notes)) if self._notes else self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``. Options are those of the family."""
        self._check_open()
        seq = self._make_sequence(request, self._masks.register)
        updated = _update_event(seq)
        self._submit(seq)
        self._active[id(request)] = seq
        try:
            while True:
                await updated.wait()
                updated.clear()
                if seq.error is not None:
                    raise seq.error
                frame = seq.frame()
                if frame is None:
                    continue
                yield frame
                if frame.done:
                    return
        finally:
            self._active.pop(id(request), None)
            seq.cancelled = True
            self._wake()

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        self._make_sequence(request, lambda mask: 1)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        seq = self._active.get(id(request))
        if seq is not None:
            seq.priority = Priority.CLICK
            self._wake()

    async def warm(self, prompts: abc.Sequence[Prompt]) -> None:
        """Prefill the prefixes that these prompts share with later ones."""
        for prompt in prompts:
            if self._inbox.closed:
                return
            try:
                bare = Prompt("A", prompt.system, prompt.examples)
                tokenized = await asyncio.to_thread(self._prompt_tokenizer.tokenize, bare)
            except EngineError:
                continue
            if tokenized.num_shared == 0 or len(tokenized.ids) > self._about.context:
                continue
            plan = CanvasPlan(1, self._block_length, self._about.canvas_length, 1, self._detokenizer)
            seq = Sequence(tokenized, plan, self._make_params({}), 0, Priority.PREFETCH, warm_only=True)
            done = _update_event(seq)
            try:
                self._submit(seq)
                await done.wait()
            except EngineClosed:
                return
            finally:
                seq.cancelled = True

    async def close(self) -> None:
        """See ``Engine.close``."""
        with self._inbox.changed:
            self._inbox.closed = True
            self._inbox.changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _make_sequence(self, request: Request, register_mask: Callable[[bytes], int]) -> Sequence:
        """Tokenize a request. ``register_mask`` returns the row of a schema's token mask.

        Raises:
            RequestRefused, UnknownOption, BadOption: the request is not supported.
        """
        params = self._make_params(request.options)
        plan = plan_canvases(
            request,
            self._detokenizer,
            self._about.canvas_length,
            register_mask,
            block_length=self._block_length,
        )
        prompt = self._prompt_tokenizer.tokenize(request.prompt)
        # The last block never enters the cache.
        needed = len(prompt.ids) + (plan.num_blocks - 1) * self._block_length
        if needed > self._about.context:
            raise PromptTooLong(
                f"The prompt has {len(prompt.ids):,} tokens, and with a text of "
                f"{min(plan.max_tokens, plan.num_blocks * self._block_length):,} it does not fit into the context of "
                f"{self._about.context:,}. Shorten the prompt, ask for fewer canvases or max_tokens, or open the "
                f"engine with a larger context."
            )
        seed = secrets.randbelow(2**32) if request.seed is None else request.seed
        return Sequence(prompt, plan, params, seed, request.priority)

    def _check_open(self) -> None:
        if self._inbox.closed:
            raise EngineClosed("The engine is closed. Open it again.")

    def _submit(self, seq: Sequence) -> None:
        with self._inbox.changed:
            self._check_open()
            self._inbox.sequences.append(seq)
            self._inbox.changed.notify()

    def _wake(self) -> None:
        with self._inbox.changed:
            self._inbox.changed.notify()

    def _run_loop(self, loop: DenoisingLoop, ready: Future[None]) -> None:
        """Run steps in the loop's thread while there is work. All use of the device is in this thread."""
        inbox = self._inbox
        try:
            loop.prepare()
        except Exception as error:
            advice = "Open the engine with a smaller parallel or context, or with cuda_graphs=False."
            ready.set_exception(EngineError(f"The denoising loop cannot start: {error}. {advice}"))
            return
        ready.set_result(None)
        while True:
            with inbox.changed:
                while not (inbox.sequences or inbox.closed or not loop.idle):
                    inbox.changed.wait()
                while inbox.sequences:
                    loop.add(inbox.sequences.popleft())
                if inbox.closed:
                    break
            try:
                loop.step()
            except Exception as error:  # a bug here must not leave readers waiting
                loop.fail_all(GenerationFailed(f"The denoising loop failed: {error!r}. Try again."))
        loop.close()


def _update_event(seq: Sequence) -> asyncio.Event:
    """Return an event of the running event loop that is set on every update of the sequence."""
    updated, loop = asyncio.Event(), asyncio.get_running_loop()

    def notify() -> None:
        loop.call_soon_threadsafe(updated.set)  # raises if the event loop is closed; the sequence is then cancelled

    seq.notify = notify
    return updated
