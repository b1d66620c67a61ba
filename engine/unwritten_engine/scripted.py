"""An engine without a model that plays a script, for tests and demonstrations.

    engine = scripted("A lighthouse is a tower with a lamp.")            # word by word, for every request
    engine = scripted("Else.", by_ask={"Facts": '{"kind":"tower"}'})     # the first key found in the ask
    engine = scripted(lambda request: f"About {request.prompt.ask}")     # by function
    engine = scripted([Frame("Light", unsettled=((0, 5),)), Frame("Lamp", fixed=4)], delay=0.05)
    engine = scripted(["A light", 0.5, "A lighthouse", GenerationFailed("The lamp broke.")])

A *script* is a text, or a sequence of these:

* a ``Frame``: yielded unchanged;
* a text: a frame with this cumulative text (after the request's ``opening``), its last word unsettled;
* a number: wait that many seconds;
* an exception: raised;
* ``HANG``: wait until the generation is stopped or the engine closed;
* ``CUT``: end without a last frame, as a broken engine might.

At its end, a script gets a last frame with usage, unless its last frame has one. ``delay`` waits before every frame.
For tests, the engine records: ``requests`` (all requests, in order), ``warmed``, ``running``, ``stopped`` (generations
that were closed before their end) and ``promoted`` (requests passed to ``promote``).
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final, Literal, TypeAlias

from .engine import Abilities, About
from .errors import EngineClosed, RequestRefused
from .frames import Frame, Prompt, Request, Usage


class _Mark(Enum):
    HANG = "hang"
    CUT = "cut"


HANG: Final = _Mark.HANG
"""In a script: wait until the generation is stopped or the engine closed."""
CUT: Final = _Mark.CUT
"""In a script: end without a last frame."""
Step: TypeAlias = Frame | str | float | BaseException | Literal[_Mark.HANG, _Mark.CUT]
Script: TypeAlias = str | Sequence[Step]
Answer: TypeAlias = Script | Callable[[Request], Script]
ABOUT: Final = About(
    engine="scripted",
    model="a script",
    device="none",
    quantization="none",
    memory_bytes=0,
    context=8192,
    canvas_length=256,
    parallel=64,
    abilities=Abilities(instruct=True, drafts=True, schemas=True, images=True, edits=True, prefetch=True, markup=True),
    reasons=("A script was requested by name.",),
)


def scripted(
    default: Answer | None = None,
    *,
    by_ask: Mapping[str, Answer] | None = None,
    delay: float = 0.0,
    about: About = ABOUT,
) -> ScriptedEngine:
    """Return an engine that plays a script. The module's docstring describes scripts.

    Args:
        default: the script for requests without a match in ``by_ask``, or a function that returns it.
        by_ask: scripts by a part of the request's ask; the first key that occurs in the ask wins.
        delay: seconds before every frame.
        about: the engine's description.
    """
    return ScriptedEngine(default, by_ask or {}, delay, about)


class ScriptedEngine:
    """An engine that plays a script. Created by ``scripted``."""

    def __init__(self, default: Answer | None, by_ask: Mapping[str, Answer], delay: float, about: About) -> None:
        self._default = default
        self._by_ask = dict(by_ask)
        self._delay = delay
        self._about = about
        self._closed = asyncio.Event()
        self.requests: list[Request] = []
        self.warmed: list[Prompt] = []
        self.promoted: list[Request] = []
        self.running = 0
        self.stopped = 0

    @property
    def about(self) -> About:
        """Description of this engine."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Play the script for this request."""
        self.requests.append(request)
        steps = self._script(request)
        start = time.monotonic()
        last = Frame(request.prompt.opening)
        self.running += 1
        complete = False
        try:
            await self._wait(0.0)
            for step in steps:
                if step is HANG:
                    await self._wait(None)
                elif step is CUT:
                    complete = True
                    return
                elif isinstance(step, BaseException):
                    complete = True
                    raise step
                elif isinstance(step, int | float):
                    await self._wait(float(step))
                else:
                    await self._wait(self._delay)
                    last = step if isinstance(step, Frame) else _frame(request.prompt.opening + step, last)
                    complete = last.done
                    yield last
            if not last.done:
                complete = True
                yield _finished(last, request, start)
        finally:
            self.running -= 1
            self.stopped += not complete

    def check(self, request: Request) -> None:
        """Refuse a schema if the described engine supports none. Everything else depends on the script.

        Raises:
            RequestRefused: schemas are not supported.
        """
        if request.schema is not None and not self._about.abilities.schemas:
            raise RequestRefused(
                f"{self._about.model} does not support schemas. Leave the schema out, or use another engine."
            )

    def promote(self, request: Request) -> None:
        """Append the request to ``promoted``."""
        self.promoted.append(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Append the prompts to ``warmed``."""
        self.warmed += prompts

    async def close(self) -> None:
        """Make running generations raise ``EngineClosed``."""
        self._closed.set()

    def _script(self, request: Request) -> Sequence[Step]:
        ask = request.prompt.ask
        answer = next((a for part, a in self._by_ask.items() if part in ask), self._default)
        script = answer(request) if callable(answer) else answer
        if script is None:
            known = ", ".join(map(repr, self._by_ask)) or "nothing"
            raise RequestRefused(f"The script has no answer for {ask!r}. It answers requests that contain {known}.")
        return _words(script) if isinstance(script, str) else script

    async def _wait(self, seconds: float | None) -> None:
        """Wait that many seconds, or forever for None. Raise if the engine is closed meanwhile."""
        if seconds == 0.0 and not self._closed.is_set():
            await asyncio.sleep(0)  # let other tasks run, as any engine does
            return
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return
        raise EngineClosed("The engine was closed during the generation.")


def _words(text: str) -> list[str]:
    """Return cumulative texts, each one word longer."""
    return [text[: match.end()] for match in re.finditer(r"\s*\S+(\s+$)?", text)] or [text]


def _frame(text: str, before: Frame) -> Frame:
    start = max(text.rfind(" "), text.rfind("\n")) + 1
    return Frame(text, ((start, len(text)),) if start < len(text) else (), fixed=start, step=before.step + 1, steps=256)


def _finished(last: Frame, request: Request, start: float) -> Frame:
    words = len(last.text.split())
    usage = Usage(
        tokens=words,
        prompt_tokens=len(request.prompt.ask.split()),
        cached_tokens=0,
        steps=max(last.step, 1),
        canvases=last.canvas + 1,
        seconds=time.monotonic() - start,
        queued_seconds=0.0,
        reason="end",
        seed=request.seed or 0,
    )
    return replace(last, unsettled=(), fixed=len(last.text), usage=usage)


def denoising_frames(text: str, *, canvases: int = 1, steps: int = 6, seed: int = 0) -> list[Frame]:
    """Return frames like those of a diffusion engine: all words of a canvas at once, settling in random order.

    Args:
        text: the finished text; its words are distributed evenly over the canvases.
        canvases: number of canvases.
        steps: steps per canvas.
        seed: of the order in which the words settle.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible order, not a secret
    pieces = re.findall(r"\s*\S+\s*$|\s*\S+", text)
    share = -(-len(pieces) // canvases) or 1
    frames: list[Frame] = []
    done = ""
    for canvas in range(canvases):
        words = pieces[canvas * share : (canvas + 1) * share]
        order = rng.sample(range(len(words)), len(words))
        for step in range(1, steps + 1):
            settled = set(order[: len(words) * step // steps])
            parts, spans, at = [done], [], len(done)
            for number, word in enumerate(words):
                part = word if number in settled else re.sub(r"\w", lambda _: rng.choice("aeionrst"), word)
                if number not in settled and part.strip():
                    lead = len(part) - len(part.lstrip())
                    spans.append((at + lead, at + len(part.rstrip())))
                parts.append(part)
                at += len(part)
            frames.append(Frame("".join(parts), tuple(spans), len(done), canvas, canvases, step, steps))
        done += "".join(words)
        frames[-1] = replace(frames[-1], fixed=len(done))
    return frames
