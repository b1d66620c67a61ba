"""DiffusionGemma in llama.cpp's resident program, with a frame for every denoising step.

The program loads the model once and runs one request at a time; see ``program``. It suits one person with one consumer
GPU. It has no sampling options, schemas, edits or images, and it cannot be interrupted: after a cancelled request, the
engine waits for its end for as long as loading would take, and then starts the program again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..chat_prompts import ControlTokens, to_messages
from ..engine import Abilities, About, Progress
from ..errors import (
    BadOption,
    EngineClosed,
    EngineError,
    GenerationFailed,
    PromptTooLong,
    RequestRefused,
    UnknownEngine,
)
from ..frames import Frame, Prompt, Request
from ..gguf import GGUFHeader, read_header
from ..options import Option, check_options
from ..request_slots import Slot, SlotScheduler
from .program import (
    BUNDLES,
    NAME,
    CommitRecord,
    DraftRecord,
    ErrorRecord,
    Record,
    StatsRecord,
    UnknownRecord,
    VisualProgram,
)
from .record_frames import RecordFrames

OPTIONS: Final = (
    Option("model", None, "text", "the .gguf file; required"),
    Option("gpu_layers", 99, "count", "layers to put on a GPU", 0, 1000),
    Option("context", None, "count", "maximum tokens of prompt and output; default: as many as fit", 1024, 2**18),
    Option("thinking_canvases", 3, "count", "canvases for the thoughts of the model, besides those of the text", 0, 64),
    Option("start_timeout", 300.0, "number", "seconds to load the model", 0.1, 36000),
    Option("silence_timeout", 60.0, "number", "seconds between two steps", 0.1, 36000),
)
"""Options of the engine, for ``open_engine``."""

_OWNER: Final = "The visual engine"
_CANVAS_LENGTH: Final = 256
"""Used if the file does not name another."""
_MOST_UNKNOWN_LINES: Final = 1000
"""In one text, such as lines of a log."""
_LARGEST_SEED: Final = 2**31 - 4096
"""The program adds the number of the block, and the sum must fit in 32 bits."""


def open_visual(program: str, *, progress: Progress | None = None, **options: Any) -> VisualEngine:
    """Start the program and wait until it has loaded the model.

    Args:
        program: path of ``llama-diffusion-gemma-visual-server``, or its name if it is on the PATH.
        progress: called before and after the model is loaded.
        options: see ``OPTIONS``.

    Raises:
        UnknownEngine: the program does not exist.
        BadOption, UnknownOption: no model was named, or another option is invalid.
        ModelNotFound, ModelBroken, ModelUnsupported: see ``gguf.read_header``.
        EngineError: the program did not load the model. The message has the end of its log.
    """
    settings = check_options(options, OPTIONS, _OWNER)
    executable = shutil.which(str(Path(program).expanduser())) if program.strip() else None
    if executable is None:
        raise UnknownEngine(
            f"There is no program {program!r}. Give visual:PATH with the path of {NAME}; the bundles of {BUNDLES} have "
            f"it."
        )
    if not settings["model"]:
        raise BadOption(f"{_OWNER} needs a model file, such as model=diffusiongemma-26B-A4B-it-Q4_K_M.gguf")
    head = read_header(settings["model"])
    if not head.is_diffusion_gemma:
        raise BadOption(f"{head.path} is not a DiffusionGemma, but {head.architecture!r}. Open it by its path.")
    if progress:
        progress(0.0, f"Loading {head.name}, {head.weight_bytes / 1e9:.1f} GB")
    engine = VisualEngine(executable, head, settings)
    engine.load()
    if progress:
        progress(1.0, f"{head.name} is loaded")
    return engine


class VisualEngine:
    """An engine that uses a resident program. Created by ``open_visual``."""

    def __init__(self, executable: str, head: GGUFHeader, settings: Mapping[str, Any]) -> None:
        self._executable, self._head, self._settings = executable, head, settings
        self._slots = SlotScheduler(1, 1)
        self._controls = ControlTokens(head.control_tokens)
        self._program: VisualProgram | None = None
        self._loading: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False
        self._about = About(
            engine="visual",
            model=head.name,
            device=f"{Path(executable).name}, with up to {settings['gpu_layers']} layers on a GPU",
            quantization=head.quantization,
            memory_bytes=head.weight_bytes,
            context=settings["context"] or head.context,
            canvas_length=int(head.metadata.get("diffusion.canvas_length") or _CANVAS_LENGTH),
            parallel=1,
            abilities=Abilities(instruct=True, drafts=True, markup=True, prefill=False),
            licence=str(head.metadata.get("general.license", "")),
            reasons=_reasons(settings),
        )

    def load(self) -> None:
        """Start the program and block until it has loaded the model.

        Raises:
            EngineError: it did not.
        """
        settings = self._settings
        program = VisualProgram(
            self._executable, self._head.path, gpu_layers=settings["gpu_layers"], context=settings["context"] or 0
        )
        self._program = program
        if self._closed:
            program.stop()
            raise EngineClosed("The engine was closed while the model was loaded.")
        program.wait_until_ready(settings["start_timeout"])
        reasons = [*_reasons(settings), f"Loading took {program.load_seconds:.1f} seconds."]
        if settings["gpu_layers"] and not program.on_gpu:
            reasons.append(
                "The log of the program names no layers on a GPU, so it may run on the CPU. The bundles for CUDA need "
                "its libraries. Type: pip install nvidia-cuda-runtime-cu12 nvidia-cublas-cu12"
            )
        self._about = replace(self._about, context=program.context or self._about.context, reasons=tuple(reasons))

    @property
    def about(self) -> About:
        """See ``Engine.about``."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``. There are no sampling options."""
        self.check(request)
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        budget = request.budget(self._about.canvas_length)
        seed = secrets.randbelow(_LARGEST_SEED) if request.seed is None else request.seed
        arrival = time.monotonic()
        slot = await self._slots.acquire("", request.priority, request)
        start, finished = time.monotonic(), False
        frames, counts = RecordFrames(budget, self._about.canvas_length), dict[str, int]()
        try:
            program = await self._running_program()
            blocks = -(-budget // self._about.canvas_length) + self._settings["thinking_canvases"]
            message = {"seed": seed % _LARGEST_SEED, "n_blocks": blocks, "messages": self._messages(request.prompt)}
            unknown: list[str] = []
            async with contextlib.aclosing(program.run(message, self._settings["silence_timeout"])) as batches:
                async for batch in batches:
                    frame = self._frame(batch, frames, counts, unknown)
                    if frame is not None:
                        yield frame
                    if frames.full:
                        break
                else:
                    finished = True
            last = frames.last(counts, seconds=time.monotonic() - start, queued=start - arrival, seed=seed)
        except EngineError:
            if self._closed:
                raise EngineClosed("The engine was closed during the generation.") from None
            raise
        finally:
            self._release(slot, finished)
        if last is None and unknown:
            raise self._unknown_lines(unknown)
        if last is None:
            raise GenerationFailed(
                f"{self._about.model} wrote only thoughts and no text. Ask for more canvases, or open the engine with "
                f"more thinking_canvases than {self._settings['thinking_canvases']}."
            )
        yield last

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        check_options(request.options, (), _OWNER)
        unsupported = {
            "follow a schema. Leave the schema out, or use the engine 'diffusion'": request.schema is not None,
            "edit a draft. Put the text into the prompt's facts, or use the engine 'diffusion'": request.draft,
            "see images. Leave them out of the prompt": request.prompt.images,
        }
        for feature, requested in unsupported.items():
            if requested:
                raise RequestRefused(f"{Path(self._executable).name} cannot {feature}.")

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        self._slots.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Do nothing: the program keeps nothing between two texts."""

    async def close(self) -> None:
        """Stop the program. Running generations raise ``EngineClosed``."""
        self._closed = True
        self._slots.close()
        if self._program is not None:
            await asyncio.to_thread(self._program.stop)
        if self._recovery is not None:
            await asyncio.wait([self._recovery])

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        return [message | {"content": self._controls.escape(message["content"])} for message in to_messages(prompt)]

    def _frame(
        self, batch: list[Record], frames: RecordFrames, counts: dict[str, int], unknown: list[str]
    ) -> Frame | None:
        """Return the newest frame of several records.

        Raises:
            PromptTooLong, GenerationFailed: the program reports a failure, and there is no text.
        """
        frame = None
        for at, record in enumerate(batch):
            if isinstance(record, CommitRecord):
                frame = frames.commit(record)
                if frames.full:
                    break
            elif isinstance(record, DraftRecord):
                if not any(isinstance(later, DraftRecord | CommitRecord) for later in batch[at + 1 :]):
                    frame = frames.draft(record)
            elif isinstance(record, StatsRecord):
                counts.update(record.counts)
            elif isinstance(record, UnknownRecord):
                unknown.append(record.line)
                if len(unknown) > _MOST_UNKNOWN_LINES:
                    raise self._unknown_lines(unknown)
            elif isinstance(record, ErrorRecord) and not frames.has_text:
                if record.code == "toolong":
                    needed, _, context = record.details.partition(" ")
                    raise PromptTooLong(
                        f"The prompt needs {needed} tokens with one canvas, and the program has {context}. Shorten the "
                        f"prompt, or open the engine with a larger context."
                    )
                raise GenerationFailed(
                    f"{Path(self._executable).name} reports a failure: {record.code} {record.details}".rstrip() + "."
                )
        return frame

    def _unknown_lines(self, lines: Sequence[str]) -> GenerationFailed:
        return GenerationFailed(
            f"{self._executable} wrote no text, but {len(lines)} unknown lines such as {lines[0][:120]!r}. It must be "
            f"{NAME} of llama.cpp's pull request 24423, which is in the bundles of {BUNDLES}."
        )

    async def _running_program(self) -> VisualProgram:
        """Return the program. Start it again if it has ended."""
        if self._loading is None and (self._program is None or self._program.ended):
            self._loading = asyncio.create_task(asyncio.to_thread(self.load))
        if self._loading is not None:
            try:
                await asyncio.shield(self._loading)  # a cancelled request does not stop it
            finally:
                if self._loading.done():
                    self._loading = None
        assert self._program is not None
        return self._program

    def _release(self, slot: Slot, finished: bool) -> None:
        """Free the slot, after the program is ready for the next request."""
        program = self._program
        if self._closed or (finished and program is not None and not program.ended):
            self._slots.release(slot)
        else:
            self._recovery = asyncio.create_task(self._recover(slot))

    async def _recover(self, slot: Slot) -> None:
        """Wait for the end of an abandoned request, or start the program again. Then free the slot.

        The wait is as long as loading takes, so that it costs at most twice the time of the better choice.
        """
        program = self._program
        was_ready = self._loading is None and program is not None and program.load_seconds > 0
        try:
            if was_ready and program is not None and not await program.drain(program.load_seconds):
                await asyncio.to_thread(program.stop)
            if (was_ready or self._loading is not None) and not self._closed:
                with contextlib.suppress(EngineError):  # the next request tries again, and reports it
                    await self._running_program()
        finally:
            self._slots.release(slot)


def _reasons(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "The program was requested by its path.",
        f"The model thinks before it writes, which cannot be turned off: {settings['thinking_canvases']} canvases are "
        f"added to each text for it.",
    )
