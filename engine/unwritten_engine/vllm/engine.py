"""The vLLM engine: plans the canvases of a request, asks vLLM for one after the other, and makes frames of the drafts.

A canvas is a request of its own for vLLM. Its prompt ends with the canvases before it, which vLLM's prefix cache still
has. So each canvas has its own pins, and this engine decides where the text ends, as the diffusion engine does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..diffusion.diffusion_gemma.sampling_params import SamplingParams
from ..diffusion.sequence import BlockState
from ..diffusion.sequence import Sequence as TextSequence
from ..diffusion.tokenization.canvas_plan import BlockInit, CanvasPlan, plan_canvases
from ..diffusion.tokenization.detokenizer import Detokenizer
from ..diffusion.tokenization.prompt_tokenizer import PromptTokenizer
from ..engine import About
from ..errors import EngineClosed, EngineError, GenerationFailed, PromptTooLong, RequestRefused
from ..frames import Frame, Priority, Prompt, Request
from ..options import check_options
from ..request_slots import SlotScheduler
from .backend import Backend, CanvasRequest, StepDraft
from .constraints import encode_mask, extra_args
from .options import OWNER, SAMPLING, max_steps

log = logging.getLogger("unwritten_engine")
_WIDTHS: Final = 32
"""The width of a canvas is a multiple of this."""


@dataclass(slots=True)
class _Job:
    """A request while it runs.

    Attributes:
        seq: its text so far. Its seed is 0, because no seed repeats the text.
        masks: its encoded token masks.
        updated: set with every draft and at the end.
    """

    seq: TextSequence
    masks: list[str]
    updated: asyncio.Event


class VLLMEngine:
    """An engine for a running vLLM. Created by ``open_vllm``, or by ``open_openai`` for a server with drafts.

    Args:
        backend: the running vLLM.
        about: description of this engine.
        detokenizer: decodes the model's tokens.
        prompt_tokenizer: encodes prompts.
        steps: steps per canvas by default.
    """

    def __init__(
        self,
        backend: Backend,
        about: About,
        *,
        detokenizer: Detokenizer,
        prompt_tokenizer: PromptTokenizer,
        steps: int,
    ) -> None:
        self._backend, self._about = backend, about
        self._detokenizer, self._prompt_tokenizer, self._steps = detokenizer, prompt_tokenizer, steps
        self._slots = SlotScheduler(about.parallel, about.parallel)
        self._tasks: dict[asyncio.Task[None], _Job] = {}
        self._masks: dict[bytes, str] = {}
        self._closed = False

    @property
    def about(self) -> About:
        """See ``Engine.about``."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``. Options are those in ``options.SAMPLING``."""
        self._check_open()
        job = self._make_job(request)
        slot = await self._slots.acquire("", request.priority, request)
        job.seq.mark_running()
        task = asyncio.create_task(self._run(job, lambda: slot.priority or Priority.CLICK), name="vLLM request")
        self._tasks[task] = job
        task.add_done_callback(self._tasks.pop)
        async with self._slots.until_ended(slot, task):  # until vLLM has aborted it
            while True:
                await job.updated.wait()
                job.updated.clear()
                if job.seq.error is not None:
                    raise job.seq.error
                frame = job.seq.frame()
                if frame is None:
                    continue
                if frame.done:
                    break
                yield frame
        yield frame

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        self._make_job(request)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``. A running request gets the new priority with its next canvas."""
        self._slots.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Let vLLM read the prefixes that these prompts share with later ones, into its prefix cache."""
        for prompt in {prompt.system: Prompt("A", prompt.system, prompt.examples) for prompt in prompts}.values():
            request = Request(prompt, max_tokens=1, priority=Priority.PREFETCH, options={"steps": 1})
            try:
                async with contextlib.aclosing(self.generate(request)) as frames:
                    async for _ in frames:
                        pass
            except EngineError:
                continue

    async def close(self) -> None:
        """See ``Engine.close``."""
        if self._closed:
            return
        self._closed = True
        self._slots.close()
        tasks = dict(self._tasks)
        for task, job in tasks.items():
            job.seq.error = EngineClosed("The engine was closed during the generation.")
            job.updated.set()
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._backend.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")

    def _make_job(self, request: Request) -> _Job:
        """Tokenize a request.

        Raises:
            RequestRefused, UnknownOption, BadOption: the request is not supported.
        """
        options = check_options(request.options, SAMPLING, OWNER)
        if request.seed is not None:
            raise RequestRefused(
                "vLLM draws its own random numbers, so no seed repeats a text. Leave the seed out, or use the engine "
                "'diffusion'."
            )
        if request.prompt.images:
            raise RequestRefused(
                "The engine vllm accepts no images. Leave them out of the prompt, or use the engine 'diffusion'."
            )
        size = self._about.canvas_length
        masks: list[str] = []
        plan = plan_canvases(request, self._detokenizer, size, lambda mask: self._register_mask(masks, mask))
        prompt = self._prompt_tokenizer.tokenize(request.prompt)
        needed = len(prompt.ids) + plan.canvases * size
        if needed > self._about.context:
            raise PromptTooLong(
                f"The prompt has {len(prompt.ids):,} tokens, and with {plan.canvases} canvases of {size} it does not "
                f"fit into the context of {self._about.context:,}. Shorten the prompt, ask for fewer canvases, or open "
                f"the engine with a larger context."
            )
        params = SamplingParams(steps=max_steps(options["quality"], options["steps"], self._steps))
        return _Job(TextSequence(prompt, plan, params, 0, request.priority), masks, asyncio.Event())

    def _register_mask(self, masks: list[str], mask: bytes) -> int:
        """Append an encoded mask, and return its number, from 1."""
        if mask not in self._masks:
            if len(self._masks) >= 256:  # an app has a few schemas
                self._masks.clear()
            self._masks[mask] = encode_mask(mask)
        masks.append(self._masks[mask])
        return len(masks)

    async def _run(self, job: _Job, priority: Callable[[], Priority]) -> None:
        """Generate all canvases of a request."""
        seq = job.seq
        try:
            for number in range(seq.plan.num_blocks):
                canvas = seq.plan.init_block(number)
                width = self._width(seq.plan, number)
                ids = await self._write_canvas(job, canvas, width, int(priority()))
                so_far = [*seq.output_ids, *ids]
                judged = seq.plan.is_judged(so_far)
                if judged and seq.plan.is_padding(so_far):
                    raise GenerationFailed(
                        "The model wrote only padding, as it does if its numbers overflow. Check the checkpoint, its "
                        "quantization and the dtype."
                    )
                if judged and not seq.plan.mask_ids and seq.plan.is_empty(so_far):
                    seq.plan = seq.plan.require_text(number, lambda mask: self._register_mask(job.masks, mask))
                    ids = await self._write_canvas(job, seq.plan.init_block(number), width, int(priority()))
                reason = seq.commit(ids)
                if reason is not None:
                    seq.finish(reason)
                    break
        except EngineError as error:
            seq.error = error
        except Exception as error:
            log.exception("The vLLM engine failed.")
            seq.error = GenerationFailed(f"The vLLM engine failed ({type(error).__name__}: {error}). Try again.")
        finally:
            if not seq.finished:
                seq.error = GenerationFailed("The generation was cancelled. Try again.")
            job.updated.set()

    def _width(self, plan: CanvasPlan, number: int) -> int:
        """Return the width of a canvas: the last one is as short as the budget allows."""
        size = self._about.canvas_length
        left = plan.max_tokens - number * size
        return min(size, -(-left // _WIDTHS) * _WIDTHS)

    async def _write_canvas(self, job: _Job, canvas: BlockInit, width: int, priority: int) -> list[int]:
        """Generate one canvas and return its tokens, with padding if it is shorter than the others."""
        seq, padding = job.seq, self._about.canvas_length - width
        before, seen = seq.finished_text, seq.steps
        steps = seq.params.steps
        if canvas.initial and canvas.strength < 1:
            steps = max(1, round(steps * canvas.strength))
        pins = canvas.pins[:width]
        previous: Sequence[int] = ()

        def on_draft(draft: StepDraft) -> None:
            nonlocal previous
            if len(draft.ids) != width:
                return
            ids = _with_pins(draft.ids, pins)
            unsettled = [
                not accepted or not previous or id != previous[at]
                for at, (id, accepted) in enumerate(zip(ids, draft.accepted, strict=True))
            ]
            unsettled = [new and not (pins and pins[at] >= 0) for at, new in enumerate(unsettled)]
            previous = ids
            seq.steps = seen + draft.step
            seq.state = BlockState(
                canvas.number,
                before,
                [*ids, *[self._detokenizer.pad_id] * padding],
                [*unsettled, *[False] * padding],
                draft.step,
                steps,
            )
            job.updated.set()

        seed_canvas = self._seed_canvas(canvas, width)
        request = CanvasRequest(
            prompt=seq.token_ids,
            width=width,
            last=canvas.number + 1 == seq.plan.num_blocks,
            extra_args=extra_args(seed_canvas, pins, canvas.mask_ids[:width], job.masks),
            steps=steps,
            priority=priority,
        )
        finished = await self._backend.write_canvas(request, on_draft)
        if len(finished.ids) != width:
            raise GenerationFailed(f"vLLM returned {len(finished.ids)} of {width} tokens. See its log, and try again.")
        if canvas.number == 0:
            seq.num_reused_tokens = min(finished.num_cached_tokens, len(seq.prompt.ids))
        return [*_with_pins(finished.ids, pins), *[self._detokenizer.pad_id] * padding]

    def _seed_canvas(self, canvas: BlockInit, width: int) -> list[int]:
        """Return the initial tokens of a canvas; empty if all are random."""
        if not canvas.initial and not canvas.pins:
            return []
        pins = canvas.pins or [-1] * width
        initial = canvas.initial or [-1] * width
        tokens = []
        for pin, start in zip(pins[:width], initial[:width], strict=True):
            keeps, other = random.random() >= canvas.strength, random.randrange(self._detokenizer.vocab_size)  # noqa: S311
            tokens.append(pin if pin >= 0 else start if start >= 0 and keeps else other)
        return tokens


def _with_pins(ids: Sequence[int], pins: Sequence[int]) -> list[int]:
    """Return the tokens with the pinned ones. They differ if vLLM does not have the plugin."""
    if not pins:
        return list(ids)
    return [pin if pin >= 0 else id for id, pin in zip(ids, pins, strict=False)]
