"""Failures: what a visitor sees when something went wrong, and what an author sees while developing."""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from unwritten_engine import EngineError

from .errors import BadAddress, BadApp, Busy, PageFailed, StoreError, TimedOut

DrawMessage: TypeAlias = Callable[[int, Mapping[str, Any], Mapping[str, str]], Response]

log = logging.getLogger("unwritten")

_PACKAGE = str(Path(__file__).resolve().parent)

_TITLES = {
    400: "That address does not work",
    403: "Not from there",
    404: "There is nothing here",
    405: "Not that way",
    413: "That is too much",
    414: "That name is too long",
    429: "Too much at once",
    500: "Something broke",
    503: "Busy just now",
    504: "That took too long",
}


class Failures:
    """Turns exceptions into pages for people; for programs, into a line of text.

    Args:
        name: the app's name.
        debug: whether authors are to see tracebacks; asked each time, for settings may still change.
        draw: draws a message page from a status, its values and headers; may raise.
    """

    def __init__(self, name: str, debug: Callable[[], bool], draw: DrawMessage) -> None:
        self._name = name
        self._debug = debug
        self._draw = draw

    async def http(self, request: Request, error: Exception) -> Response:
        """Starlette's own: no such page, wrong method."""
        assert isinstance(error, HTTPException)
        hint = ""
        if error.status_code == 404:
            hint = f"No page of {self._name} has the address {request.url.path}."
        elif error.detail:
            hint = str(error.detail)
        return self._answer(request, error.status_code, hint, dict(error.headers or {}))

    async def known(self, request: Request, error: Exception) -> Response:
        """Ours, whose messages are meant for people."""
        if isinstance(error, BadAddress):
            return self._answer(request, error.status, str(error))
        if isinstance(error, Busy):
            return self._answer(request, 503, str(error), {"retry-after": str(error.retry_after)})
        if isinstance(error, TimedOut):
            log.error("%s: %s", request.url.path, error)
            return self._answer(request, 504, str(error))
        if isinstance(error, BadApp):
            return await self.unknown(request, error)
        if isinstance(error, (StoreError, EngineError, PageFailed)):
            log.error("%s: %s", request.url.path, error)
            return self._answer(request, 503, str(error), {"retry-after": "10"})
        return await self.unknown(request, error)

    async def unknown(self, request: Request, error: Exception) -> Response:
        """A bug, ours or the author's. The log has it with an id; a developer sees the traceback."""
        number = secrets.token_hex(4)
        log.error("%s failed (%s)", request.url.path, number, exc_info=error)
        if self._debug():
            return self._answer(request, 500, f"{type(error).__name__}: {error}", traceback=_without_us(error))
        return self._answer(request, 500, f"The server's log has the reason under the number {number}.")

    def _answer(
        self, request: Request, status: int, hint: str, headers: dict[str, str] | None = None, traceback: str = ""
    ) -> Response:
        headers = headers or {}
        title = _TITLES.get(status, "That did not work")
        if "text/html" in request.headers.get("accept", ""):
            values: dict[str, Any] = {
                "title": title,
                "message": hint,
                "hint": "",
                "status": status,
                "retry_after": headers.get("retry-after"),
                "detail": traceback,
            }
            try:
                return self._draw(status, values, headers)
            except Exception:  # the author's message.html may be what is broken, or nothing is open yet
                log.exception("message.html cannot be drawn")
        text = f"{title}. {hint}\n{traceback}".strip() + "\n"
        return PlainTextResponse(text, status, {"x-content-type-options": "nosniff", **headers})


def _without_us(error: BaseException) -> str:
    """A traceback without the frames of this package, Starlette and asyncio: what is left is the author's."""
    skipped = (_PACKAGE, "starlette", "anyio", "asyncio", "jinja2", "concurrent")
    trace = traceback.TracebackException.from_exception(error, compact=True)
    part: traceback.TracebackException | None = trace
    while part is not None:
        kept = [f for f in part.stack if not any(f"/{name}/" in f.filename or name in f.filename for name in skipped)]
        if kept:
            part.stack = traceback.StackSummary.from_list(kept)
        part = part.__cause__ or part.__context__
    return "".join(trace.format())
