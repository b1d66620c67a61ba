"""Tapes: recorded frames of real generations, played back without a model.

    engine = Recorder(open_engine("embedded"), "lighthouse.tape")      # records while it is used
    engine = open_engine("lighthouse.tape", speed=4.0)                 # plays four times faster
    engine = open_engine("tape:tests/tapes/wiki.tape", speed=0)        # plays without delay

A tape is a text file with one JSON document per line. The first line holds the format version and the description of
the recorded engine. Every other line holds one generation, so a crash loses no finished one. Texts are stored as
differences: how many characters of the previous text remain, and what follows.

A request matches a recording if everything except seed and priority is equal. Unless ``strict`` is on, a recording
with the same ask, opening and schema also matches, so that a tape survives changes of system text, examples and
sampling. Several recordings of one request are played in turn. Other requests are refused. ``auto`` never opens a tape.

Tests that need no real text use ``scripted`` instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from . import errors
from .engine import Abilities, About, Engine
from .errors import (
    EngineClosed,
    EngineError,
    GenerationFailed,
    ModelBroken,
    ModelNotFound,
    RequestRefused,
)
from .frames import Frame, Prompt, Request, Usage

FORMAT: Final = 1
"""Version of the format that this module reads and writes."""
_DAMAGE: Final = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""What reading a damaged line raises."""
_LONGEST: Final = 10**6
"""Seconds that a generation takes at most."""


@dataclass(frozen=True, slots=True)
class Take:
    """One recorded generation.

    Attributes:
        key: hash of the request, see ``request_key``.
        loose: hash of its ask, opening and schema.
        ask: the request's ask, for messages.
        frames: seconds since the start of the work, and the frame.
        failure: the error that ended it, as the name of a class in ``errors`` and a message; None if it succeeded.
    """

    key: str
    loose: str
    ask: str
    frames: tuple[tuple[float, Frame], ...]
    failure: tuple[str, str] | None = None


def request_key(request: Request) -> str:
    """Return a stable hash of a request, without seed and priority."""
    names = [field.name for field in fields(request) if field.name not in ("seed", "priority")]
    # The format calls the schema "shape".
    return _digest({"shape" if name == "schema" else name: getattr(request, name) for name in names})


def _loose_key(request: Request) -> str:
    return _digest([request.prompt.ask, request.prompt.opening, request.schema])


def _digest(document: Any) -> str:
    text = json.dumps(document, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Convert a value that JSON does not support."""
    if isinstance(value, Mapping):  # options and schemas may be any mapping, such as a read-only one
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return repr(value)


class Recorder:
    """Wrap an engine and record every generation that finishes or fails.

    Generations that the caller stops are not recorded. An existing tape of the same model is extended.

    Raises:
        ModelBroken: the file exists and is not a tape, or is a tape of another model.
    """

    def __init__(self, engine: Engine, path: str | Path) -> None:
        self._engine = engine
        self._path = Path(path)
        if self._path.exists() and self._path.stat().st_size:
            about, _ = read_tape(self._path)
            if about.model != engine.about.model:
                raise ModelBroken(
                    f"The tape {self._path} has recordings of {about.model!r}, not of {engine.about.model!r}. "
                    f"Record to another file, or delete this one first."
                )
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write({"unwritten_tape": FORMAT, "about": asdict(engine.about)})

    @property
    def about(self) -> About:
        """Description of the recorded engine."""
        return self._engine.about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Generate with the wrapped engine and record the frames."""
        frames: list[tuple[float, Frame]] = []
        start = time.monotonic()
        inner = self._engine.generate(request)
        try:
            async for frame in inner:
                frames.append((time.monotonic() - start, frame))
                if frame.done:  # recorded before the yield, because the caller may stop after the last frame
                    self._keep(request, frames, None)
                yield frame
        except EngineClosed:
            raise
        except EngineError as error:
            self._keep(request, frames, (type(error).__name__, str(error)))
            raise
        finally:
            await inner.aclose()

    def check(self, request: Request) -> None:
        """Check with the wrapped engine."""
        self._engine.check(request)

    def promote(self, request: Request) -> None:
        """Promote the request in the wrapped engine."""
        self._engine.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Warm the wrapped engine."""
        await self._engine.warm(prompts)

    async def close(self) -> None:
        """Close the wrapped engine."""
        await self._engine.close()

    def _keep(self, request: Request, frames: list[tuple[float, Frame]], failure: tuple[str, str] | None) -> None:
        last = frames[-1][1].usage if frames else None
        queued = last.queued_seconds if last else 0.0  # a tape has no queue
        document: dict[str, Any] = {
            "key": request_key(request),
            "loose": _loose_key(request),
            "ask": request.prompt.ask,
            "frames": list(_packed(frames, queued)),
        }
        if last:
            document["usage"] = asdict(replace(last, queued_seconds=0.0))
        if failure:
            document["failure"] = failure
        self._write(document)

    def _write(self, document: Any) -> None:
        # One write per line, so that lines of two recorders in one process never mix.
        with self._path.open("a", encoding="utf-8", errors="surrogatepass") as file:
            file.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")


def _packed(frames: Sequence[tuple[float, Frame]], queued: float) -> Iterator[list[Any]]:
    """[seconds, characters kept, characters after them, unsettled, fixed, canvas, canvases, step, steps]."""
    before = ""
    for seconds, frame in frames:
        keep = _common(before, frame.text)
        yield [
            round(max(seconds - queued, 0.0), 4),
            keep,
            frame.text[keep:],
            frame.unsettled,
            frame.fixed,
            frame.canvas,
            frame.canvases,
            frame.step,
            frame.steps,
        ]
        before = frame.text


def _common(a: str, b: str) -> int:
    """Return the length of the common prefix of two texts."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def read_tape(path: str | Path) -> tuple[About, tuple[Take, ...]]:
    """Read a whole tape.

    Raises:
        ModelNotFound: the file does not exist.
        ModelBroken: not a tape, a tape of a newer format, or a damaged line.
    """
    path = Path(path)
    try:
        # Not splitlines(): a text may contain U+2028 and similar characters, which JSON does not escape.
        lines = path.read_text(encoding="utf-8", errors="surrogatepass").removesuffix("\n").split("\n")
    except (FileNotFoundError, IsADirectoryError):
        raise ModelNotFound(f"There is no tape at {path}. Record one with Recorder(engine, path).") from None
    except UnicodeDecodeError:
        raise ModelBroken(f"{path} is not a tape: it is not UTF-8 text. Record it again.") from None
    about = _read_header(path, lines[0] if lines else "")
    takes = []
    for number, line in enumerate(lines[1:], 2):
        try:
            takes.append(_take(json.loads(line)))
        except _DAMAGE as error:
            raise ModelBroken(
                f"The tape {path} is damaged in line {number} ({type(error).__name__}). "
                f"Delete that line to keep the rest, or record it again."
            ) from error
    return about, tuple(takes)


def _read_header(path: Path, line: str) -> About:
    try:
        header = json.loads(line)
        version = header["unwritten_tape"]
    except _DAMAGE:
        raise ModelBroken(f"{path} is not a tape: its first line has no tape header. Record it again.") from None
    if version != FORMAT:
        raise ModelBroken(
            f"The tape {path} has format {version!r}; this version reads format {FORMAT}. Record it again."
        )
    try:
        about = dict(header["about"])
        about["abilities"] = Abilities(**about["abilities"])
        about["reasons"] = tuple(about["reasons"])
        return About(**about)
    except _DAMAGE as error:
        raise ModelBroken(f"The tape {path} is damaged in its first line. Record it again.") from error


def _take(document: Mapping[str, Any]) -> Take:
    frames: list[tuple[float, Frame]] = []
    text = ""
    for seconds, keep, add, unsettled, *numbers in document["frames"]:
        text = text[:keep] + add
        fixed, canvas, canvases, step, steps = map(int, numbers)
        spans = tuple((int(a), int(b)) for a, b in unsettled)
        if not 0 <= seconds < _LONGEST:  # it would be waited for
            raise ValueError(f"a frame after {seconds} seconds")
        frames.append((float(seconds), Frame(text, spans, fixed, canvas, canvases, step, steps)))
    if usage := document.get("usage"):
        seconds, last = frames[-1]
        frames[-1] = (seconds, replace(last, usage=Usage(**usage)))
    failure = document.get("failure")
    return Take(
        key=str(document["key"]),
        loose=str(document["loose"]),
        ask=str(document["ask"]),
        frames=tuple(frames),
        failure=(str(failure[0]), str(failure[1])) if failure else None,
    )


class TapeEngine:
    """An engine that plays a tape.

    Args:
        path: the tape.
        speed: 1.0 plays in real time, 4.0 four times faster, 0 without delay.
        strict: refuse requests that differ in more than seed and priority.

    Raises:
        ModelNotFound: the file does not exist.
        ModelBroken: not a tape, or a damaged one.
    """

    def __init__(self, path: str | Path, *, speed: float = 1.0, strict: bool = False) -> None:
        if not speed >= 0:
            raise errors.BadOption(f"The speed of a tape is {speed!r}: give 0 (at once) or a positive number.")
        self._path = Path(path)
        self._speed = speed
        recorded, self._takes = read_tape(path)
        exact: dict[str, list[Take]] = {}
        loose: dict[str, list[Take]] = {}
        for take in self._takes:
            exact.setdefault(take.key, []).append(take)
            loose.setdefault(take.loose, []).append(take)
        self._exact, self._loose = exact, {} if strict else loose
        self._played: dict[str, int] = {}
        self._closed = asyncio.Event()
        self._about = replace(
            recorded,
            engine="tape",
            device="a tape",
            memory_bytes=0,
            abilities=replace(recorded.abilities, prefetch=False, preempts=False, prefill=True, seeds=False),
            reasons=(
                f"The tape {self._path.name} was requested by name.",
                f"It was recorded from {recorded.model} on {recorded.device}.",
            ),
        )

    @property
    def about(self) -> About:
        """Description of the recorded engine, with the engine name ``tape``."""
        return self._about

    @property
    def asks(self) -> tuple[str, ...]:
        """The asks on the tape, in order, without duplicates."""
        return tuple(dict.fromkeys(take.ask for take in self._takes))

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Play the recording of this request.

        Raises:
            RequestRefused: the tape has no recording of it.
            GenerationFailed: the recorded generation failed (or another engine error, as recorded).
        """
        take = self._find(request)
        start = time.monotonic()
        for seconds, frame in take.frames:
            await self._wait(start + seconds / self._speed - time.monotonic() if self._speed else 0.0)
            yield frame
        if take.failure:
            await self._wait(0.0)
            name, message = take.failure
            kind = getattr(errors, name, GenerationFailed)
            known = isinstance(kind, type) and issubclass(kind, RequestRefused | GenerationFailed)
            raise (kind if known else GenerationFailed)(message)

    def check(self, request: Request) -> None:
        """Refuse a schema if the recorded engine supported none. Whether the tape has the request is not checked.

        Raises:
            RequestRefused: schemas are not supported.
        """
        if request.schema is not None and not self._about.abilities.schemas:
            raise RequestRefused(
                f"The tape {self._path.name} was recorded from {self._about.model}, which does not support schemas. "
                f"Leave the schema out, or use another engine."
            )

    def promote(self, request: Request) -> None:
        """Do nothing: a tape plays at its own speed."""

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Do nothing: a tape is always warm."""

    async def close(self) -> None:
        """Make running generations raise ``EngineClosed``."""
        self._closed.set()

    def _find(self, request: Request) -> Take:
        key = request_key(request)
        takes = self._exact.get(key)
        if not takes:
            key = _loose_key(request)
            takes = self._loose.get(key)
        if not takes:
            shown = ", ".join(repr(ask) for ask in self.asks[:8]) or "nothing"
            more = f", and {len(self.asks) - 8} more" if len(self.asks) > 8 else ""
            raise RequestRefused(
                f"The tape {self._path.name} has no recording of {request.prompt.ask!r}. It has {shown}{more}. "
                f"Request one of these, or record this one with Recorder(engine, path)."
            )
        turn = self._played.get(key, 0)
        self._played[key] = turn + 1
        return takes[turn % len(takes)]

    async def _wait(self, seconds: float) -> None:
        if self._closed.is_set():
            raise EngineClosed("The engine is closed. Open it again.")
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return
        raise EngineClosed("The engine was closed during the generation.")
