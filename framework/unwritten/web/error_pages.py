"""Error pages: what visitors see when a request fails, and what the author sees in the log and while developing."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Scope, Send

from unwritten_engine import EngineError

from ..core.errors import (
    BadForm,
    BadURL,
    Busy,
    Denied,
    OverBudget,
    PageFailed,
    StoreError,
    StoreReadOnly,
    TimedOut,
    UnwrittenError,
)
from ..core.incidents import report_to_visitor
from ..core.localization import Localization
from ..core.localization import gettext_lazy as _
from ..core.tracebacks import error_reports, format_report, is_logged, log_error
from ..security.headers import NO_STORE, PROBLEM_KEY, accepts_html, prefers_json
from .site import GetSite

log = logging.getLogger("unwritten")

_MAX_RELOAD_SECONDS = 120
"""Maximum number of seconds after which an error page reloads by itself."""

_TITLES: Mapping[int, str] = {
    400: _("This URL is not valid"),
    403: _("This is not allowed"),
    404: _("Page not found"),
    405: _("Method not allowed"),
    413: _("This is too large"),
    414: _("This name is too long"),
    421: _("Unknown host"),
    429: _("Too many requests"),
    500: _("Something went wrong"),
    503: _("The server is busy"),
    504: _("This took too long"),
}


class ErrorPages:
    """Turns exceptions into error pages; for programs into JSON (RFC 9457), and for other clients into plain text."""

    def __init__(
        self,
        name: str,
        get_site: GetSite,
        is_developer: Callable[[Scope], bool],
        is_owner: Callable[[Scope], bool],
        localization: Localization,
    ) -> None:
        self._name = name
        self._get_site = get_site
        self._is_owner = is_owner
        self._is_developer = is_developer
        self._localization = localization
        # Starlette passes unexpected exceptions on to the server, which logs them a second time.
        logging.getLogger("uvicorn.error").addFilter(_is_unlogged)

    async def http_error(self, request: Request, error: Exception) -> Response:
        """Respond to an ``HTTPException``, of Starlette or of the author."""
        assert isinstance(error, HTTPException)
        message = str(error.detail or "")
        if error.status_code == 404 and message in {"", "Not Found"}:
            message = _("%(app)s has no page at %(path)s.", app=self._name, path=request.url.path)
        elif error.status_code == 405:
            message = _("This page does not accept this method.")
        return await self._respond(request, error.status_code, message, dict(error.headers or {}))

    async def unwritten_error(self, request: Request, error: Exception) -> Response:
        """Respond to an error of the framework or the engine, whose message is meant for visitors."""
        if isinstance(error, BadURL):
            return await self._respond(request, error.status, str(error))
        if isinstance(error, BadForm):
            title = "" if error.status in {403, 413} else _("This form was not accepted")
            return await self._respond(request, error.status, str(error), title=title)
        if isinstance(error, Denied):
            return await self._respond(request, 403, str(error), title=_("This page is not generated here"))
        if isinstance(error, Busy):
            status = 429 if isinstance(error, OverBudget) else 503
            return await self._respond(request, status, str(error), {"retry-after": str(error.retry_after)})
        if isinstance(error, TimedOut):
            log.error("%s: %s", request.url.path, error)
            return await self._respond(request, 504, str(error))
        if isinstance(error, StoreReadOnly):
            return await self._respond(request, 503, str(error), title=_("This server only reads its database"))
        if isinstance(error, (StoreError, EngineError, PageFailed)):
            message = report_to_visitor(log, request.url.path, error)
            if self._is_owner(request.scope):
                message = str(error)
            return await self._respond(request, 503, message, {"retry-after": "10"})
        return await self.server_error(request, error)

    async def client_disconnect(self, request: Request, error: Exception) -> Response:
        """End a request whose client disconnected before its body had arrived. Nothing failed, and nothing is sent."""
        return Response(status_code=400)

    async def server_error(self, request: Request, error: Exception) -> Response:
        """Respond to an unexpected exception. Its traceback is logged with a number, and shown to developers."""
        number = secrets.token_hex(4)
        request.state.failure = error  # ``unwritten.testing`` raises it in the test
        log_error(log, f"{request.url.path} failed ({number})", error)
        # The exception is raised again, so that uvicorn closes the connection. HTTP/2 has no such header.
        headers = {"connection": "close"} if request.scope.get("http_version", "").startswith("1") else {}
        if self._is_developer(request.scope):
            return await self._respond(request, 500, f"{type(error).__name__}: {error}", headers, error=error)
        return await self._respond(
            request, 500, _("The server's log has the details under the number %(number)s.", number=number), headers
        )

    async def _respond(
        self,
        request: Request,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        error: Exception | None = None,
        title: str = "",
    ) -> Response:
        headers = headers or {}
        title = title or _TITLES.get(status, _("This did not work"))
        if accepts_html(request) and PROBLEM_KEY not in request.scope:
            values: dict[str, Any] = {
                "title": title,
                "message": message,
                "status": status,
                "retry_after": _reload_after(request, headers),
                "errors": error_reports(error) if error is not None else [],
            }
            try:
                site = await self._get_site()
                return site.renderer.error_page(status, values, headers)
            except Exception as problem:  # the author's error.html is broken, or the site cannot be built
                log_error(log, "error.html cannot be rendered", problem)
        language = self._localization.get()
        title, message = language.text(title), language.text(message)
        if PROBLEM_KEY in request.scope or prefers_json(request.scope):
            details = {"title": title, "status": status, "detail": message}
            return JSONResponse(details, status, {**NO_STORE, **headers}, "application/problem+json")
        text = f"{title}. {message}\n{format_report(error) if error is not None else ''}".strip() + "\n"
        return PlainTextResponse(text, status, {"x-content-type-options": "nosniff", **headers})


def _reload_after(request: Request, headers: Mapping[str, str]) -> str | None:
    """Return the seconds until an error page reloads by itself, or None. A POST request cannot be repeated."""
    seconds = headers.get("retry-after", "")
    reloads = request.method == "GET" and seconds.isdecimal() and int(seconds) <= _MAX_RELOAD_SECONDS
    return seconds if reloads else None


def _is_unlogged(record: logging.LogRecord) -> bool:
    """Return False for exceptions that the app has logged. A filter of the server's log."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or not is_logged(error)


def report_lifespan_errors(send: Send) -> Send:
    """Wrap the ``send`` of a lifespan: a failed start or stop reports a message or a short traceback."""

    async def send_described(message: Message) -> None:
        error = sys.exception()
        if error is not None and message["type"] in {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
            if isinstance(error, UnwrittenError | EngineError):
                message = {**message, "message": str(error)}
            elif any(report.locations for report in error_reports(error)):
                message = {**message, "message": f"The lifespan has failed:\n{format_report(error)}"}
        await send(message)

    return send_described
