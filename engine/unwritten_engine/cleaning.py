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

from .characters import CharacterCleaner, clean_characters, last_boundary
from .control_text import ControlScanner
from .echoes import EchoGuard
from .engine import About, Engine
from .errors import GenerationFailed
from .frames import Frame, Prompt, Request, StopReason, Usage
from .output_filters import JSONFilter, find_continuation, is_json, json_start_characters
from .repetition import RepetitionGuard
from .text_frames import last_word, num_held_back
from .text_thread import in_text_thread

_GRACE: Final = 0.5
"""Seconds that an engine gets to report its usage after the end of its text."""
_SURPLUS: Final = 64
"""Characters that an engine may write in that time."""
_LONG: Final = 1000
"""New characters from which a frame is cleaned in a thread."""
_SLOW: Final = 0.004
"""Seconds of processor time after which the next frame of a text is cleaned in a thread as well."""
_CHARACTERS_PER_TOKEN: Final = 24
"""More than texts of any language or markup have on average. The longest words of vocabularies have about as many, but
ordinary text has 2 to 5, and only runs of spaces or dashes come near it."""
_LEAST_CHARACTERS: Final = 1000
"""Characters that a text may have beyond that, so that one long token does not matter in a short text."""


def _measured(clean: Callable[[Frame], Frame | None], raw: Frame) -> tuple[Frame | None, float]:
    """Return a clean frame, and the seconds of processor time that it took."""
    started = time.thread_time()
    frame = clean(raw)
    return frame, time.thread_time() - started


class Guard(Protocol):
    """Decides where one text ends before the model ends it, for example where it begins to repeat itself.

    Attributes:
        reason: what the usage reports as the end.
        fixed: how many leading characters of the checked frame it will never cut.
    """

    reason: StopReason
    fixed: int

    def check(self, frame: Frame) -> int | None:
        """Return the length that the text is cut to, or None to continue. Called with every clean frame in order."""
        ...


MakeGuard: TypeAlias = Callable[[Request, About], Guard]
GUARDS: Final[tuple[MakeGuard, ...]] = (EchoGuard, RepetitionGuard)
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
        about = self.engine.about
        return replace(about, abilities=replace(about.abilities, prefill=True))

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``.

        If the text ends before the engine does, the engine is stopped, and the last frame's usage is an estimate unless
        the engine reports it at once. A text with far more characters than its budget of tokens allows is cut, and its
        number of tokens is an estimate.

        Raises:
            GenerationFailed: also if the model wrote reasoning and no text.
        """
        about = self.engine.about
        cleaner = FrameCleaner(request, about)
        start = time.monotonic()
        is_slow = False
        async with contextlib.aclosing(self.engine.generate(request)) as frames:
            async for raw in frames:
                if is_slow or len(raw.text) - cleaner.length >= _LONG:
                    frame, seconds = await in_text_thread(_measured, cleaner.clean, raw)
                else:
                    frame, seconds = _measured(cleaner.clean, raw)
                is_slow = seconds > _SLOW
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
        prompt, self._schema = request.prompt, request.schema
        self.ended = False
        self._model = about.model
        self._drafts, self._prefills = about.abilities.drafts, about.abilities.prefill
        self._opening = clean_characters(prompt.opening)
        self._stops = () if self._prefills else tuple(stop for stop in request.stop if stop)
        self._guards = [make(request, about) for make in GUARDS]
        self._longest = _longest_text(request, about)
        self._ignores_budget = False
        self._source = ""
        self._characters = CharacterCleaner()
        self._scanner = ControlScanner()
        self._scanned_opening = ""
        # What the caller has put into the text is no marker.
        self._scans = request.draft is None or not _has_markers(request.draft.text)
        self._json: JSONFilter | None = None
        self._json_source = self._json_text = ""
        self._reason: StopReason | None = None
        self._last = Frame("")

    @property
    def length(self) -> int:
        """The length of the engine's text so far."""
        return len(self._source)

    def clean(self, raw: Frame) -> Frame | None:
        """Return the frame for an engine's frame, or None if nothing that readers see has changed.

        Raises:
            GenerationFailed: the last frame has reasoning and no text.
        """
        if len(raw.text) > self._longest:
            self._ignores_budget = True
            self._end("length")
            raw = _shorten(raw, self._longest)
        same = common_prefix(self._source, raw.text)
        unchanged = same == len(raw.text) == len(self._source)
        self._source = raw.text
        frame = self._remove_controls(raw, same)
        if not self._prefills:
            frame = self._extract_json(frame) if self._schema is not None else self._add_opening(frame)
        frame = self._cut(frame)
        if raw.usage is not None:
            return self.finish(raw.usage, frame)
        end = len(frame.text.rstrip())
        frame = replace(frame, fixed=last_boundary(frame.text, min(frame.fixed, end)))
        before, self._last = self._last, frame
        if (frame.text, frame.unsettled, frame.fixed) == (before.text, before.unsettled, before.fixed):
            return frame if unchanged else None
        return frame

    def finish(self, usage: Usage, frame: Frame | None = None) -> Frame:
        """Return the last frame.

        Args:
            usage: of the engine.
            frame: the clean frame; by default the one before.

        Raises:
            GenerationFailed: there is reasoning and no text.
        """
        frame = frame or self._last
        text, hidden = frame.text, self._scanner.hidden
        reason = self._reason or usage.reason
        if self._json is not None and reason == "end" and not is_json(text):
            text = self._scanner.text.strip()  # the caller may repair it
        if text != self._source:
            text = text.rstrip() if text[len(self._opening) :].strip() else text[: len(self._opening)]
        if hidden and not text[len(self._opening) :].strip():
            raise only_reasoning(self._model)
        length = len(self._source)
        is_plausible = length <= _LEAST_CHARACTERS + _CHARACTERS_PER_TOKEN * max(0, usage.tokens)
        tokens = usage.tokens if is_plausible and not self._ignores_budget else length // 4
        if hidden:
            visible = max(0, len(self._source) - hidden)
            tokens = max(1, round(tokens * visible / len(self._source)))
        return replace(
            frame, text=text, unsettled=(), fixed=len(text), usage=replace(usage, tokens=tokens, reason=reason)
        )

    def _remove_controls(self, raw: Frame, same: int) -> Frame:
        """Remove unsafe characters, reasoning and control tokens."""
        characters, final = self._characters, raw.done
        same = characters.update(raw.text, same, final=final)
        text, positions = characters.text, characters.positions
        fixed = positions(raw.fixed)
        spans = positions.spans(raw.unsettled)
        if self._scans:
            opening = self._opening if self._prefills and text.startswith(self._opening) else ""
            if opening != self._scanned_opening or not same:
                self._scanner, self._scanned_opening = ControlScanner(opening, json=self._schema is not None), opening
            scanner = self._scanner
            scanner.update(text, same, fixed if self._drafts else None, final=final)
            if scanner.ended is not None and (final or not self._drafts or scanner.ended <= fixed):
                self._end("end")
            text, positions = scanner.text, scanner.positions
            fixed = positions(fixed)
            spans = positions.spans(spans)
        return replace(raw, text=text, fixed=fixed, unsettled=spans)

    def _add_opening(self, frame: Frame) -> Frame:
        """Put the opening before the text, in which the model may have repeated it."""
        found = find_continuation(frame.text, self._opening, final=frame.done or self.ended)
        if found is None:
            return replace(frame, text=self._opening, fixed=len(self._opening), unsettled=())
        start, gap = found
        text = self._opening + gap + frame.text[start:]
        shift = len(text) - len(frame.text)
        spans = ((max(a, start) + shift, b + shift) for a, b in frame.unsettled if b > start)
        return replace(frame, text=text, fixed=max(frame.fixed, start) + shift, unsettled=tuple(spans))

    def _extract_json(self, frame: Frame) -> Frame:
        """Remove white space and text around the JSON value. No part is fixed: the end may show that it is no JSON."""
        if self._json is None or not frame.text.startswith(self._json_source):
            self._json, self._json_text = JSONFilter(json_start_characters(self._schema)), ""
            self._json_source = ""
        self._json_text += self._json.push(frame.text[len(self._json_source) :])
        self._json_source = frame.text
        text = self._json_text
        if self._json.done and not self._drafts and is_json(text):
            self._end("end")
        start = last_word(text)
        return replace(frame, text=text, fixed=0, unsettled=((start, len(text)),) if start < len(text) else ())

    def _cut(self, frame: Frame) -> Frame:
        """Cut the text at a stop string, hold back what may become one, and let the guards end it."""
        text, fixed = frame.text, frame.fixed
        if self._stops:
            same = len(self._last.text) if text.startswith(self._last.text) else len(self._opening)
            start = max(len(self._opening), same - max(map(len, self._stops)) + 1)
            found = [(at, at + len(stop)) for stop in self._stops if (at := text.find(stop, start)) >= 0]
            if found:
                length, end = min(found)
                if frame.done or not self._drafts or end <= fixed:
                    self._end("stop")
                frame = _shorten(frame, length)
            elif not frame.done:
                frame = _shorten(frame, len(text) - num_held_back(text, self._stops))
        for guard in self._guards:
            limit = guard.check(frame)
            if limit is not None:
                self._end(guard.reason)
                frame = _shorten(frame, limit)
            frame = replace(frame, fixed=min(frame.fixed, guard.fixed))
        return frame

    def _end(self, reason: StopReason) -> None:
        self.ended = True
        self._reason = reason


def _longest_text(request: Request, about: About) -> int:
    """Return how many characters an engine may write for a request, with the opening and the draft."""
    given = len(request.prompt.opening) + (len(request.draft.text) if request.draft else 0)
    return given + _LEAST_CHARACTERS + _CHARACTERS_PER_TOKEN * request.budget(about.canvas_length)


def only_reasoning(model: str) -> GenerationFailed:
    """Return the error for a text of reasoning alone."""
    return GenerationFailed(
        f"{model} wrote only reasoning and no text. Turn its thinking off, or allow more tokens: ask for more canvases."
    )


def _has_markers(text: str) -> bool:
    scanner = ControlScanner()
    scanner.update(text, 0, None, final=True)
    return scanner.text != text


def common_prefix(one: str, other: str) -> int:
    """Return the length of the common prefix of two texts."""
    if other.startswith(one):
        return len(one)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _shorten(frame: Frame, length: int) -> Frame:
    """Return the frame with the first characters of its text."""
    if length >= len(frame.text):
        return frame
    spans = tuple((start, min(end, length)) for start, end in frame.unsettled if start < length)
    return replace(frame, text=frame.text[:length], unsettled=spans, fixed=min(frame.fixed, length))


async def _await_usage(frames: AsyncGenerator[Frame, None], longest: int) -> Usage | None:
    """Return the usage if the engine ends by itself within a moment. Its errors do not matter any more."""
    with contextlib.suppress(Exception):
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
