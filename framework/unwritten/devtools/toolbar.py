"""The developer's tools in the page: the panel, ``?_trace=1``, and the scripts that bring them; only while developing.

An app is being developed if ``debug`` is on, for everybody; and under ``unwritten run``, for browsers on this machine.
Nothing of this is in a page otherwise: the tags are put into the answer on its way out, and no drawn page knows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unwritten_engine.errors import suggestion

from ..core.errors import BadAddress, BadApp
from ..core.tracing import Trace, tracing
from ..security.client_address import is_in_process, is_local_client, is_loopback
from .panel import panel_of
from .recordings import FrameRecorder

if TYPE_CHECKING:
    from ..app.application import App
    from ..web.page_handler import PageHandler

_OWN = "/_unwritten/"


ADDRESS = f"{_OWN}developer"


TRACE = "_trace"
"""The query parameter that asks for what a request did. It is no part of any page's key."""


MOST_REQUESTS = 64
"""Requests whose trace is remembered, the last of each page."""


_PARTS = ("panel", "frame", "faults")
"""What our script fetches without a page around it."""


_NONCE = re.compile(rb"'nonce-([\w+/=-]+)'")


class DevTools:
    """What an author sees of an app beyond its pages.

    Args:
        app: the app.

    Attributes:
        at_home: whether the app is served by ``unwritten run`` to the author's own machine.
        recorder: the frames of the pages written last.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.at_home = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.recorder = FrameRecorder()
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def sees(self, scope: Scope) -> bool:
        """Whether who asks is to see more than a visitor does."""
        return bool(self._app.settings.debug) or (
            self.at_home and is_local_client(scope) and _by_a_name_of_this_machine(scope)
        )

    def attach(self, serving: PageHandler) -> None:
        """Listen to what is written, if anybody may ever ask."""
        if self._app.settings.debug or self.at_home:
            serving.jobs.observers.append(self.recorder)

    def trace(self, key: str) -> Trace | None:
        """What the last request for a page did."""
        return self._traces.get(key)

    def refresh_soon(self) -> None:
        """Take templates and static files as they are by now, and tell every open page. From any thread; before the app
        is served there is nothing to do."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._refresh)

    def _refresh(self) -> None:
        with contextlib.suppress(BadApp):  # it is not prepared yet, or not any more
            self._app.handler.refresh()

    # -- answers on their way out -------------------------------------------------------------------------

    async def answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with an app, and put the developer's tools into the page if who asks is to see them."""
        if scope["type"] == "lifespan":
            self._loop = asyncio.get_running_loop()
        if scope["type"] != "http" or scope["path"].startswith(_OWN):
            return await app(scope, receive, send)
        asked = TRACE.encode() in scope["query_string"]
        if not self.sees(scope):
            if asked and _without_trace(scope["query_string"])[1]:
                refused = PlainTextResponse(f"?{TRACE}=1 is for who develops this app: start it with --debug.\n", 404)
                return await refused(scope, receive, send)
            return await app(scope, receive, send)
        query, wanted = _without_trace(scope["query_string"]) if asked else (scope["query_string"], False)
        # A page that the browser has kept may lack the tools, and a packed one could not be given them.
        headers = [pair for pair in scope["headers"] if pair[0] not in {b"if-none-match", b"accept-encoding"}]
        scope = {**scope, "query_string": query, "headers": headers}
        await self._app.ready()
        with tracing(scope["path"] + (f"?{query.decode('latin-1')}" if query else "")) as trace:
            try:
                await app(scope, receive, _TraceSender(send, trace, self._pieces(trace, wanted), wanted).send)
            finally:
                self._remember(trace)

    def _remember(self, trace: Trace) -> None:
        if trace.key:
            self.recorder.opened(trace.key)
            self._traces[trace.key] = trace
            self._traces.move_to_end(trace.key)
            if len(self._traces) > MOST_REQUESTS:
                self._traces.popitem(last=False)

    def _pieces(self, trace: Trace, wanted: bool) -> Callable[[str], dict[bytes, Callable[[], str]]]:
        render = self._app.templates.render

        def pieces(nonce: str) -> dict[bytes, Callable[[], str]]:
            found = {b"</head>": lambda: render("developer/head.html", {"nonce": nonce})}
            if wanted:
                found[b"</body>"] = lambda: render("developer/trace.html", {"trace": trace})
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


def _by_a_name_of_this_machine(scope: Scope) -> bool:
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


def developer_routes(app: App) -> list[BaseRoute]:
    """Where the panel gets what it shows."""

    async def developer(request: Request) -> Response:
        """The panel of a page, as a page of its own, or a part of it for our script. Of the chosen canvas it shows the
        frame ``at``, of all others the latest."""
        if not app.devtools.sees(request.scope):
            raise BadAddress("The developer panel is for who develops this app: start it with --debug.", 404)
        serving = await app.ready()
        query = request.query_params
        unknown = sorted(set(query) - {"page", "canvas", "at", "bare"})
        key = query.get("page", "")
        if unknown or not key.startswith("/"):
            problem = f"has no parameter {unknown[0]!r}" if unknown else "needs the page: ?page=/wiki/Lighthouse"
            raise BadAddress(f"The developer panel {problem}.")
        chosen = query.get("canvas", "")
        own = app.devtools
        panel = panel_of(serving, own.recorder.get(key), own.trace(key), key, {chosen: query.get("at", "")})
        canvas = next((canvas for canvas in panel.canvases if canvas.name == chosen), None)
        if chosen and canvas is None:
            raise BadAddress(f"The page {key} has no canvas {chosen!r}.", 404)
        faults = [fault for canvas in panel.canvases for fault in canvas.faults]
        values = {"panel": panel, "canvas": canvas, "faults": faults, "title": f"Developer: {key}"}
        part = query.get("bare", "")
        if not part:
            return serving.renderer.template("developer/page.html", values)
        if part not in _PARTS or (part == "frame" and canvas is None):
            raise BadAddress(f"The developer panel has no part {part!r}.{suggestion(part, _PARTS)}")
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return HTMLResponse(serving.renderer.templates.render(f"developer/{part}.html", values), headers=headers)

    return [Route(ADDRESS, developer, methods=["GET"])]
