"""One request to a model server: send it, retry it, read the event stream, and make frames."""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..cleaning import only_reasoning
from ..errors import EngineError, GenerationFailed
from ..frames import Frame, Request, StopReason, Usage
from ..text_frames import TextFrames
from .capabilities import ServerCapabilities, build_body, without_unsupported
from .discovery import ServerInfo
from .errors import ServerError, find_error, parse_error, read_error

log = logging.getLogger("unwritten_engine")
_LONGEST_WAIT: Final = 30.0
"""In seconds. A server that asks for a longer delay is not retried."""
_MOST_STRAY_LINES: Final = 50
_GRACE: Final = 0.5
"""Seconds to wait for the token count after the text is complete."""
_LONGEST_TOKEN: Final = 64
"""In characters, on average. A text with longer ones shows that the server ignores its token limit."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits of a request.

    Attributes:
        first: seconds until the first text.
        silence: seconds between two pieces.
        retries: maximum number of retries.
    """

    first: float
    silence: float
    retries: int


class _Retry(Exception):
    """A retry may succeed, as long as no text was received."""

    def __init__(self, error: EngineError, wait: float | None = None) -> None:
        self.error = error
        self.wait = wait


class _Rejected(Exception):
    """The server does not accept the request in this form."""

    def __init__(self, error: ServerError) -> None:
        self.error = error


class ChatRequest:
    """One running request. Create it in the event loop that reads it.

    Args:
        http: the module httpx2.
        client: its client.
        server: the server.
        capabilities: what the server supports; updated with what is learned.
        timeouts: time limits.
        request: what to generate.
        body: the request body, before it is adapted to the server.
        budget: maximum tokens of the output.
        canvas_length: tokens per canvas.
        queued: seconds that the request waited.
    """

    def __init__(
        self,
        http: Any,
        client: Any,
        server: ServerInfo,
        capabilities: ServerCapabilities,
        timeouts: Timeouts,
        request: Request,
        body: Mapping[str, Any],
        *,
        budget: int,
        canvas_length: int,
        queued: float,
    ) -> None:
        self._http, self._client = http, client
        self._server, self._capabilities, self._timeouts = server, capabilities, timeouts
        self._request, self._body = request, body
        self._budget, self._canvas_length, self._queued = budget, canvas_length, queued
        self._event = asyncio.Event()
        self._frame: Frame | None = None
        self._error: EngineError | None = None
        self._begun = time.monotonic()
        self._has_text = False
        self._reset()

    def _reset(self) -> None:
        """Reset the state before an attempt."""
        self._frames = TextFrames("", (), (), self._canvas_length, self._budget)
        self._reason: StopReason | None = None
        self._stray: list[str] = []  # lines of the stream that are no part of an event
        self._reasoning_chars = 0
        self._chunks = self._tokens = self._prompt = self._cached = self._reasoning_tokens = 0

    async def next_frame(self) -> Frame:
        """Wait for a new frame and return the newest.

        Raises:
            EngineError: the generation failed.
        """
        while True:
            await self._event.wait()
            self._event.clear()
            frame, self._frame = self._frame, None
            if frame is not None and frame.done:
                return frame
            if self._error is not None:
                raise self._error
            if frame is not None:
                return frame

    def fail(self, error: EngineError) -> None:
        """Let ``next_frame`` raise this error. Ignored after the first error or the last frame."""
        if self._error is None:
            self._error = error
        self._event.set()

    async def run(self) -> None:
        """Run the request. Errors are raised by ``next_frame``."""
        try:
            await self._send_with_retries()
        except EngineError as error:
            self.fail(error)
        except Exception as error:  # the reader must not wait forever
            log.exception("A request to a model server failed")
            self.fail(GenerationFailed(f"The request failed ({type(error).__name__}: {error}). Try again."))

    async def _send_with_retries(self) -> None:
        unsupported = self._capabilities.unsupported
        retries = 0
        while True:
            self._reset()
            body = build_body(self._body, self._request.schema, unsupported)
            try:
                await self._send(body, unsupported)
                return
            except _Rejected as rejected:
                error = rejected.error
                more = None if error.too_long else without_unsupported(error.message, body, unsupported)
                if more is None:
                    raise self._to_error(error) from None
                unsupported = more
            except _Retry as retry:
                if self._has_text or retries >= self._timeouts.retries or (retry.wait or 0) > _LONGEST_WAIT:
                    raise retry.error from None
                retries += 1
                # Exponential backoff with jitter.
                pause = 0.5 * 2 ** (retries - 1) * (0.5 + random.random())  # noqa: S311 - not a secret
                await asyncio.sleep(max(retry.wait or 0, pause))

    async def _send(self, body: dict[str, Any], unsupported: frozenset[str]) -> None:
        """Send the request once and read the response to its end."""
        http, address = self._http, self._server.address
        clock = asyncio.timeout(self._timeouts.first)
        try:
            async with clock, self._client.stream("POST", f"{address}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    await self._raise_http_error(response)
                self._capabilities.learn(unsupported, body)
                if "event-stream" in response.headers.get("content-type", ""):
                    await self._read_events(response, clock)
                else:
                    self._read_response(await self._read_body(response), clock)
        except TimeoutError:
            if self._reason is None:
                raise GenerationFailed(self._timeout_message()) from None
        except http.ConnectTimeout as error:
            raise _Retry(GenerationFailed(f"{address} does not answer in time. Is it still running?")) from error
        except http.ConnectError as error:
            raise _Retry(GenerationFailed(f"{address} cannot be reached ({error}). Is it still running?")) from error
        except (http.TransportError, http.DecodingError) as error:
            if self._reason is None:
                raise _Retry(self._cut_off(str(error) or type(error).__name__)) from error
        except InvalidEventStream as error:
            raise self._invalid_response(str(error)) from error
        if self._reason is None:
            if stray := "\n".join(self._stray):
                self._raise_server_error(read_error(0, stray))
            raise _Retry(self._cut_off("the stream ended before the text did"))
        self._finish(self._reason)

    async def _raise_http_error(self, response: Any) -> None:
        text = await self._read_body(response)
        self._raise_server_error(read_error(response.status_code, text, response.headers.get("retry-after", "")))

    def _raise_server_error(self, error: ServerError) -> None:
        if error.status in (400, 422) and not self._has_text:
            raise _Rejected(error)
        if error.transient:
            raise _Retry(self._to_error(error), error.retry_after)
        raise self._to_error(error)

    async def _read_body(self, response: Any) -> str:
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_EVENT_CHARS:
                raise self._invalid_response("the response has no end")
        return body.decode("utf-8", "replace")

    def _read_response(self, body: str, clock: asyncio.Timeout) -> None:
        """Handle a response that is not a stream."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise self._invalid_response(read_error(200, body).message or "it is empty") from None
        if (error := find_error(value)) is not None:
            self._raise_server_error(error)
        if not isinstance(value, dict):
            raise self._invalid_response(read_error(200, body).message)
        self._on_event(_as_event(value), clock)

    async def _read_events(self, response: Any, clock: asyncio.Timeout) -> None:
        stream = parse_events(response.aiter_bytes())
        try:
            async for name, data in stream:
                if data.strip() == "[DONE]":
                    self._reason = self._reason or ("end" if self._chunks else None)
                    return
                if name == "error" and self._reason is None:
                    self._raise_server_error(read_error(0, data))
                try:
                    value = json.loads(data)
                except (ValueError, RecursionError):
                    value = None
                if value is not None and self._reason is None and (error := find_error(value)) is not None:
                    self._raise_server_error(error)
                if name == "message" and isinstance(value, dict):
                    self._on_event(value, clock)
                elif name == "message" and self._reason is None:
                    raise self._invalid_response(read_error(200, data).message)
                elif name == "" and len(self._stray) < _MOST_STRAY_LINES:
                    self._stray.append(data)
        finally:
            await stream.aclose()

    def _on_event(self, event: Mapping[str, Any], clock: asyncio.Timeout) -> None:
        """Handle one event of the stream."""
        try:
            self._update_usage(event)
            choice: Any = next(iter(event.get("choices") or ()), {})
            delta = choice.get("delta") or {}
            piece = delta.get("content") or ""
            reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
            finish, error = choice.get("finish_reason"), choice.get("error")
            if not (isinstance(piece, str) and isinstance(reasoning, str)):
                raise TypeError
        except (TypeError, AttributeError, ValueError):
            raise self._invalid_response(f"an event is {json.dumps(event)[:120]}") from None
        if self._reason is not None:
            return
        if error:
            self._raise_server_error(parse_error(error))
        if piece or reasoning:
            self._reasoning_chars += len(reasoning)
            clock.reschedule(asyncio.get_running_loop().time() + self._timeouts.silence)
        if piece:
            self._chunks += 1
            self._has_text = True
            self._frames.push(piece)
            self._publish(self._frames.frame(self._num_tokens()))
        if finish:
            if finish == "content_filter":
                raise GenerationFailed(
                    f"The content filter of {self._server.address} stopped the text. Change the prompt."
                )
            self._reason = "length" if finish == "length" else "end"
        elif self._reasoning_chars + len(self._frames.raw_text) > self._budget * _LONGEST_TOKEN:
            self._reason = "length"
        if self._reason is not None:
            clock.reschedule(asyncio.get_running_loop().time() + _GRACE)

    def _update_usage(self, event: Mapping[str, Any]) -> None:
        usage = event.get("usage")
        if isinstance(usage, Mapping):
            self._tokens = int(usage.get("completion_tokens") or 0)
            self._prompt = int(usage.get("prompt_tokens") or 0)
            details = usage.get("prompt_tokens_details") or {}
            self._cached = int(details.get("cached_tokens") or 0)
            details = usage.get("completion_tokens_details") or {}
            self._reasoning_tokens = int(details.get("reasoning_tokens") or 0)

    def _num_tokens(self) -> int:
        """Return the number of tokens of the text so far, without reasoning in fields of its own.

        That is the server's count, or an estimate of four characters per token.
        """
        chars = len(self._frames.raw_text)
        if not self._tokens:
            return max(1, min(max(self._chunks, chars // 4), self._budget))
        reasoning = self._reasoning_tokens
        if self._reasoning_chars and not reasoning:
            reasoning = round(self._tokens * self._reasoning_chars / (self._reasoning_chars + chars))
        return max(1, min(self._tokens - reasoning, self._budget))

    def _finish(self, reason: StopReason) -> None:
        if self._reasoning_chars and not self._frames.raw_text.strip():
            raise only_reasoning(self._server.model)
        last = self._frames.last(self._num_tokens())
        tokens = self._num_tokens() if self._frames.raw_text or self._tokens else 0
        usage = Usage(
            tokens=tokens,
            prompt_tokens=self._prompt,
            cached_tokens=min(self._cached, self._prompt),
            steps=tokens,
            canvases=last.canvas + 1,
            seconds=time.monotonic() - self._begun,
            queued_seconds=self._queued,
            reason=reason,
            seed=int(self._body.get("seed") or 0),
        )
        self._publish(replace(last, usage=usage))

    def _publish(self, frame: Frame) -> None:
        self._frame = frame
        self._event.set()

    def _to_error(self, error: ServerError) -> EngineError:
        return error.to_engine_error(self._server.address, self._server.model, self._server.models, self._budget)

    def _timeout_message(self) -> str:
        if self._chunks or self._reasoning_chars:
            return (
                f"{self._server.address} sent nothing for {self._timeouts.silence:g} seconds in the middle of a text. "
                f"Check its log; silence_timeout=… waits longer."
            )
        return (
            f"{self._server.address} sent nothing within {self._timeouts.first:g} seconds. It may be busy or hang: "
            f"check its log; first_timeout=… waits longer."
        )

    def _cut_off(self, problem: str) -> GenerationFailed:
        return GenerationFailed(f"{self._server.address} cut the text off ({problem.rstrip('.')}). Try again.")

    def _invalid_response(self, problem: str) -> GenerationFailed:
        return GenerationFailed(
            f"The response of {self._server.address} is not an event stream ({problem}). Check that the address "
            f"belongs to an OpenAI-compatible server."
        )


def _as_event(answer: dict[str, Any]) -> dict[str, Any]:
    """Convert a response that was not streamed to one event."""
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and "message" in choices[0]:
        first = choices[0]
        return {**answer, "choices": [{**first, "delta": first["message"]}]}
    return answer


MAX_EVENT_CHARS: Final = 1 << 22
"""Maximum length of one event in characters, far above the largest canvas with usage."""


class InvalidEventStream(ValueError):
    """The bytes are not server-sent events."""


async def parse_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[tuple[str, str], None]:
    """Yield the name and data of each server-sent event. Several data lines are joined by line breaks.

    Comments, ids and other fields of the specification are ignored. Servers that fail often leave the format, so what
    the specification ignores is yielded too: a field ``error`` as an event of this name, other lines with the name "",
    and an incomplete event at the end with the name ``incomplete``.

    Args:
        chunks: the bytes, split anywhere.

    Raises:
        InvalidEventStream: bytes that are not UTF-8, or an event without an end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest, name, data = "", "message", list[str]()
    async for chunk in chunks:
        try:
            rest += decoder.decode(chunk)
        except UnicodeDecodeError as error:
            raise InvalidEventStream(f"it is not UTF-8: {error.reason}") from error
        *lines, rest = rest.split("\n")
        for line in lines:
            text = line.removesuffix("\r")
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value.strip() if value.strip() == "error" else "message"
            elif field == "error":
                yield "error", value
            elif not text:
                if data:
                    yield name, "\n".join(data)
                name, data = "message", []
            elif field not in ("", "id", "retry"):
                yield "", text
        if len(rest) + sum(map(len, data)) > MAX_EVENT_CHARS:
            raise InvalidEventStream("an event has no end")
    field, _, value = rest.rstrip("\r").partition(":")
    if field in ("data", "error"):
        data.append(value.removeprefix(" "))
    elif field not in ("", "id", "retry", "event"):
        yield "", rest
    if data:
        yield ("error" if "error" in (name, field) else "incomplete"), "\n".join(data)
