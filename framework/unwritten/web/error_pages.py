"""Failures: what a visitor sees when something went wrong, and what an author sees while developing."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Scope, Send

from unwritten_engine import EngineError

from ..core.errors import (
    BadAddress,
    BadApp,
    BadForm,
    Busy,
    Denied,
    OverBudget,
    PageFailed,
    StoreError,
    TimedOut,
    UnwrittenError,
)
from ..security.headers import accepts_html
from .site import GetSite
from .tracebacks import error_reports, format_report

log = logging.getLogger("unwritten")


_LONGEST_WAIT = 120
"""Seconds until a message asks again by itself; after longer ones people do."""


_TITLES = {
    400: "This address is not valid",
    403: "This is not allowed",
    404: "Page not found",
    405: "This page does not accept this method",
    413: "This is too large",
    414: "This name is too long",
    421: "Unknown host",
    429: "Too many requests",
    500: "Something went wrong",
    503: "The server is busy",
    504: "This took too long",
}


class ErrorPages:
    """Turns exceptions into pages for people; for programs, into a line of text.

    Args:
        name: The app's name.
        get_site: Returns the site, whose renderer draws the pages.
        is_developer: True if the client may see tracebacks.
    """

    def __init__(self, name: str, get_site: GetSite, is_developer: Callable[[Scope], bool]) -> None:
        self._name = name
        self._get_site = get_site
        self._is_developer = is_developer

    async def http(self, request: Request, error: Exception) -> Response:
        """Starlette's own: no such page, wrong method."""
        assert isinstance(error, HTTPException)
        hint = ""
        if error.status_code == 404:
            hint = f"No page of {self._name} has the address {request.url.path}."
        elif error.detail:
            hint = str(error.detail)
        return await self._answer(request, error.status_code, hint, dict(error.headers or {}))

    async def known(self, request: Request, error: Exception) -> Response:
        """Ours, whose messages are meant for people."""
        if isinstance(error, BadAddress):
            return await self._answer(request, error.status, str(error))
        if isinstance(error, BadForm):
            title = "" if error.status in {403, 413} else "That form cannot be taken"
            return await self._answer(request, error.status, str(error), title=title)
        if isinstance(error, Denied):
            return await self._answer(request, 403, str(error), title="This is not written here")
        if isinstance(error, OverBudget):
            return await self._answer(request, 429, str(error), {"retry-after": str(error.retry_after)})
        if isinstance(error, Busy):
            return await self._answer(request, 503, str(error), {"retry-after": str(error.retry_after)})
        if isinstance(error, TimedOut):
            log.error("%s: %s", request.url.path, error)
            return await self._answer(request, 504, str(error))
        if isinstance(error, BadApp):
            return await self.unknown(request, error)
        if isinstance(error, (StoreError, EngineError, PageFailed)):
            log.error("%s: %s", request.url.path, error)
            return await self._answer(request, 503, str(error), {"retry-after": "10"})
        return await self.unknown(request, error)

    async def unknown(self, request: Request, error: Exception) -> Response:
        """A bug, ours or the author's. The log has it with an id; a developer sees the traceback."""
        number = secrets.token_hex(4)
        request.state.failure = error  # a test that visits the app raises it again
        log.error("%s failed (%s)", request.url.path, number, exc_info=error)
        if self._is_developer(request.scope):
            return await self._answer(request, 500, f"{type(error).__name__}: {error}", error=error)
        return await self._answer(request, 500, f"The server's log has the reason under the number {number}.")

    async def _answer(
        self,
        request: Request,
        status: int,
        hint: str,
        headers: dict[str, str] | None = None,
        error: Exception | None = None,
        title: str = "",
    ) -> Response:
        headers = headers or {}
        title = title or _TITLES.get(status, "That did not work")
        seconds = _seconds(headers.get("retry-after", ""))
        if accepts_html(request):
            values: dict[str, Any] = {
                "title": title,
                "message": hint,
                "hint": "",
                "status": status,
                # A form cannot be sent again by itself, and nobody watches a page for an hour.
                "retry_after": None
                if request.method != "GET" or seconds > _LONGEST_WAIT
                else headers.get("retry-after"),
                "faults": error_reports(error) if error is not None else [],
            }
            try:
                site = await self._get_site()
                return site.renderer.error_page(status, values, headers)
            except Exception:  # the author's error.html may be what is broken, or nothing is open yet
                log.exception("error.html cannot be drawn")
        text = f"{title}. {hint}\n{format_report(error) if error is not None else ''}".strip() + "\n"
        return PlainTextResponse(text, status, {"x-content-type-options": "nosniff", **headers})


def _seconds(text: str) -> int:
    """The seconds of a Retry-After; 0 if it is a date or not there."""
    return int(text) if text.isdecimal() else 0


def describe_error(send: Send) -> Send:
    """Tell a server that cannot start in our words why, where they are meant for people, instead of in a traceback."""

    async def told(message: Message) -> None:
        error = sys.exception()
        if message["type"] == "lifespan.startup.failed" and isinstance(error, UnwrittenError | EngineError):
            message = {**message, "message": str(error)}
        await send(message)

    return told
