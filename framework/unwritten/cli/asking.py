"""Ask an ASGI app for one page, in this process and without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.types import ASGIApp, Message


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer: its status and where it redirects to ("" if it does not)."""

    status: int
    location: str


async def ask(app: ASGIApp, url: str, write: Callable[[bytes], Any]) -> Answer:
    """Send a GET request for a path with query to an app, and write its body as it comes.

    The app must be running: use ``running``. The body of a redirect is not written.
    """
    parts = urlsplit(url)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote_to_bytes(parts.path).decode("utf-8", "replace"),
        "raw_path": parts.path.encode("ascii", "replace"),
        "root_path": "",
        "query_string": parts.query.encode("ascii", "replace"),
        "headers": [(b"host", b"127.0.0.1"), (b"accept", b"text/html")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    answer = Answer(500, "")
    requested = False

    async def receive() -> Message:
        nonlocal requested
        if requested:
            await asyncio.Event().wait()  # this client never hangs up
        requested = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal answer
        if message["type"] == "http.response.start":
            headers = {name.lower(): value.decode("latin-1") for name, value in message["headers"]}
            answer = Answer(message["status"], headers.get(b"location", ""))
        elif not 300 <= answer.status < 400:
            write(message.get("body", b""))

    await app(scope, receive, send)
    return answer


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """Start an app as a server would, and stop it in the end.

    Raises:
        RuntimeError: if the app says that it cannot start.
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
            raise RuntimeError(heard.result().get("message", "The app could not start."))

    await tell("startup")
    try:
        yield
    finally:
        await tell("shutdown")
        await life
