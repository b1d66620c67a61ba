"""One call into llama.cpp: the bridge from its thread to the event loop.

The thread calls ``on_chunk`` for every token; the event loop awaits ``next_frame``. Only the newest frame is kept, so a
slow reader skips frames. The last frame is never replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import EngineError, GenerationFailed, PromptTooLong, RequestRefused
from ..frames import Frame, StopReason, Usage
from ..text_frames import TextFrames


class Completion:
    """One running generation.

    Args:
        loop: event loop of the reader.
        frames: converts the output into frames.
        context: maximum tokens of prompt and output together.
        budget: maximum tokens of the output.
        queued: seconds that the request waited.
        seed: the seed in use.
        work: runs in the thread; it passes ``on_chunk`` to llama.cpp and calls ``finish`` at its end.

    Attributes:
        is_evaluated: True once the whole prompt is evaluated and the first token was generated.
        is_stopped: True after ``stop``.
        ended: set by the engine when the thread has ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        frames: TextFrames,
        *,
        context: int,
        budget: int,
        queued: float,
        seed: int,
        work: Callable[[Completion], None],
    ) -> None:
        self._loop = loop
        self._frames = frames
        self._context = context
        self._budget = budget
        self._queued = queued
        self._seed = seed
        self._lock = threading.Lock()
        self._event = asyncio.Event()
        self._told = False
        self._frame: Frame | None = None
        self._error: EngineError | None = None
        self._over = False
        self.is_evaluated = self.is_stopped = False
        self.ended = asyncio.Event()
        self._tokens = self._prompt = self._cached = 0
        self._begun = time.monotonic()
        # A daemon thread, so that a process can exit without closing the engine.
        self._thread = threading.Thread(target=work, args=(self,), name="llama.cpp request", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread. Blocks; do not call it in the event loop."""
        self._thread.join()

    async def next_frame(self) -> Frame:
        """Wait for a new frame and return the newest.

        Raises:
            EngineError: the generation failed.
        """
        while True:
            await self._event.wait()
            with self._lock:
                self._event.clear()
                self._told = False
                frame, self._frame = self._frame, None
                error = self._error
            if error is not None:
                raise error
            if frame is not None:
                return frame

    def stop(self) -> None:
        """Stop at the next token, or after the next batch of the prompt. Later frames are dropped."""
        self._over = self.is_stopped = True

    def fail(self, error: EngineError) -> None:
        """Stop and let ``next_frame`` raise this error. Ignored after the first error or the last frame."""
        with self._lock:
            if not self._over:
                self._over = True
                self._error = error
        self._wake()

    def finish(self) -> None:
        """Handle the end of the call."""
        self.fail(GenerationFailed("llama.cpp ended without a reason. Try again."))

    def on_chunk(self, chunk: Any) -> bool:
        """Handle a batch of the prompt or a token; called by llama.cpp in its thread. Return True to stop."""
        for event in chunk if isinstance(chunk, list) else [chunk]:
            if self._over:
                return True
            if "error" in event:
                self.fail(self._to_error(event["error"]))
            else:
                self._on_event(event)
        return self._over

    def _on_event(self, event: Mapping[str, Any]) -> None:
        if progress := event.get("prompt_progress"):  # the first arrives before the prompt is evaluated
            self._prompt, self._cached = int(progress["total"]), int(progress["cache"])
        elif timings := event.get("timings"):
            self._cached = max(0, int(timings["cache_n"]))
            self._prompt = self._cached + int(timings["prompt_n"])
            self._tokens = int(timings["predicted_n"])
        if self._prompt + self._budget > self._context:
            self.fail(self._too_long(self._prompt))
            return
        choices: Sequence[Mapping[str, Any]] = event.get("choices") or ()
        if not choices:
            return
        self.is_evaluated = True
        piece = choices[0].get("text") or (choices[0].get("delta") or {}).get("content") or ""
        finish = choices[0].get("finish_reason")
        if piece and self._frames.push(piece):
            self._finish("stop" if self._frames.stopped else "end")
        elif finish:
            if finish != "length":
                self._tokens = max(0, self._tokens - 1)  # the end token is not part of the text
            self._finish("length" if finish == "length" else "end")
        elif piece:
            self._publish(self._frames.frame(self._tokens))

    def _finish(self, reason: StopReason) -> None:
        seconds = time.monotonic() - self._begun
        tokens = self._tokens
        last = self._frames.last(tokens)
        usage = Usage(
            tokens=tokens,
            prompt_tokens=self._prompt,
            cached_tokens=self._cached,
            steps=tokens,
            canvases=last.canvas + 1,
            seconds=seconds,
            queued_seconds=self._queued,
            reason=reason,
            seed=self._seed,
        )
        self._publish(replace(last, usage=usage))

    def _publish(self, frame: Frame) -> None:
        with self._lock:
            if self._over:
                return
            self._frame = frame
            self._over = frame.done
        self._wake()

    def _wake(self) -> None:
        """Wake the event loop, once for any number of frames."""
        with self._lock:
            if self._told:
                return
            self._told = True
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._event.set)

    def _to_error(self, error: Any) -> EngineError:
        if not isinstance(error, Mapping):
            return GenerationFailed(f"llama.cpp failed: {error}. Try again.")
        if error.get("type") == "exceed_context_size_error":
            return self._too_long(int(error.get("n_prompt_tokens", 0)))
        message = str(error.get("message", error)).rstrip(".")
        if error.get("code") == 400:
            return RequestRefused(f"llama.cpp refused the request: {message}. Check its options and its schema.")
        return GenerationFailed(f"llama.cpp failed: {message}. Try again.")

    def _too_long(self, prompt: int) -> PromptTooLong:
        return PromptTooLong(
            f"The prompt has {prompt:,} tokens and {self._budget:,} may be written, but the context holds "
            f"{self._context:,}. Shorten the prompt, ask for fewer canvases, or open the engine with a larger context."
        )
