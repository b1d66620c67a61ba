"""The resident program ``llama-diffusion-gemma-visual-server``, and the lines that it writes.

It is part of llama.cpp's unmerged pull request 24423 and of the bundles that Unsloth builds from it. It loads a model
once, and then runs one request at a time:

* started with the path of a GGUF file; the environment has ``NGL`` (layers on a GPU), ``MAXTOK`` (tokens of prompt and
  output; 0 for as many as fit) and ``FA`` (flash attention);
* it writes ``READY <vocabulary> <tokens>`` when the model is loaded; older builds leave the last number out;
* it reads the path of a JSON file per line: ``{"seed": …, "n_blocks": …, "messages": […]}``;
* for each denoising step it writes ``F <block> <step from 0> <steps> "<draft>"``, with the draft of this block only and
  without control tokens (most files keep ``<|channel>`` and ``<channel|>``);
* for each finished block it writes ``C <block> "<text>"``, with the text of all blocks and with control tokens, and at
  the end ``STATS <name>=<value> …`` and ``DONE``;
* ``ERR <code> …`` reports a failure. Three codes are not followed by ``DONE``.

It cannot be interrupted, has no sampling options, and applies the chat template with thinking on.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import EngineError, GenerationFailed, UnknownEngine

NAME: Final = "llama-diffusion-gemma-visual-server"
BUNDLES: Final = "https://github.com/unslothai/llama.cpp/releases"

_LONGEST_LINE: Final = 1 << 24
"""In bytes. The longest are the texts of all blocks."""
_LOG_LINES: Final = 1000
_WITHOUT_DONE: Final = frozenset({"badreq", "parse", "emptyprompt"})
_READY: Final = re.compile(r"READY (\d+)(?: (\d+))?$")
_DRAFT: Final = re.compile(r"F (\d+) (\d+) (\d+) (\".*)$")
_COMMIT: Final = re.compile(r"C (\d+) (\".*)$")


@dataclass(frozen=True, slots=True)
class DraftRecord:
    """The draft of a block after a step, which counts from 1."""

    block: int
    step: int
    steps: int
    text: str


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """The text of all finished blocks."""

    block: int
    text: str


@dataclass(frozen=True, slots=True)
class StatsRecord:
    """Counts of a finished request, such as ``prompt_n`` and ``predicted_n``."""

    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """A failure."""

    code: str
    details: str


@dataclass(frozen=True, slots=True)
class UnknownRecord:
    """A line that is not of the protocol."""

    line: str


Record = DraftRecord | CommitRecord | StatsRecord | ErrorRecord | UnknownRecord


def parse_line(line: str) -> Record | None:
    """Return the record in a line, or None for the end of a request."""
    if line == "DONE":
        return None
    if match := _DRAFT.match(line):
        text = _text(match[4])
        if text is not None:
            return DraftRecord(int(match[1]), int(match[2]) + 1, int(match[3]), text)
    elif match := _COMMIT.match(line):
        text = _text(match[2])
        if text is not None:
            return CommitRecord(int(match[1]), text)
    elif line.startswith("STATS "):
        pairs = (word.partition("=") for word in line.split()[1:])
        return StatsRecord({name: int(value) for name, _, value in pairs if value.isascii() and value.isdigit()})
    elif line.startswith("ERR"):
        code, _, details = line[3:].strip().partition(" ")
        return ErrorRecord(code, details)
    return UnknownRecord(line)


def _text(literal: str) -> str | None:
    """Return the string in a JSON literal, or None."""
    try:
        value = json.loads(literal)
    except ValueError:
        return None
    # Drafts have parts of characters at any place; some builds end at the first one.
    return value.replace("\ufffd", "") if isinstance(value, str) else None


class VisualProgram:
    """One running program. Its output is read in threads, so that it never waits for its reader.

    Args:
        executable: path of the program.
        model: path of the GGUF file.
        gpu_layers: layers on a GPU.
        context: tokens of prompt and output; 0 for as many as fit.

    Attributes:
        context: tokens of prompt and output, as the program reports; 0 if it does not.
        load_seconds: how long loading took.

    Raises:
        UnknownEngine: it cannot be started.
    """

    def __init__(self, executable: str, model: Path, *, gpu_layers: int, context: int) -> None:
        self.context, self.load_seconds = 0, 0.0
        self._executable, self._model = executable, model
        self._lines: deque[str] = deque()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._changed = threading.Condition()
        self._ended = self._busy = False
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        environment = os.environ | {"NGL": str(gpu_layers), "MAXTOK": str(context)}
        libraries = "LD_LIBRARY_PATH" if os.name == "posix" else "PATH"
        paths = [str(Path(executable).resolve().parent), *_cuda_folders(), environment.get(libraries, "")]
        environment[libraries] = os.pathsep.join(path for path in paths if path)
        # A group of its own, so that Ctrl-C reaches only this process. It ends when its input is closed.
        group: dict[str, Any] = (
            {"start_new_session": True}
            if os.name == "posix"
            else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        )
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user names the program
                [executable, str(model)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                **group,
            )
        except OSError as error:
            raise UnknownEngine(f"{executable} cannot be started: {error}.") from error
        self._threads = [
            threading.Thread(target=target, name="unwritten-visual", daemon=True)
            for target in (self._read_output, self._read_log)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> bool:
        """True if the program has ended."""
        return self._ended

    @property
    def on_gpu(self) -> bool:
        """True if the log of llama.cpp says that layers are on a GPU."""
        found = re.findall(r"offloaded (\d+)/\d+ layers to GPU", "\n".join(self._log))
        return any(int(count) > 0 for count in found)

    def wait_until_ready(self, timeout: float) -> None:
        """Block until the model is loaded.

        Raises:
            EngineError: the program ended or was not ready in time. The message has the end of its log.
        """
        start = time.monotonic()
        while True:
            with self._changed:
                left = start + timeout - time.monotonic()
                self._changed.wait_for(lambda: self._lines or self._ended, max(0.0, left))
                line = self._lines.popleft() if self._lines else None
            if line is not None and (match := _READY.match(line)):
                self.context = int(match[2] or 0)
                self.load_seconds = time.monotonic() - start
                return
            if line is None:
                problem = "ended before it was ready" if self._ended else f"was not ready after {timeout:g} seconds"
                self.stop()
                raise EngineError(self._explain(problem))

    async def run(self, request: dict[str, Any], silence: float) -> AsyncGenerator[list[Record], None]:
        """Run a request. Yields all new records at a time, until the end of the request.

        Args:
            request: seed, n_blocks and messages.
            silence: seconds that may pass without a record.

        Raises:
            GenerationFailed: the program ended, or wrote nothing in time.
        """
        with _request_file(request) as name:
            self._send(name)
            while self._busy:
                if records := self._parse(await self._next_lines(silence)):
                    yield records

    async def drain(self, seconds: float) -> bool:
        """Skip the rest of an abandoned request. Return False if it did not end in time, or with the program."""
        try:
            async with asyncio.timeout(seconds):
                while self._busy:
                    self._parse(await self._next_lines(seconds))
        except (TimeoutError, GenerationFailed):
            return False
        return not self._ended

    def stop(self) -> None:
        """End the program and wait for it."""
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._changed:
            self._lines.clear()
        self._busy = True
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise GenerationFailed(self._explain("ended")) from error

    def _parse(self, lines: Sequence[str]) -> list[Record]:
        """Return the records of a request up to its end."""
        records = []
        for line in lines:
            record = parse_line(line)
            if record is not None:
                records.append(record)
            if record is None or (isinstance(record, ErrorRecord) and record.code in _WITHOUT_DONE):
                self._busy = False
                break
        return records

    async def _next_lines(self, seconds: float) -> Sequence[str]:
        """Return all new lines, at least one."""
        await asyncio.sleep(0)  # lines may arrive faster than they are read
        event = asyncio.Event()
        with self._changed:
            self._waiter = (asyncio.get_running_loop(), event)
            if self._lines or self._ended:
                event.set()
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            raise GenerationFailed(self._explain(f"wrote nothing for {seconds:g} seconds")) from None
        with self._changed:
            self._waiter = None
            lines = list(self._lines)
            self._lines.clear()
        if not lines:
            raise GenerationFailed(self._explain(f"ended with status {await asyncio.to_thread(self._process.wait)}"))
        return lines

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        while raw := self._process.stdout.readline(_LONGEST_LINE):
            self._put(raw.decode("utf-8", "replace").rstrip("\r\n"))
        self._put(None)

    def _put(self, line: str | None) -> None:
        with self._changed:
            if line is None:
                self._ended = True
            else:
                self._lines.append(line)
            self._changed.notify_all()
            waiter = self._waiter
        if waiter is not None:
            loop, event = waiter
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(event.set)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        while raw := self._process.stderr.readline(4096):
            self._log.append(raw.decode("utf-8", "replace").rstrip())

    def _explain(self, problem: str) -> str:
        """Return a message with the end of the log."""
        self._threads[1].join(0.2)  # the log may arrive after the end
        log = " / ".join(line.strip() for line in list(self._log) if line.strip())[-600:]
        hint = ""
        if "unknown model architecture" in log or (not self.load_seconds and NAME not in self._executable):
            hint = f" It must be {NAME} of llama.cpp's pull request 24423, which is in the bundles of {BUNDLES}."
        return (
            f"{self._executable} {problem}.{hint} Its log ends: {log or 'nothing'}. Run it by hand: {self._executable} "
            f"{self._model}"
        )


@contextlib.contextmanager
def _request_file(request: dict[str, Any]) -> Iterator[str]:
    """Write a request to a file that others cannot read. It is removed at the end."""
    handle, name = tempfile.mkstemp(prefix="unwritten-", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(request, file)
        yield name
    finally:
        Path(name).unlink(missing_ok=True)


def _cuda_folders() -> list[str]:
    """Return the folders of CUDA libraries in Python packages. The bundles have none of their own."""
    kind = "lib" if os.name == "posix" else "bin"
    try:
        package = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return []
    places = (package.submodule_search_locations or ()) if package else ()
    return sorted(str(folder) for place in places for folder in Path(place).glob(f"*/{kind}"))
