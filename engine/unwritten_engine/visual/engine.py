"""DiffusionGemma through a llama.cpp command whose terminal drawing of the canvas is converted to frames.

llama.cpp's unmerged pull request 24423 has a program ``llama-diffusion-cli`` that draws the canvas into its terminal
after every step (``--diffusion-visual``). Each text is one run of that program, which loads the model again. This shows
drafts on a consumer card; it is not suitable for many visitors.

The arguments and the drawing (``screen``) follow the program's source, ``examples/diffusion/diffusion-cli.cpp``. This
module was tested with a stand-in that prints the same, not with the program itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import secrets
import shlex
import shutil
import struct
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..chat_prompts import to_messages
from ..engine import Abilities, About, Progress
from ..errors import BadOption, EngineClosed, EngineError, GenerationFailed, RequestRefused, UnknownEngine
from ..frames import Frame, Prompt, Request
from ..gguf import GGUFHeader, read_header
from ..options import Option, check_options
from ..request_slots import SlotScheduler
from .screen import Screen, ScreenFrames

CANVAS_LENGTH: Final = 256
"""Tokens in one canvas of DiffusionGemma."""

OPTIONS: Final = (
    Option("model", None, "text", "the .gguf file; required"),
    Option("parallel", 1, "count", "programs that run at the same time, each with its own copy of the model", 1, 64),
    Option("gpu_layers", 99, "count", "layers to put on a GPU", 0, 1000),
    Option("threads", None, "count", "threads to compute with; None for the program's default", 1, 512),
    Option("start_timeout", 300.0, "number", "seconds until the first draft, loading included", 0.1, 36000),
    Option("silence_timeout", 60.0, "number", "seconds between two drafts", 0.1, 36000),
    Option("extra", "", "text", "additional arguments for the program, such as '--n-cpu-moe 12'"),
)
"""Options of the engine, for ``open_engine``."""

SAMPLING: Final = (
    Option("steps", None, "count", "maximum steps per canvas", 1, 4096),
    Option("entropy_bound", None, "number", "entropy bound of the tokens accepted in one step", 0, 100),
)
"""Sampling options of a request. Options that are not given are left to the model."""

_OWNER: Final = "The visual engine"
# The program crops its drawing to the size of the terminal. No canvas is larger than this.
_ROWS, _COLUMNS = 2048, 60_000
_PROMPT_ROOM: Final = 2048
"""Tokens that the program reserves for the prompt by default."""


def open_visual(program: str, *, progress: Progress | None = None, **options: Any) -> VisualEngine:
    """Check program and model. The model is loaded with each text.

    Args:
        program: path of ``llama-diffusion-cli``, or its name if it is on the PATH.
        progress: called at the end.
        options: see ``OPTIONS``.

    Raises:
        UnknownEngine: the program does not exist, or the system has no pseudo-terminals.
        BadOption, UnknownOption: no model was named, or another option is invalid.
        ModelNotFound, ModelBroken, ModelUnsupported: see ``gguf.read_header``.
    """
    settings = check_options(options, OPTIONS, _OWNER)
    executable = shutil.which(str(Path(program).expanduser())) if program.strip() else None
    if executable is None:
        raise UnknownEngine(
            f"There is no program {program!r}. Give visual:PATH with the path of llama-diffusion-cli; a build of "
            f"llama.cpp's pull request 24423 has it in build/bin."
        )
    if os.name != "posix":
        raise UnknownEngine(f"{_OWNER} needs a Unix terminal. On Windows, use it inside WSL.")
    try:
        shlex.split(settings["extra"])
    except ValueError as error:
        raise BadOption(f"{_OWNER}: the option 'extra' cannot be parsed ({error}). Check its quotes.") from error
    if not settings["model"]:
        raise BadOption(f"{_OWNER} needs a model file, such as model=diffusiongemma-26B-A4B-it-Q4_K_M.gguf")
    head = read_header(settings["model"])
    if not head.is_diffusion_gemma:
        raise BadOption(f"{head.path} is not a DiffusionGemma, but {head.architecture!r}. Open it by its path.")
    if progress:
        progress(1.0, f"{head.name} will be loaded with each text")
    return VisualEngine(executable, head, settings)


class VisualEngine:
    """An engine that runs a program for each text. Created by ``open_visual``."""

    def __init__(self, program: str, head: GGUFHeader, settings: Mapping[str, Any]) -> None:
        self._program = program
        self._head = head
        self._settings = settings
        self._slots = SlotScheduler(settings["parallel"], settings["parallel"])
        self._running: set[asyncio.subprocess.Process] = set()
        self._closed = False
        self._about = About(
            engine="visual",
            model=head.name,
            device=f"{Path(program).name}, with {settings['gpu_layers']} layers on a GPU if it has one",
            quantization=head.quantization,
            memory_bytes=head.weight_bytes * settings["parallel"],
            context=head.context,
            canvas_length=CANVAS_LENGTH,
            parallel=settings["parallel"],
            abilities=Abilities(instruct=True, drafts=True, markup=True, prefill=False),
            licence=str(head.metadata.get("general.license", "")),
            reasons=(
                "The program was requested by its path.",
                "It loads the model for each text.",
                "It does not count tokens; token counts are estimates.",
            ),
        )

    @property
    def about(self) -> About:
        """See ``Engine.about``."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``. Writes whole canvases; options are those in ``SAMPLING``."""
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        options = self._options(request)
        canvases = -(-request.budget(CANVAS_LENGTH) // CANVAS_LENGTH)
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        arrival = time.monotonic()
        slot = await self._slots.acquire("", request.priority, request)
        start = time.monotonic()
        screen, frames = Screen(), ScreenFrames(canvases)
        try:
            with tempfile.TemporaryDirectory(prefix="unwritten-") as name:
                folder = Path(name)
                arguments = self._arguments(request.prompt, options, canvases, seed, folder)
                async with contextlib.aclosing(self._run(arguments, folder / "log", screen)) as output:
                    async for data in output:
                        if screen.feed(data):
                            yield frames.draft(screen)
        finally:
            self._slots.release(slot)
        yield frames.last(screen, seconds=time.monotonic() - start, queued=start - arrival, seed=seed)

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        self._options(request)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        self._slots.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Do nothing: the program keeps nothing between two texts."""

    async def close(self) -> None:
        """Stop all programs. Running generations raise ``EngineClosed``."""
        self._closed = True
        self._slots.close()
        for process in list(self._running):
            _kill(process)
        for process in list(self._running):
            await process.wait()

    def _options(self, request: Request) -> dict[str, Any]:
        """Return the sampling options.

        Raises:
            RequestRefused, UnknownOption, BadOption: the request is not supported.
        """
        options = check_options(request.options, SAMPLING, _OWNER)
        unsupported = {
            "follow a schema. Leave the schema out, or use the engine 'diffusion'": request.schema is not None,
            "edit a draft. Put the text into the prompt's facts, or use the engine 'diffusion'": request.draft,
            "see images. Leave them out of the prompt": request.prompt.images,
        }
        for feature, requested in unsupported.items():
            if requested:
                raise RequestRefused(f"{Path(self._program).name} cannot {feature}.")
        return options

    def _arguments(
        self, prompt: Prompt, options: Mapping[str, Any], canvases: int, seed: int, folder: Path
    ) -> list[str]:
        """Return the program's arguments. Texts are passed in files, because arguments are visible to other users."""
        system, text = _format_prompt(prompt)
        (folder / "prompt").write_text(text, encoding="utf-8")
        settings = self._settings
        arguments = ["-m", str(self._head.path), "-f", str(folder / "prompt"), "--no-escape"]
        if system:
            (folder / "system").write_text(system, encoding="utf-8")
            arguments += ["-sysf", str(folder / "system")]
        arguments += ["-n", str(canvases * CANVAS_LENGTH), "-ngl", str(settings["gpu_layers"]), "--seed", str(seed)]
        arguments += ["--diffusion-visual", "--diffusion-visual-progress", "--diffusion-visual-interval", "1"]
        # Prompt and canvas are one batch. Tokens are estimated at two characters each.
        tokens = len(system + text) // 2
        if tokens > _PROMPT_ROOM:
            max_total = str(canvases * CANVAS_LENGTH + tokens)
            arguments += ["-c", max_total, "-b", max_total, "-ub", max_total]
        if settings["threads"]:
            arguments += ["-t", str(settings["threads"])]
        if options["steps"]:
            arguments += ["--diffusion-eb-max-steps", str(options["steps"])]
        if options["entropy_bound"] is not None:
            arguments += ["--diffusion-eb-entropy-bound", f"{options['entropy_bound']:g}"]
        return [*arguments, *shlex.split(settings["extra"])]

    async def _run(self, arguments: Sequence[str], log: Path, screen: Screen) -> AsyncGenerator[bytes, None]:
        """Run the program and yield its output.

        Raises:
            GenerationFailed: the program did not start, sent nothing in time, or failed. The message ends with its log.
            EngineClosed: the engine was closed.
        """
        terminal, inside = _open_terminal()
        try:
            with log.open("wb") as errors:
                process = await asyncio.create_subprocess_exec(
                    self._program,
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=inside,
                    stderr=errors,
                    start_new_session=True,  # so that Ctrl-C does not reach it
                )
        except OSError as error:
            os.close(terminal)
            raise GenerationFailed(f"{self._program} cannot be started: {error}.") from error
        finally:
            os.close(inside)
        self._running.add(process)
        loop = asyncio.get_running_loop()
        transport, output = await loop.connect_read_pipe(_TerminalOutput, os.fdopen(terminal, "rb", 0))
        try:
            while data := await self._read(output, screen):
                yield data
            status = await process.wait()
            if self._closed:
                raise EngineClosed("The engine was closed during the generation.")
            if status or not screen.ended or not (screen.canvases or screen.text()[0]):
                raise self._failure(f"ended with status {status} and without a text", log)
        except TimeoutError:
            raise self._failure("drew nothing in time", log) from None
        finally:
            _kill(process)
            transport.close()
            try:
                await process.wait()
            finally:
                self._running.discard(process)

    async def _read(self, output: _TerminalOutput, screen: Screen) -> bytes:
        """Return all new output; empty at the end."""
        async with asyncio.timeout(self._settings["silence_timeout" if screen.canvases else "start_timeout"]):
            return await output.read()

    def _failure(self, problem: str, log: Path) -> EngineError:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        end = " / ".join(line.strip() for line in lines if line.strip())[-600:]
        hint = "It may not support the model: " if "unknown model architecture" in end else ""
        return GenerationFailed(
            f"{self._program} {problem}. {hint}Its log ends: {end or 'nothing'}. Run it by hand with -m "
            f"{self._head.path}"
        )


class _TerminalOutput(asyncio.Protocol):
    """Output of a terminal. It is read without limit, because a full terminal would block the program.

    ``asyncio.StreamReader`` is not usable: it loses buffered data when the program closes the terminal, which is an
    error on a pseudo-terminal.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._event = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Buffer new output."""
        self._data += data
        self._event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the program."""
        self._ended = True
        self._event.set()

    async def read(self) -> bytes:
        """Return all output since the last call; empty at the end."""
        while not self._data and not self._ended:
            self._event.clear()
            await self._event.wait()
        data, self._data = bytes(self._data), bytearray()
        return data


def _format_prompt(prompt: Prompt) -> tuple[str, str]:
    """Return the system text, and the rest as one message, because the program accepts no earlier turns."""
    messages = to_messages(prompt)
    system = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
    *turns, ask = [message["content"] for message in messages]
    if not turns:
        return system, ask
    examples = "\n\n".join(
        f"Ask: {asked}\nAnswer: {answer}" for asked, answer in zip(turns[::2], turns[1::2], strict=True)
    )
    return (
        system,
        f"This is how others were answered.\n\n{examples}\n\nNow answer this, without 'Answer:' before it.\n\n{ask}",
    )


def _open_terminal() -> tuple[int, int]:
    """Return both ends of a raw pseudo-terminal that is large enough for every canvas."""
    fcntl, pty, termios, tty = (importlib.import_module(name) for name in ("fcntl", "pty", "termios", "tty"))
    outside, inside = pty.openpty()
    tty.setraw(inside)
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    return outside, inside


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
