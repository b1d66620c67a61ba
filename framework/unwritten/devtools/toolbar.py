"""The developer's tools in the page: the panel, ``?_trace=1``, and the scripts that bring them; only while developing.

An app is being developed if ``debug`` is on, for everybody; and under ``unwritten run``, for browsers on this machine.
Nothing of this is in a page otherwise: the tags are put into the answer on its way out, and no drawn page knows them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

from cachetools import LRUCache
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unwritten_engine.errors import suggestion

from ..core.errors import BadAddress
from ..core.paths import FRAMEWORK_PREFIX
from ..core.settings import Settings
from ..core.tracing import Trace, tracing
from ..security.client_address import is_in_process, is_local_client, is_loopback
from ..web.extension import Extension
from ..web.site import GetSite, Site
from .panel import panel_of
from .recordings import FrameRecorder

TRACE = "_trace"
"""The query parameter that asks for what a request did. It is no part of any page's key."""


MAX_TRACES = 64
"""Requests whose trace is remembered, the last of each page."""


_PARTS = ("panel", "frame", "errors")
"""What our script fetches without a page around it."""


_NONCE = re.compile(rb"'nonce-([\w+/=-]+)'")


class DevTools(Extension):
    """The developer tools of one app: panel, request traces, recorded frames and live reload.

    Args:
        settings: ``debug`` shows the tools to every browser.

    Attributes:
        local: True if the app is served by ``unwritten run``. Then browsers on this machine see the tools.
        recorder: Records the frames of recent pages.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.local = False
        self.recorder = FrameRecorder()
        self._traces: LRUCache[str, Trace] = LRUCache(MAX_TRACES)
        self._site: Site | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def configure(self, settings: Settings) -> None:
        """Replace the settings, before the app is built."""
        self._settings = settings

    def is_visible(self, scope: Scope) -> bool:
        """True if the client of this connection may see the tools."""
        return bool(self._settings.debug) or (self.local and is_local_client(scope) and _is_local_host_name(scope))

    def connect(self, site: Site) -> None:
        """Start recording, if anyone may see the result."""
        self._site = site
        if self._settings.debug or self.local:
            site.jobs.observe(self.recorder)

    async def close(self) -> None:
        """Forget the site."""
        self._site = None

    def middleware(self, get_site: GetSite) -> list[Middleware]:
        """Return the middleware that adds the tools to pages."""
        return [Middleware(DevToolsMiddleware, tools=self, get_site=get_site)]

    def trace(self, key: str) -> Trace | None:
        """Return the trace of the last request for a page."""
        return self._traces.get(key)

    def remember(self, trace: Trace) -> None:
        """Keep the trace of a request."""
        if trace.key:
            self.recorder.opened(trace.key)
            self._traces[trace.key] = trace

    def set_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the event loop in which pages are refreshed."""
        self._loop = loop

    def refresh_soon(self) -> None:
        """Reload templates and static files, and tell every open page. May be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._refresh)

    def _refresh(self) -> None:
        if self._site is not None:
            self._site.refresh()

    def routes(self, get_site: GetSite) -> list[BaseRoute]:
        """Return the route of the panel."""

        async def panel(request: Request) -> Response:
            return await self._panel(request, await get_site())

        return [Route("/developer", panel, methods=["GET"], name="developer")]

    async def _panel(self, request: Request, site: Site) -> Response:
        """Respond with the panel of a page, or with a part of it for the script.

        Of the chosen canvas it shows the frame ``at``, of all others the latest.
        """
        if not self.is_visible(request.scope):
            raise BadAddress("The developer panel is only shown to developers: start the app with --debug.", 404)
        query = request.query_params
        unknown = sorted(set(query) - {"page", "canvas", "at", "bare"})
        key = query.get("page", "")
        if unknown or not key.startswith("/"):
            problem = f"has no parameter {unknown[0]!r}" if unknown else "needs the page: ?page=/wiki/Lighthouse"
            raise BadAddress(f"The developer panel {problem}.")
        chosen = query.get("canvas", "")
        panel = panel_of(site, self.recorder.get(key), self.trace(key), key, {chosen: query.get("at", "")})
        canvas = next((canvas for canvas in panel.canvases if canvas.name == chosen), None)
        if chosen and canvas is None:
            raise BadAddress(f"The page {key} has no canvas {chosen!r}.", 404)
        errors = [error for canvas in panel.canvases for error in canvas.errors]
        values = {"panel": panel, "canvas": canvas, "errors": errors, "title": f"Developer: {key}"}
        part = query.get("bare", "")
        if not part:
            return site.renderer.render("devtools/page.html", values)
        if part not in _PARTS or (part == "frame" and canvas is None):
            raise BadAddress(f"The developer panel has no part {part!r}.{suggestion(part, _PARTS)}")
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return HTMLResponse(site.renderer.templates.render(f"devtools/{part}.html", values), headers=headers)


class DevToolsMiddleware:
    """Adds the developer tools to pages on their way out, for clients that may see them.

    Args:
        app: The next ASGI app.
        tools: The tools.
        get_site: Returns the site.
    """

    def __init__(self, app: ASGIApp, tools: DevTools, get_site: GetSite) -> None:
        self._app = app
        self._tools = tools
        self._get_site = get_site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with tracing if the client may see the tools."""
        if scope["type"] != "http" or FRAMEWORK_PREFIX in scope["path"]:
            return await self._app(scope, receive, send)
        asked = TRACE.encode() in scope["query_string"]
        if not self._tools.is_visible(scope):
            if asked and _without_trace(scope["query_string"])[1]:
                text = f"?{TRACE}=1 is only answered to developers: start the app with --debug.\n"
                return await PlainTextResponse(text, 404)(scope, receive, send)
            return await self._app(scope, receive, send)
        query, wanted = _without_trace(scope["query_string"]) if asked else (scope["query_string"], False)
        # A page that the browser has cached may lack the tools, and a compressed one cannot be changed.
        headers = [pair for pair in scope["headers"] if pair[0] not in {b"if-none-match", b"accept-encoding"}]
        scope = {**scope, "query_string": query, "headers": headers}
        site = await self._get_site()
        self._tools.set_loop(asyncio.get_running_loop())
        with tracing(scope["path"] + (f"?{query.decode('latin-1')}" if query else "")) as trace:
            try:
                pieces = self._pieces(site, trace, wanted)
                await self._app(scope, receive, _TraceSender(send, trace, pieces, wanted).send)
            finally:
                self._tools.remember(trace)

    def _pieces(self, site: Site, trace: Trace, wanted: bool) -> Callable[[str], dict[bytes, Callable[[], str]]]:
        render = site.renderer.templates.render
        values = {"static": site.renderer.static_url, "root_path": site.mount.prefix}

        def pieces(nonce: str) -> dict[bytes, Callable[[], str]]:
            found = {b"</head>": lambda: render("devtools/head.html", {**values, "nonce": nonce})}
            if wanted:
                found[b"</body>"] = lambda: render("devtools/trace.html", {**values, "trace": trace})
            return found

        return pieces


class _TraceSender:
    """An answer on its way out, into which pieces are put before certain marks."""

    def __init__(
        self, send: Send, trace: Trace, pieces: Callable[[str], dict[bytes, Callable[[], str]]], traced: bool
    ) -> None:
        self._send = send
        self._trace = trace
        self._make = pieces
        self._traced = traced
        self._pieces: dict[bytes, Callable[[], str]] = {}
        self._held = b""

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._headers(message["status"], list(message["headers"]))}
        elif message["type"] == "http.response.body" and (self._pieces or self._held):
            message = {**message, "body": self._put(message.get("body", b""), last=not message.get("more_body", False))}
        await self._send(message)

    def _headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        values = {name.lower(): value for name, value in headers}
        self._trace.status = status
        self._trace.etag = values.get(b"etag", b"").decode("latin-1")
        if b"location" in values and self._traced:
            place = values[b"location"].decode("latin-1")
            place += ("&" if "?" in place else "?") + f"{TRACE}=1"
            return [
                (name, place.encode("latin-1") if name.lower() == b"location" else value) for name, value in headers
            ]
        if not values.get(b"content-type", b"").startswith(b"text/html"):
            return headers
        nonce = _NONCE.search(values.get(b"content-security-policy", b""))
        self._pieces = self._make(nonce[1].decode("ascii") if nonce else "")
        left_out = {b"content-length", b"etag", b"cache-control"}
        return [*(pair for pair in headers if pair[0].lower() not in left_out), (b"cache-control", b"no-store")]

    def _put(self, body: bytes, *, last: bool) -> bytes:
        body = self._held + body
        done = bytearray()
        while self._pieces:
            places = [(at, mark) for mark in self._pieces if (at := body.find(mark)) >= 0]
            if not places:
                break
            at, mark = min(places)
            done += body[:at] + self._pieces.pop(mark)().encode() + mark
            body = body[at + len(mark) :]
        # A mark may come in two pieces.
        keep = 0 if last else max((_overlap(body, mark) for mark in self._pieces), default=0)
        self._held = body[len(body) - keep :]
        return bytes(done + body[: len(body) - keep])


def _overlap(body: bytes, mark: bytes) -> int:
    """How many bytes at the end of ``body`` may be the beginning of a mark."""
    return next((n for n in range(min(len(mark) - 1, len(body)), 0, -1) if body.endswith(mark[:n])), 0)


def _is_local_host_name(scope: Scope) -> bool:
    """Whether a request asks for this machine by a name that only means it, and through nothing that says so."""
    headers = dict(scope["headers"])
    host = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname or ""
    return is_in_process(scope) or (is_loopback(host) and b"via" not in headers)


def _without_trace(query: bytes) -> tuple[bytes, bool]:
    """A query without the parameter that asks for a trace, and whether it was there."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    rest = [pair for pair in pairs if pair[0] != TRACE]
    if len(rest) == len(pairs):
        return query, False
    return urlencode(rest).encode("latin-1"), any(name == TRACE and value not in {"0", "no"} for name, value in pairs)
