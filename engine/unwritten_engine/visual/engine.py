"""DiffusionGemma through a llama.cpp that runs it: its own command line, whose picture of the canvas becomes frames.

llama.cpp's pull request 24423, which is not merged, has a program ``llama-diffusion-cli`` that draws the canvas into
its terminal after every step (``--diffusion-visual``). Each text is one run of that program, which loads the model
anew: seconds, from a warm disk. It is a way to see drafts on a consumer card, and not the way to serve many visitors.

The arguments and the drawing (``screen``) were read in the program's source, ``examples/diffusion/diffusion-cli.cpp``.
This module has been run with a stand-in that prints the same, and never with the program itself.
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
    Option("model", None, "text", "the .gguf file; must be given"),
    Option("parallel", 1, "count", "programs that run at the same time, each with a model of its own", 1, 64),
    Option("gpu_layers", 99, "count", "layers to put on a GPU", 0, 1000),
    Option("threads", None, "count", "threads to compute with; None leaves it to the program", 1, 512),
    Option("start_timeout", 300.0, "number", "seconds until the first draft, loading included", 0.1, 36000),
    Option("silence_timeout", 60.0, "number", "seconds between two drafts", 0.1, 36000),
    Option("extra", "", "text", "more arguments for the program, such as '--n-cpu-moe 12'"),
)
"""Options of the engine, as ``open_engine`` takes them."""

SAMPLING: Final = (
    Option("steps", None, "count", "steps that a canvas may take", 1, 4096),
    Option("entropy_bound", None, "number", "how unsure the tokens may be that are accepted in one step", 0, 100),
)
"""Sampling options of a request. What is not given is left to the model."""

_OWNER: Final = "The visual engine"
# The program cuts what it draws to the size of its terminal. No canvas is higher or wider than this.
_ROWS, _COLUMNS = 2048, 60_000
_PROMPT_ROOM: Final = 2048
"""Tokens that the program leaves for the prompt if it is not told otherwise."""


def open_visual(program: str, *, progress: Progress | None = None, **options: Any) -> VisualEngine:
    """Check that the program and the model are there. The model is loaded with each text.

    Args:
        program: the path of ``llama-diffusion-cli``, or its name if it is on the PATH.
        progress: called at the end.
        options: see ``OPTIONS``.

    Raises:
        UnknownEngine: there is no such program, or no terminal for it on this system.
        BadOption, UnknownOption: no model is named, or another option is wrong.
        ModelNotFound, ModelBroken, ModelUnsupported: see ``gguf.read_head``.
    """
    settings = check_options(options, OPTIONS, _OWNER)
    found = shutil.which(str(Path(program).expanduser())) if program.strip() else None
    if found is None:
        raise UnknownEngine(
            f"There is no program {program!r}. Write visual:PATH with the path of llama-diffusion-cli; a build of "
            f"llama.cpp's pull request 24423 has it in build/bin."
        )
    if os.name != "posix":
        raise UnknownEngine(f"{_OWNER} needs a terminal of Unix. On Windows, use it inside WSL.")
    try:
        shlex.split(settings["extra"])
    except ValueError as error:
        raise BadOption(f"{_OWNER}: the option 'extra' has a quote too many ({error}).") from error
    if not settings["model"]:
        raise BadOption(f"{_OWNER} needs the file of a model, such as model=diffusiongemma-26B-A4B-it-Q4_K_M.gguf")
    head = read_header(settings["model"])
    if not head.is_diffusion_gemma:
        raise BadOption(f"{head.path} is no DiffusionGemma, but {head.architecture!r}. Open it by its path alone.")
    if progress:
        progress(1.0, f"{head.name} will be loaded with each text")
    return VisualEngine(found, head, settings)


class VisualEngine:
    """An engine that runs a program for each text. Made by ``open_visual``."""

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
            abilities=Abilities(instruct=True, drafts=True, markup=True),
            licence=str(head.metadata.get("general.license", "")),
            reasons=(
                "The program was requested by its path.",
                "It loads the model for each text.",
                "It counts no tokens; numbers of tokens are estimates.",
            ),
        )

    @property
    def about(self) -> About:
        """What this engine is, and why it was chosen."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Write one text, in whole canvases. See ``Engine.generate``; options are those in ``SAMPLING``."""
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        options = self._options(request)
        canvases = -(-request.budget(CANVAS_LENGTH) // CANVAS_LENGTH)
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        asked = time.monotonic()
        slot = await self._slots.acquire("", request.priority, request)
        begun = time.monotonic()
        screen, frames = Screen(), ScreenFrames(request.prompt.opening, request.stop, canvases)
        try:
            with tempfile.TemporaryDirectory(prefix="unwritten-") as name:
                folder = Path(name)
                arguments = self._arguments(request.prompt, options, canvases, seed, folder)
                async with contextlib.aclosing(self._output(arguments, folder / "log", screen)) as output:
                    async for data in output:
                        if screen.feed(data):
                            yield frames.draft(screen)
        finally:
            self._slots.release(slot)
        yield frames.last(screen, seconds=time.monotonic() - begun, queued=begun - asked, seed=seed)

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        self._options(request)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        self._slots.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Nothing: the program forgets everything between two texts."""

    async def close(self) -> None:
        """Stop all programs. Running generations raise ``EngineClosed``."""
        self._closed = True
        self._slots.close()
        for process in list(self._running):
            _kill(process)
        for process in list(self._running):
            await process.wait()

    def _options(self, request: Request) -> dict[str, Any]:
        """The sampling options.

        Raises:
            RequestRefused, UnknownOption, BadOption: what this engine cannot do.
        """
        options = check_options(request.options, SAMPLING, _OWNER)
        cannot = {
            "be held to a shape. Leave it out, or take the engine 'diffusion'": request.schema is not None,
            "edit a draft. Put the text into the prompt's facts, or take the engine 'diffusion'": request.draft,
            "be shown images. Leave them out of the prompt": request.prompt.images,
        }
        for what, asked in cannot.items():
            if asked:
                raise RequestRefused(f"{Path(self._program).name} cannot {what}.")
        return options

    def _arguments(
        self, prompt: Prompt, options: Mapping[str, Any], canvases: int, seed: int, folder: Path
    ) -> list[str]:
        """What the program is called with. Texts go through files, where nobody else on the machine reads them."""
        system, text = _as_text(prompt)
        (folder / "prompt").write_text(text, encoding="utf-8")
        settings = self._settings
        arguments = ["-m", str(self._head.path), "-f", str(folder / "prompt"), "--no-escape"]
        if system:
            (folder / "system").write_text(system, encoding="utf-8")
            arguments += ["-sysf", str(folder / "system")]
        arguments += ["-n", str(canvases * CANVAS_LENGTH), "-ngl", str(settings["gpu_layers"]), "--seed", str(seed)]
        arguments += ["--diffusion-visual", "--diffusion-visual-progress", "--diffusion-visual-interval", "1"]
        # Prompt and canvas go through the model in one piece. A token has two characters or more, as a rule.
        tokens = len(system + text) // 2
        if tokens > _PROMPT_ROOM:
            room = str(canvases * CANVAS_LENGTH + tokens)
            arguments += ["-c", room, "-b", room, "-ub", room]
        if settings["threads"]:
            arguments += ["-t", str(settings["threads"])]
        if options["steps"]:
            arguments += ["--diffusion-eb-max-steps", str(options["steps"])]
        if options["entropy_bound"] is not None:
            arguments += ["--diffusion-eb-entropy-bound", f"{options['entropy_bound']:g}"]
        return [*arguments, *shlex.split(settings["extra"])]

    async def _output(self, arguments: Sequence[str], log: Path, screen: Screen) -> AsyncGenerator[bytes, None]:
        """What the program draws and prints, to its end.

        Raises:
            GenerationFailed: it could not be started, fell silent, or failed; the message has the end of its log.
            EngineClosed: the engine was closed.
        """
        terminal, inside = _terminal()
        try:
            with log.open("wb") as errors:
                process = await asyncio.create_subprocess_exec(
                    self._program,
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=inside,
                    stderr=errors,
                    start_new_session=True,  # a Ctrl-C is for us
                )
        except OSError as error:
            os.close(terminal)
            raise GenerationFailed(f"{self._program} cannot be started: {error}.") from error
        finally:
            os.close(inside)
        self._running.add(process)
        transport, drawing = await asyncio.get_running_loop().connect_read_pipe(_Drawing, os.fdopen(terminal, "rb", 0))
        try:
            while data := await self._read(drawing, screen):
                yield data
            status = await process.wait()
            if self._closed:
                raise EngineClosed("The engine was closed while it was writing.")
            if status or not screen.ended or not (screen.canvases or screen.text()[0]):
                raise self._failed(f"ended with status {status} and without a text", log)
        except TimeoutError:
            raise self._failed("fell silent" if screen.canvases else "has drawn nothing in time", log) from None
        finally:
            _kill(process)
            transport.close()
            try:
                await process.wait()
            finally:
                self._running.discard(process)

    async def _read(self, drawing: _Drawing, screen: Screen) -> bytes:
        """All that has come since; nothing at the end."""
        async with asyncio.timeout(self._settings["silence_timeout" if screen.canvases else "start_timeout"]):
            return await drawing.read()

    def _failed(self, how: str, log: Path) -> EngineError:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = " / ".join(line.strip() for line in lines if line.strip())[-600:]
        hint = "It may not know the model: " if "unknown model architecture" in said else ""
        return GenerationFailed(
            f"{self._program} {how}. {hint}Its log ends: {said or 'nothing'}. Try it by hand with -m {self._head.path}"
        )


class _Drawing(asyncio.Protocol):
    """What comes out of the terminal. All of it is taken at once: a full terminal would hold the program up.

    asyncio's own reader will not do: it forgets what it has when the program closes its side, which is an error on a
    terminal.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._event = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """More was drawn."""
        self._data += data
        self._event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The program has ended."""
        self._ended = True
        self._event.set()

    async def read(self) -> bytes:
        """All that has come since the last time; nothing at the end."""
        while not self._data and not self._ended:
            self._event.clear()
            await self._event.wait()
        data, self._data = bytes(self._data), bytearray()
        return data


def _as_text(prompt: Prompt) -> tuple[str, str]:
    """The system part, and all the rest as one message: the program takes no earlier turns."""
    messages = to_messages(prompt)
    system = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
    *turns, ask = [message["content"] for message in messages]
    if not turns:
        return system, ask
    shown = "\n\n".join(
        f"Ask: {asked}\nAnswer: {answer}" for asked, answer in zip(turns[::2], turns[1::2], strict=True)
    )
    return (
        system,
        f"This is how others were answered.\n\n{shown}\n\nNow answer this, without 'Answer:' before it.\n\n{ask}",
    )


def _terminal() -> tuple[int, int]:
    """Both ends of a terminal that is large enough for every canvas, and changes nothing of what goes through."""
    fcntl, pty, termios, tty = (importlib.import_module(name) for name in ("fcntl", "pty", "termios", "tty"))
    outside, inside = pty.openpty()
    tty.setraw(inside)
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    return outside, inside


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
