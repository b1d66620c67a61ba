"""Send requests to an ASGI app in this process, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.types import ASGIApp, Message

from ..core.mount import IN_PROCESS

HOST = "127.0.0.1"
"""The host name of requests, and the client's address."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ASGIResponse:
    """The start of a response.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case, with values. A name may occur several times.
        failure: The exception that the app's own code raised, if any. The response is then an error page.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    failure: BaseException | None = None

    @property
    def location(self) -> str:
        """The target of a redirect, or ""."""
        return next((value for name, value in self.headers if name == "location"), "")


async def request(
    app: ASGIApp,
    url: str,
    write: Callable[[bytes], Any],
    *,
    method: str = "GET",
    headers: Mapping[str, str] = _NOTHING,
    body: bytes = b"",
    client: str = HOST,
    state: Mapping[str, Any] = _NOTHING,
) -> ASGIResponse:
    """Send a request to a running app; see ``running``. The body of a redirect is skipped.

    Args:
        app: The app.
        url: The path, with its query.
        write: Called with every piece of the response's body as it arrives.
        method: The HTTP method.
        headers: Headers besides Host and Accept.
        body: The request's body.
        client: The client's address.
        state: What the app's lifespan yielded.
    """
    parts = urlsplit(url)
    request_state = dict(state)
    sent = {"host": HOST, "accept": "text/html", **headers, **({"content-length": str(len(body))} if body else {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(parts.path).decode("utf-8", "replace"),
        "raw_path": parts.path.encode("ascii", "replace"),
        "root_path": "",
        "query_string": parts.query.encode("ascii", "replace"),
        "headers": [(name.encode("latin-1"), value.encode("utf-8")) for name, value in sent.items()],
        "client": (client, 0),
        "server": ("in-process", 80),
        "state": request_state,
    }
    response: ASGIResponse | None = None
    was_received = False

    async def receive() -> Message:
        nonlocal was_received
        if was_received:
            await asyncio.Event().wait()  # this client never disconnects
        was_received = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal response
        if message["type"] == "http.response.start":
            pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message["headers"]]
            response = ASGIResponse(message["status"], tuple(pairs))
        elif response is not None and not 300 <= response.status < 400:
            write(message.get("body", b""))

    failure: BaseException | None = None
    try:
        await app(scope, receive, send)
    except Exception as error:  # Starlette raises it again after it has sent the error page
        if response is None:
            raise
        failure = error
    if response is None:
        return ASGIResponse(500, failure=failure)
    return ASGIResponse(response.status, response.headers, failure or request_state.get("failure"))


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """Run an app's lifespan, as a server does, but without its lock on the database. Yields the state for ``request``.

    Raises:
        RuntimeError: If the app reports that it cannot start, and raises nothing itself.
    """
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "extensions": {IN_PROCESS: {}},
        "state": state,
    }
    lifespan: asyncio.Task[None] = asyncio.ensure_future(app(scope, to_app.get, from_app.put))

    async def run_phase(phase: str) -> None:
        await to_app.put({"type": f"lifespan.{phase}"})
        reply = asyncio.create_task(from_app.get())
        await asyncio.wait({lifespan, reply}, return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            reply.cancel()
            lifespan.result()  # raises what ended it
        elif reply.result()["type"].endswith("failed"):
            await lifespan  # raises what failed
            raise RuntimeError(reply.result().get("message", "The app could not start."))

    await run_phase("startup")
    try:
        yield state
    finally:
        await run_phase("shutdown")
        await lifespan
