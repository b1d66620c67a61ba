"""One request to a model server: sent, sent again while nothing has come, read, and turned into frames."""

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

from ..errors import EngineError, GenerationFailed
from ..frames import Frame, Request, StopReason, Usage
from ..output_filters import JSONFilter, PrefillFilter, ReasoningFilter, UnopenedReasoning, json_start_characters
from ..text_frames import TextFrames
from .capabilities import ServerCapabilities, build_body, without_unsupported
from .discovery import ServerInfo
from .errors import ServerError, parse_error, read_error

log = logging.getLogger("unwritten_engine")
_LONGEST_WAIT: Final = 30.0
"""Seconds; a server that wants to be left alone for longer is given up."""
_GRACE: Final = 0.5
"""Seconds that the count of tokens is waited for when the text is complete."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How patient a request is.

    Attributes:
        first: seconds until the first text.
        silence: seconds between two pieces.
        retries: how often it is sent again.
    """

    first: float
    silence: float
    retries: int


class _Again(Exception):
    """It may work if it is sent again, as long as no text has come."""

    def __init__(self, error: EngineError, wait: float | None = None) -> None:
        self.error = error
        self.wait = wait


class _Refused(Exception):
    """The server does not take the request as it is."""

    def __init__(self, refusal: ServerError) -> None:
        self.refusal = refusal


class ChatRequest:
    """One request at work. Made in the event loop that reads it.

    Args:
        http: the module httpx2.
        client: its client.
        found: the server.
        dialect: what it understands; what is learnt is added.
        limits: how patient to be.
        request: what to write.
        body: what to send, but for what depends on the dialect.
        budget: tokens that may be written.
        canvas_length: tokens per canvas.
        queued: seconds that the request waited.
    """

    def __init__(
        self,
        http: Any,
        client: Any,
        found: ServerInfo,
        dialect: ServerCapabilities,
        limits: Timeouts,
        request: Request,
        body: Mapping[str, Any],
        *,
        budget: int,
        canvas_length: int,
        queued: float,
    ) -> None:
        self._http, self._client = http, client
        self._found, self._dialect, self._limits = found, dialect, limits
        self._request, self._body = request, body
        self._budget, self._canvas_length, self._queued = budget, canvas_length, queued
        self._event = asyncio.Event()
        self._frame: Frame | None = None
        self._error: EngineError | None = None
        self._begun = time.monotonic()
        self._texted = False
        self._start_over()

    def _start_over(self) -> None:
        """Nothing has come yet."""
        opening = self._request.prompt.opening
        self._stream = TextFrames(opening, (), self._request.stop, self._canvas_length, self._budget)
        self._thoughts = ReasoningFilter(in_reasoning=self._dialect.thinks_openly)
        shape = self._request.schema
        self._form: JSONFilter | PrefillFilter = (
            PrefillFilter(opening) if shape is None else JSONFilter(json_start_characters(shape))
        )
        self._reason: StopReason | None = None
        self._thought = False
        self._chunks = self._tokens = self._prompt = self._cached = 0

    # -- for the reader -----------------------------------------------------------------------------------

    async def newest(self) -> Frame:
        """The newest frame, once there is one that was not fetched.

        Raises:
            EngineError: the work failed.
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
        """Let ``newest`` raise this. The first error counts, and none after the last frame."""
        if self._error is None:
            self._error = error
        self._event.set()

    # -- the work -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do the work; what goes wrong comes out of ``newest``."""
        try:
            await self._try_and_again()
        except EngineError as error:
            self.fail(error)
        except UnopenedReasoning:
            self._dialect.thinks_openly = True
            self.fail(
                GenerationFailed(
                    f"{self._found.model} wrote what it thinks into its text. From now on the text begins where the "
                    f"thought ends. Try again."
                )
            )
        except Exception as error:  # whatever else: nobody may wait for a frame that never comes
            log.exception("A request to a model server broke off")
            self.fail(GenerationFailed(f"The request broke off ({type(error).__name__}: {error}). Try again."))

    async def _try_and_again(self) -> None:
        lacks = self._dialect.unsupported
        tries = 0
        while True:
            self._start_over()
            body = build_body(self._body, self._request.schema, lacks)
            try:
                await self._once(body, lacks)
                return
            except _Refused as refused:
                refusal = refused.refusal
                weaker = None if refusal.too_long else without_unsupported(refusal.message, body, lacks)
                if weaker is None:
                    raise self._refusal_error(refusal) from None
                lacks = weaker
            except _Again as again:
                if self._texted or tries >= self._limits.retries or (again.wait or 0) > _LONGEST_WAIT:
                    raise again.error from None
                tries += 1
                # Half of the pause is chance, so that those who were turned away together do not return together.
                pause = 0.5 * 2 ** (tries - 1) * (0.5 + random.random())  # noqa: S311 - no secret
                await asyncio.sleep(max(again.wait or 0, pause))

    async def _once(self, body: dict[str, Any], lacks: frozenset[str]) -> None:
        """Send it once, and read to the end."""
        http, address = self._http, self._found.address
        clock = asyncio.timeout(self._limits.first)
        try:
            async with clock, self._client.stream("POST", f"{address}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    await self._turned_away(response)
                self._dialect.learn(lacks, body)
                if "event-stream" in response.headers.get("content-type", ""):
                    await self._read(response, clock)
                else:
                    self._take(_whole(self._json(await self._text(response))), clock)
        except TimeoutError:
            if self._reason is None:
                raise GenerationFailed(self._silence()) from None
        except http.ConnectTimeout as error:
            raise _Again(GenerationFailed(f"{address} cannot be reached in time. Is it still running?")) from error
        except http.ConnectError as error:
            raise _Again(GenerationFailed(f"{address} cannot be reached ({error}). Is it still running?")) from error
        except (http.TransportError, http.DecodingError) as error:
            if self._reason is None:
                raise _Again(self._cut(str(error) or type(error).__name__)) from error
        except NotEvents as error:
            raise self._garbage(str(error)) from error
        if self._reason is None:
            raise _Again(self._cut("the stream ended before the text did"))
        self._finish(self._reason)

    async def _turned_away(self, response: Any) -> None:
        text = await self._text(response)
        refusal = read_error(response.status_code, text, response.headers.get("retry-after", ""))
        self._raise(refusal)

    def _raise(self, refusal: ServerError) -> None:
        if refusal.status in (400, 422) and not self._texted:
            raise _Refused(refusal)
        if refusal.transient:
            raise _Again(self._refusal_error(refusal), refusal.wait)
        raise self._refusal_error(refusal)

    async def _text(self, response: Any) -> str:
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > LONGEST:
                raise self._garbage("its answer has no end")
        return body.decode("utf-8", "replace")

    async def _read(self, response: Any, clock: asyncio.Timeout) -> None:
        stream = events(response.aiter_bytes())
        try:
            async for data in stream:
                if data.strip() == "[DONE]":
                    self._reason = self._reason or ("end" if self._chunks else None)
                    return
                self._take(self._json(data), clock)
        finally:
            await stream.aclose()

    def _json(self, data: str) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except ValueError:
            raise self._garbage(f"it begins with {data.strip()[:60]!r}") from None
        if not isinstance(value, dict):
            raise self._garbage(f"it is {data[:60]!r}")
        return value

    def _take(self, event: Mapping[str, Any], clock: asyncio.Timeout) -> None:
        """One event of the stream."""
        if event.get("error"):
            self._raise(parse_error(event))
        try:
            self._count(event)
            choice: Any = next(iter(event.get("choices") or ()), {})
            delta = choice.get("delta") or {}
            piece = delta.get("content") or ""
            thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
            finish = choice.get("finish_reason")
            stopped = isinstance(choice.get("stop_reason"), str)  # vLLM: the string that it stopped at
            if not isinstance(piece, str):
                raise TypeError
        except (TypeError, AttributeError, ValueError):
            raise self._garbage(f"an event is {json.dumps(event)[:120]}") from None
        if piece or thought:
            self._thought = self._thought or bool(thought)
            clock.reschedule(asyncio.get_running_loop().time() + self._limits.silence)
        if piece and self._reason is None:
            self._chunks += 1
            self._push(self._form.push(self._thoughts.push(piece)))
        if finish and self._reason is None:
            self._ended(finish, stopped)
        if self._reason is not None:
            clock.reschedule(asyncio.get_running_loop().time() + _GRACE)

    def _push(self, piece: str) -> None:
        if piece:
            self._texted = True
            if self._stream.push(piece):
                self._reason = "stop"
            else:
                frame = self._stream.frame(self._written())
                # What is not JSON in the end is given as it was written, with white space and all.
                self._put(replace(frame, fixed=0) if isinstance(self._form, JSONFilter) else frame)
        if (
            isinstance(self._form, JSONFilter)
            and self._form.done
            and self._reason is None
            and _is_json(self._stream.raw_text)
        ):
            self._reason = "end"

    def _ended(self, finish: str, stopped: bool) -> None:
        """The server says why the text ended."""
        if finish == "content_filter":
            raise GenerationFailed(f"{self._found.address} stopped the text by its content filter. Ask differently.")
        held = self._form.push(self._thoughts.end())
        self._push(held + (self._form.end() if isinstance(self._form, PrefillFilter) else ""))
        if self._reason is None:
            self._reason = "length" if finish == "length" else "stop" if stopped else "end"

    def _count(self, event: Mapping[str, Any]) -> None:
        usage = event.get("usage")
        if isinstance(usage, Mapping):
            self._tokens = int(usage.get("completion_tokens") or 0)
            self._prompt = int(usage.get("prompt_tokens") or 0)
            details = usage.get("prompt_tokens_details") or {}
            self._cached = int(details.get("cached_tokens") or 0)

    def _written(self) -> int:
        """Tokens so far: the server's count, or else an estimate, at four characters to a token."""
        if self._tokens:
            return min(self._tokens, self._budget)
        return max(1, min(max(self._chunks, len(self._stream.raw_text) // 4), self._budget))

    def _finish(self, reason: StopReason) -> None:
        last = self._stream.last(self._written())
        if not self._stream.raw_text.strip() and (self._thought or self._thoughts.thinking):
            raise GenerationFailed(
                f"{self._found.model} thought, and wrote nothing within its {self._budget:,} tokens. Turn thinking off "
                f"on the server, or ask for more canvases."
            )
        if isinstance(self._form, JSONFilter) and reason == "end" and not _is_json(last.text):
            # Almost JSON, or none: whoever asked for it may make something of the whole.
            last = replace(last, text=self._form.said.strip(), fixed=len(self._form.said.strip()))
        tokens = self._written() if self._stream.raw_text or self._tokens else 0
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
        self._put(replace(last, usage=usage))

    def _put(self, frame: Frame) -> None:
        self._frame = frame
        self._event.set()

    # -- what goes wrong ----------------------------------------------------------------------------------

    def _refusal_error(self, refusal: ServerError) -> EngineError:
        return refusal.error(self._found.address, self._found.model, self._found.models, self._budget)

    def _silence(self) -> str:
        if self._chunks or self._thought:
            return (
                f"{self._found.address} fell silent for {self._limits.silence:g} seconds in the middle of a text. Look "
                f"into its log; silence_timeout=… waits longer."
            )
        return (
            f"{self._found.address} has written nothing within {self._limits.first:g} seconds. It may be busy or hang: "
            f"look into its log; first_timeout=… waits longer."
        )

    def _cut(self, how: str) -> GenerationFailed:
        return GenerationFailed(f"{self._found.address} cut the text off ({how.rstrip('.')}). Try again.")

    def _garbage(self, what: str) -> GenerationFailed:
        return GenerationFailed(
            f"{self._found.address} answers something that is not a stream of text ({what}). Check that the address is "
            f"that of an OpenAI-compatible server."
        )


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer that was not streamed, as one event of a stream."""
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and "message" in choices[0]:
        first = choices[0]
        return {**answer, "choices": [{**first, "delta": first["message"]}]}
    return answer


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


LONGEST: Final = 1 << 22
"""Characters that one event may have; the largest canvas with all its usage is far below."""


class NotEvents(ValueError):
    """The bytes are not server-sent events."""


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The data of each event, in order; an event of several data lines is one text with line breaks.

    Comments, names and numbers of events are passed over. An event that the stream breaks off in is dropped, as
    the format wants it.

    Args:
        chunks: the bytes, however they are cut.

    Raises:
        NotEvents: bytes that are not UTF-8, or an event without an end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest, data = "", list[str]()
    async for chunk in chunks:
        try:
            rest += decoder.decode(chunk)
        except UnicodeDecodeError as error:
            raise NotEvents(f"it is not UTF-8: {error.reason}") from error
        *lines, rest = rest.split("\n")
        for line in lines:
            text = line.removesuffix("\r")
            if text.startswith("data:"):
                data.append(text[5:].removeprefix(" "))
            elif not text and data:
                yield "\n".join(data)
                data = []
        if len(rest) + sum(map(len, data)) > LONGEST:
            raise NotEvents("an event has no end")
