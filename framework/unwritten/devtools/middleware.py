"""The middleware of the developer tools: it traces requests, and inserts the tools into HTML responses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.paths import FRAMEWORK_PREFIX
from ..core.tracing import Trace, tracing
from ..routing.access import ACCESS_CHECK
from ..web.site import GetSite, Site

TRACE = "_trace"
"""The query parameter that shows the trace of a request at the end of the page. It is not part of any page's key."""

Insertions: TypeAlias = Mapping[bytes, Callable[[], str]]
"""What to insert before a tag, by tag. It is rendered when the tag is found, so a trace is complete by then."""

_NONCE = re.compile(rb"'nonce-([\w+/=-]+)'")


class DevToolsMiddleware:
    """Adds the developer tools to pages, for clients that may see them.

    Args:
        app: The next ASGI app.
        get_site: Returns the site.
        is_visible: True if the client of a connection may see the tools.
        on_trace: Called with the trace of each request after its end.
    """

    def __init__(
        self,
        app: ASGIApp,
        get_site: GetSite,
        is_visible: Callable[[Scope], bool],
        on_trace: Callable[[Trace], None],
    ) -> None:
        self._app = app
        self._get_site = get_site
        self._is_visible = is_visible
        self._on_trace = on_trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the next app, with tracing if the client may see the tools."""
        if scope["type"] != "http" or ACCESS_CHECK in scope or FRAMEWORK_PREFIX in scope["path"]:
            return await self._app(scope, receive, send)
        query, show_trace = _take_trace(scope["query_string"])
        if not self._is_visible(scope):
            if show_trace:
                text = f"?{TRACE}=1 only works for the owner: open the URL that the server printed at its start.\n"
                return await PlainTextResponse(text, 404)(scope, receive, send)
            return await self._app(scope, receive, send)
        # A page in the browser's cache may lack the tools, and a compressed one cannot be changed.
        headers = [pair for pair in scope["headers"] if pair[0] not in {b"if-none-match", b"accept-encoding"}]
        scope = {**scope, "query_string": query, "headers": headers}
        try:
            site = await self._get_site()
        except Exception:  # the site cannot be built: the request fails again inside, where its error page is made
            return await self._app(scope, receive, send)
        with tracing(scope["path"] + (f"?{query.decode('latin-1')}" if query else "")) as trace:
            try:
                sender = _InsertingSender(send, trace, show_trace, _insertions(site, trace, show_trace))
                await self._app(scope, receive, sender.send)
            finally:
                self._on_trace(trace)


def _insertions(site: Site, trace: Trace, show_trace: bool) -> Callable[[str], Insertions]:
    """Return a function from the nonce of a response to what is inserted into it."""
    render = site.renderer.templates.render
    values = {"static": site.renderer.static_url, "root_path": site.mount.prefix}

    def insertions(nonce: str) -> Insertions:
        found = {b"</head>": lambda: render("devtools/head.html", {**values, "nonce": nonce})}
        if show_trace:
            found[b"</body>"] = lambda: render("devtools/trace.html", {**values, "trace": trace})
        return found

    return insertions


class _InsertingSender:
    """Sends the messages of a response, and inserts HTML before the first occurrence of certain tags."""

    def __init__(self, send: Send, trace: Trace, show_trace: bool, insertions: Callable[[str], Insertions]) -> None:
        self._send = send
        self._trace = trace
        self._show_trace = show_trace
        self._insertions = insertions
        self._pending: dict[bytes, Callable[[], str]] = {}
        self._held = b""

    async def send(self, message: Message) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._headers(message["status"], list(message["headers"]))}
        elif message["type"] == "http.response.body" and (self._pending or self._held):
            is_last = not message.get("more_body", False)
            message = {**message, "body": self._insert(message.get("body", b""), is_last=is_last)}
        await self._send(message)

    def _headers(self, status: int, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        values = {name.lower(): value for name, value in headers}
        self._trace.status = status
        self._trace.etag = values.get(b"etag", b"").decode("latin-1")
        if b"location" in values and self._show_trace:
            location = values[b"location"]
            location += (b"&" if b"?" in location else b"?") + f"{TRACE}=1".encode()
            return [(name, location if name.lower() == b"location" else value) for name, value in headers]
        if not values.get(b"content-type", b"").startswith(b"text/html"):
            return headers
        nonce = _NONCE.search(values.get(b"content-security-policy", b""))
        self._pending = dict(self._insertions(nonce[1].decode("ascii") if nonce else ""))
        removed = {b"content-length", b"etag", b"cache-control"}
        return [*(pair for pair in headers if pair[0].lower() not in removed), (b"cache-control", b"no-store")]

    def _insert(self, body: bytes, *, is_last: bool) -> bytes:
        body = self._held + body
        done = bytearray()
        while self._pending:
            found = [(at, tag) for tag in self._pending if (at := body.find(tag)) >= 0]
            if not found:
                break
            at, tag = min(found)
            done += body[:at] + self._pending.pop(tag)().encode() + tag
            body = body[at + len(tag) :]
        # A tag may be split between two messages.
        held = 0 if is_last else max((_overlap(body, tag) for tag in self._pending), default=0)
        self._held = body[len(body) - held :]
        return bytes(done + body[: len(body) - held])


def _overlap(body: bytes, tag: bytes) -> int:
    """Return how many bytes at the end of ``body`` may be the start of a tag."""
    return next((n for n in range(min(len(tag) - 1, len(body)), 0, -1) if body.endswith(tag[:n])), 0)


def _take_trace(query: bytes) -> tuple[bytes, bool]:
    """Return a query string without the parameter ``_trace``, and whether the parameter requests a trace."""
    if TRACE.encode() not in query:
        return query, False
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    rest = [pair for pair in pairs if pair[0] != TRACE]
    if len(rest) == len(pairs):
        return query, False
    return urlencode(rest).encode("latin-1"), any(name == TRACE and value not in {"0", "no"} for name, value in pairs)
