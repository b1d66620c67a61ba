"""Ask an ASGI app for a page, in this process and without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.types import ASGIApp, Message

HOST = "127.0.0.1"
"""The host that is asked, by name."""


@dataclass(frozen=True, slots=True)
class ASGIResponse:
    """The head of an answer.

    Attributes:
        status: its HTTP status.
        headers: its headers, names in small letters.
        failure: what the app's own code raised, if it did; the answer is then a page that says so.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    failure: BaseException | None = None

    @property
    def location(self) -> str:
        """Where it redirects to; "" if it does not."""
        return next((value for name, value in self.headers if name == "location"), "")


async def request(
    app: ASGIApp,
    url: str,
    write: Callable[[bytes], Any],
    *,
    method: str = "GET",
    headers: Mapping[str, str] = MappingProxyType({}),
    body: bytes = b"",
    client: str = HOST,
) -> ASGIResponse:
    """Send a request for a path with query to an app, and write the answer's body as it comes.

    The app must be running: use ``running``. The body of a redirect is not written.

    Args:
        app: whom to ask.
        url: the path, with its query.
        write: takes the body, piece by piece.
        method: the HTTP method.
        headers: headers besides those that say who asks whom for HTML.
        body: the request's body.
        client: the address that asks.
    """
    parts = urlsplit(url)
    state: dict[str, Any] = {}
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
        "state": state,
    }
    answer = ASGIResponse(500)
    requested = False

    async def receive() -> Message:
        nonlocal requested
        if requested:
            await asyncio.Event().wait()  # this client never hangs up
        requested = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal answer
        if message["type"] == "http.response.start":
            pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message["headers"]]
            answer = ASGIResponse(message["status"], tuple(pairs))
        elif not 300 <= answer.status < 400:
            write(message.get("body", b""))

    await app(scope, receive, send)
    return replace(answer, failure=state.get("failure"))


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """Start an app as a server would, and stop it in the end.

    Raises:
        RuntimeError: if the app says that it cannot start, and raises nothing itself.
    """
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.4"}, "state": {}}
    life: asyncio.Task[None] = asyncio.ensure_future(app(scope, to_app.get, from_app.put))

    async def tell(word: str) -> None:
        await to_app.put({"type": f"lifespan.{word}"})
        heard = asyncio.create_task(from_app.get())
        await asyncio.wait({life, heard}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():
            heard.cancel()
            life.result()  # raises what ended it
        elif heard.result()["type"].endswith("failed"):
            await life  # raises what failed
            raise RuntimeError(heard.result().get("message", "The app could not start."))

    await tell("startup")
    try:
        yield
    finally:
        await tell("shutdown")
        await life
