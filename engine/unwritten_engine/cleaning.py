"""Clean the output of engines: the one place that all generated text passes.

``clean_engine`` wraps an engine. Its frames are then free of characters that cannot be stored or sent, of reasoning,
and of control tokens with whatever follows the end of the model's turn. ``open_engine`` wraps the engines that it
opens, and the framework wraps those that authors bring.

Frames are cumulative texts, so one implementation serves engines that append and engines whose drafts change anywhere.
The wrapper works on whole frames and not on pieces of text for that reason. It resumes where a frame differs from the
one before, so that a text costs linear time however many frames it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeAlias

from .engine import About, Engine
from .errors import EngineError
from .frames import Frame, Prompt, Request, StopReason, Usage

_GRACE: Final = 0.5
"""Seconds that an engine gets to report its usage after the end of its text."""
_SURPLUS: Final = 64
"""Characters that an engine may write in that time."""


class Guard(Protocol):
    """Decides where one text ends before the model ends it, for example where it begins to repeat itself.

    Attributes:
        reason: what the usage reports as the end.
    """

    reason: StopReason

    def check(self, frame: Frame) -> int | None:
        """Return the length that the text is cut to, or None to continue. Called with every clean frame in order."""
        ...


MakeGuard: TypeAlias = Callable[[Request, About], Guard]
GUARDS: Final[tuple[MakeGuard, ...]] = ()
"""Creates the guards of one request. The engine is stopped as soon as one of them ends the text."""


def clean_engine(engine: Engine) -> CleanEngine:
    """Return the engine with clean output. Wrapping it twice changes nothing."""
    return engine if isinstance(engine, CleanEngine) else CleanEngine(engine)


class CleanEngine:
    """An engine whose output is cleaned. Created by ``clean_engine``.

    Attributes:
        engine: the wrapped engine.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def about(self) -> About:
        """See ``Engine.about``."""
        return self.engine.about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``.

        If the text ends before the engine does, the engine is stopped, and the last frame's usage is an estimate unless
        the engine reports it at once.

        Raises:
            GenerationFailed: also if the model wrote reasoning and no text.
        """
        about = self.engine.about
        cleaner = FrameCleaner(request, about)
        start = time.monotonic()
        async with contextlib.aclosing(self.engine.generate(request)) as frames:
            async for raw in frames:
                frame = cleaner.clean(raw)
                if cleaner.ended and not raw.done:
                    usage = await _await_usage(frames, len(raw.text) + _SURPLUS)
                    frame = cleaner.finish(usage or _estimate_usage(raw, request, about, time.monotonic() - start))
                if frame is not None:
                    yield frame
                    if frame.done:
                        return

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        self.engine.check(request)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        self.engine.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """See ``Engine.warm``."""
        await self.engine.warm(prompts)

    async def close(self) -> None:
        """See ``Engine.close``."""
        await self.engine.close()


class FrameCleaner:
    """Cleans the frames of one generation.

    Args:
        request: the request.
        about: the engine.

    Attributes:
        ended: the text has ended, and the engine can be stopped.
    """

    def __init__(self, request: Request, about: About) -> None:
        self.ended = False
        self._model = about.model
        self._guards = [make(request, about) for make in GUARDS]
        self._last = Frame("")

    def clean(self, raw: Frame) -> Frame | None:
        """Return the frame for an engine's frame, or None if the same was returned before."""
        self._last = raw
        for guard in self._guards:
            length = guard.check(self._last)
            if length is not None:
                self.ended = True
                self._last = replace(self._last, text=self._last.text[:length])
        return self._last

    def finish(self, usage: Usage) -> Frame:
        """Return the last frame of a text that ended before its engine did."""
        return replace(self._last, unsettled=(), fixed=len(self._last.text), usage=usage)


async def _await_usage(frames: AsyncGenerator[Frame, None], longest: int) -> Usage | None:
    """Return the usage if the engine ends by itself within a moment. Its errors do not matter any more."""
    with contextlib.suppress(TimeoutError, EngineError):
        async with asyncio.timeout(_GRACE):
            async for frame in frames:
                if frame.done or len(frame.text) > longest:
                    return frame.usage
    return None


def _estimate_usage(raw: Frame, request: Request, about: About, seconds: float) -> Usage:
    tokens = len(raw.text) // 4 if about.abilities.drafts else raw.canvas * about.canvas_length + raw.step
    return Usage(
        tokens=max(1, tokens),
        prompt_tokens=0,
        cached_tokens=0,
        steps=raw.canvas * about.canvas_length + raw.step,
        canvases=raw.canvas + 1,
        seconds=seconds,
        queued_seconds=0.0,
        reason="end",
        seed=request.seed or 0,
    )
