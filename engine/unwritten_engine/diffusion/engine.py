"""The engine over the loop: a thread that steps, and requests that come from an event loop."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import abc, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from ..engine import About
from ..errors import EngineClosed, EngineError, GenerationFailed, PromptTooLong
from ..frames import Frame, Priority, Prompt, Request
from .loop import DenoisingLoop
from .model_runner import TokenMasks
from .sampling_params import SamplingParams, sampling_params
from .sequence import Sequence
from .tokenization.canvas_plan import CanvasPlan, plan_canvases
from .tokenization.detokenizer import Detokenizer
from .tokenization.prompt_tokenizer import PromptTokenizer


@dataclass(slots=True)
class _RequestInbox:
    """What other threads tell the loop's."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    sequences: deque[Sequence] = field(default_factory=deque)
    closed: bool = False


class DiffusionEngine:
    """An engine over one loaded DiffusionGemma. Made by ``open_diffusion``.

    Args:
        loop: the requests of the model.
        about: what this engine is.
        reader: reads its tokens.
        speaker: makes its prompts.
        masks: where shapes get their classes.
        base: the checkpoint's own dial.
    """

    def __init__(
        self,
        loop: DenoisingLoop,
        about: About,
        *,
        detokenizer: Detokenizer,
        prompt_tokenizer: PromptTokenizer,
        masks: TokenMasks,
        default_params: SamplingParams,
    ) -> None:
        self._about = about
        self._reader, self._speaker, self._masks, self._base = detokenizer, prompt_tokenizer, masks, default_params
        self._inbox = _RequestInbox()
        self._active: dict[int, Sequence] = {}  # by the identity of their requests
        # Only the thread holds the loop, and with it the model: when it ends, their memory is free.
        self._thread = threading.Thread(target=self._run_loop, args=(loop,), name="unwritten-diffusion", daemon=True)
        self._thread.start()

    @property
    def about(self) -> About:
        """What this engine is, and why it was chosen."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Write one text. See ``Engine.generate``; options are those in ``options.SAMPLING``."""
        self._check_open()
        run = self._make_sequence(request, self._masks.register)
        news = _update_event(run)
        self._submit(run)
        self._active[id(request)] = run
        try:
            while True:
                await news.wait()
                news.clear()
                if run.error is not None:
                    raise run.error
                frame = run.frame()
                if frame is None:
                    continue
                yield frame
                if frame.done:
                    return
        finally:
            self._active.pop(id(request), None)
            run.cancelled = True
            self._wake()

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        self._make_sequence(request, lambda mask: 1)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        run = self._active.get(id(request))
        if run is not None:
            run.priority = Priority.CLICK
            self._wake()

    async def warm(self, prompts: abc.Sequence[Prompt]) -> None:
        """Read the beginnings that these prompts share with later ones."""
        for prompt in prompts:
            if self._inbox.closed:
                return
            try:
                spoken = await asyncio.to_thread(self._speaker.tokenize, Prompt("A", prompt.system, prompt.examples))
            except EngineError:
                continue
            if spoken.num_shared == 0 or len(spoken.ids) > self._about.context:
                continue
            run = Sequence(spoken, CanvasPlan(1, 1, self._reader), self._base, 0, Priority.PREFETCH, warm_only=True)
            done = _update_event(run)
            try:
                self._submit(run)
                await done.wait()
            except EngineClosed:
                return
            finally:
                run.cancelled = True

    async def close(self) -> None:
        """Stop all work and free the model. Running generations raise ``EngineClosed``."""
        with self._inbox.changed:
            self._inbox.closed = True
            self._inbox.changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _make_sequence(self, request: Request, place: Callable[[bytes], int]) -> Sequence:
        """A request in tokens; ``place`` gives the masks of a shape their rows.

        Raises:
            RequestRefused, UnknownOption, BadOption: what this engine cannot do.
        """
        setting = sampling_params(request.options, self._base)
        made = plan_canvases(request, self._reader, self._about.canvas_length, place)
        spoken = self._speaker.tokenize(request.prompt)
        # The last canvas is denoised after what is kept, and is never kept itself.
        needed = len(spoken.ids) + (made.canvases - 1) * self._about.canvas_length
        if needed > self._about.context:
            raise PromptTooLong(
                f"The prompt has {len(spoken.ids):,} tokens, and with {made.canvases} canvases of "
                f"{self._about.canvas_length} it does not fit into the context of {self._about.context:,}. Shorten "
                f"the prompt, ask for fewer canvases, or open the engine with a larger context."
            )
        seed = secrets.randbelow(2**32) if request.seed is None else request.seed
        return Sequence(spoken, made, setting, seed, request.priority)

    def _check_open(self) -> None:
        if self._inbox.closed:
            raise EngineClosed("The engine is closed. Open it again.")

    def _submit(self, run: Sequence) -> None:
        with self._inbox.changed:
            self._check_open()
            self._inbox.sequences.append(run)
            self._inbox.changed.notify()

    def _wake(self) -> None:
        with self._inbox.changed:
            self._inbox.changed.notify()

    def _run_loop(self, loop: DenoisingLoop) -> None:
        """The loop's thread: step while there is something to do."""
        inbox = self._inbox
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
            except Exception as error:  # a defect here must not leave everybody waiting
                loop.fail_all(GenerationFailed(f"The denoising loop broke off: {error!r}. Try again."))
        loop.close()


def _update_event(run: Sequence) -> asyncio.Event:
    """An event of the running event loop that is set whenever the request has news."""
    news, loop = asyncio.Event(), asyncio.get_running_loop()

    def notify() -> None:
        loop.call_soon_threadsafe(news.set)  # raises when the event loop is closed: nobody waits any more

    run.notify = notify
    return news
