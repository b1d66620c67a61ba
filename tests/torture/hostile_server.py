"""A model server under the harness' control that breaks every rule of the protocol, on a plain socket.

Requests name a case (``case NAME`` in the prompt). A case is a text, or a coroutine that writes to the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import re
import secrets
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from tests.benchmarks.apps import long_text
from tests.torture.app import SECRET

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
PLAIN = "A **lighthouse** is a tower with a lamp. See [[Sea]] and [[Fog]]."
LEAK = "sk-torture-0123456789 at /srv/models/private on 10.1.2.3:9000"
"""What an error of the model server contains, and no visitor may see."""

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def event(text: str, **more: object) -> bytes:
    """Return a chunk of a stream with a piece of text."""
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, **more}]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


END = event("", finish_reason="stop") + b"data: [DONE]\n\n"


async def _send(writer: asyncio.StreamWriter, *pieces: bytes, pause: float = 0.0) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        if pause:
            await asyncio.sleep(pause)


async def _endless(writer: asyncio.StreamWriter) -> None:
    """Ignore ``max_tokens``: write different words until the client closes, at most 3 MB."""
    await _send(writer, HEAD)
    for number in range(60_000):
        await _send(writer, event(f"word{number} and a comma, then more of it goes on. "))


async def _drip(writer: asyncio.StreamWriter) -> None:
    await _send(writer, HEAD)
    for number in itertools.count():
        await _send(writer, event(chr(97 + number % 26)), pause=1.0)


async def _slow(writer: asyncio.StreamWriter) -> None:
    """A page that takes four seconds."""
    await _send(writer, HEAD, *(event(f"Word{n} ") for n in range(40)), END, pause=0.1)


async def _long(writer: asyncio.StreamWriter) -> None:
    """A page that takes twelve seconds."""
    await _send(writer, HEAD, *(event(f"Word{n} ") for n in range(40)), END, pause=0.3)


async def _article(writer: asyncio.StreamWriter) -> None:
    """An ordinary page: 400 words within two seconds."""
    pieces = [event(f"{word} ") for word in long_text("Article", 2_400).split()]
    groups = [b"".join(pieces[at : at + 8]) for at in range(0, len(pieces), 8)]
    await _send(writer, HEAD, *groups, END, pause=2 / len(groups))


async def _unique(writer: asyncio.StreamWriter) -> None:
    """A text that differs in each generation, so that a page that was written twice is noticed."""
    await _send(writer, HEAD, event("It is called "), event(f"unique-{secrets.token_hex(8)}. See [[Sea]]."), END)


async def _growing(writer: asyncio.StreamWriter) -> None:
    """A page of 100 kB that grows for 15 seconds."""
    chance = random.Random(1)
    words = ["".join(chance.choices("aeiounrstlm", k=chance.randint(3, 9))) for _ in range(15_000)]
    pieces = (event(" ".join(words[at : at + 50]) + ".\n\n") for at in range(0, len(words), 50))
    await _send(writer, HEAD, *pieces, END, pause=0.05)


async def _cut(writer: asyncio.StreamWriter) -> None:
    await _send(writer, HEAD, event("Half a sen"))
    writer.transport.abort()


async def _invalid_utf8(writer: asyncio.StreamWriter) -> None:
    await _send(writer, HEAD, b'data: {"choices":[{"delta":{"content":"a\xff\xfe\xc3\x28 b"}}]}\n\n', END)


async def _broken_events(writer: asyncio.StreamWriter) -> None:
    bad = [
        b"data: {\n\n",
        b"data: null\n\n",
        b"data: []\n\n",
        b'data: {"choices":7}\n\n',
        b"event: \x00\n\n",
        b"\n" * 999,
    ]
    nested = b"data: " + b"[" * 90_000 + b"\n\n"
    await _send(writer, HEAD, *bad, nested, event("text"), END)


async def _huge_headers(writer: asyncio.StreamWriter) -> None:
    await _send(writer, b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 1_000_000)
    for _ in range(64):
        await _send(writer, b"a" * 1_000_000)


async def _endless_line(writer: asyncio.StreamWriter) -> None:
    """Send one line of 1 GB."""
    await _send(writer, HEAD, b'data: {"choices":[{"delta":{"content":"')
    for _ in range(1024):
        await _send(writer, b"a" * 1_048_576)


async def _endless_comments(writer: asyncio.StreamWriter) -> None:
    await _send(writer, HEAD)
    for _ in range(200_000):
        await _send(writer, b": keep-alive\n\n" * 64)


async def _many_empty(writer: asyncio.StreamWriter) -> None:
    await _send(writer, HEAD, *(event("") for _ in range(20_000)), event("done"), END)


async def _redirect(writer: asyncio.StreamWriter) -> None:
    await _send(
        writer, b"HTTP/1.1 307 Go\r\nlocation: http://evil.example/v1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )


async def _error(writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"error": {"message": f"<script>alert(1)</script> {LEAK}"}}).encode()
    await _send(writer, b"HTTP/1.1 500 Bad\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def _late_error(writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"error": {"message": f"<img src=x onerror=alert(1)> {LEAK}"}}).encode()
    await _send(writer, HEAD, event("A start "), b"data: " + body + b"\n\n")


async def _lies(writer: asyncio.StreamWriter) -> None:
    """Report impossible usage."""
    usage = json.dumps({"choices": [], "usage": {"completion_tokens": -(10**30), "prompt_tokens": 1e308}}).encode()
    await _send(writer, HEAD, event(PLAIN, finish_reason="stop"), b"data: " + usage + b"\n\n", b"data: [DONE]\n\n")


async def _hang(writer: asyncio.StreamWriter) -> None:
    await _send(writer, HEAD)
    await asyncio.sleep(3600)


BEHAVIOURS: dict[str, Behaviour] = {
    "endless": _endless,
    "drip": _drip,
    "slow": _slow,
    "long": _long,
    "article": _article,
    "unique": _unique,
    "growing": _growing,
    "cut": _cut,
    "invalid-utf8": _invalid_utf8,
    "broken-events": _broken_events,
    "huge-headers": _huge_headers,
    "endless-line": _endless_line,
    "endless-comments": _endless_comments,
    "many-empty": _many_empty,
    "redirect": _redirect,
    "error": _error,
    "late-error": _late_error,
    "lies": _lies,
    "hang": _hang,
}
"""Behaviours by the name of their case. ``NAME-ANYTHING-NUMBER`` is the same case, for another page."""


class HostileServer:
    """The server, in a thread.

    Attributes:
        texts: Complete answers by case, sent in a few large pieces.
        failures: Texts of errors by case, sent in the middle of an answer.
        requests: The number of requests by case.
        open: The number of requests that are being answered.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {"plain": PLAIN, "secret": SECRET}
        self.failures: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self.open = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    @property
    def url(self) -> str:
        """Its URL, as a setting of the engine."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen, on the port of before if it was stopped."""
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Close the port and all connections."""

        async def close() -> None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    def close(self) -> None:
        """Stop, and end the thread."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if head.startswith("GET"):
            body = json.dumps({"object": "list", "data": [{"id": "tiny", "max_model_len": 1_000_000}]}).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            await _send(writer, f"{head}connection: close\r\n\r\n".encode() + body)
            return
        length = re.search(r"content-length: (\d+)", head, re.I)
        request = json.loads(await reader.readexactly(int(length[1]) if length else 0))
        found = re.search(r"case ([\w-]+)", str(request["messages"][-1]["content"]))
        case = found[1] if found else "plain"
        self.requests[case] += 1
        self.open += 1
        try:
            behaviour = BEHAVIOURS.get(case) or BEHAVIOURS.get(re.sub(r"(-\w+)*-\d+$", "", case))
            if case in self.failures:
                error = json.dumps({"error": {"message": self.failures[case]}})
                await _send(writer, HEAD, event("A start "), f"data: {error}\n\n".encode())
            elif behaviour is not None:
                task = asyncio.ensure_future(behaviour(writer))
                closed = asyncio.ensure_future(reader.read())
                try:
                    await asyncio.wait({task, closed}, return_when=asyncio.FIRST_COMPLETED)
                    if task.done():
                        task.result()
                finally:
                    task.cancel()
                    closed.cancel()
                    await asyncio.gather(task, closed, return_exceptions=True)
            else:
                text = self.texts.get(case, PLAIN)
                pieces = [text[i : i + 40_000] for i in range(0, len(text), 40_000)]
                await _send(writer, HEAD, *map(event, pieces), END)
            await _closed(reader)
        finally:
            self.open -= 1


async def _closed(reader: asyncio.StreamReader) -> None:
    """Wait a moment for the client to close the connection, so that nothing that was sent is lost."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(2):
            await reader.read()


@contextlib.contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """Run a server."""
    server = HostileServer()
    try:
        yield server
    finally:
        server.close()
