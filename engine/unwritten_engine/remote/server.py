"""The engine server: shares one open engine with several processes, over one WebSocket for each client.

The server sends the engine's raw frames. Clients clean them (see ``cleaning``), so that this work is spread over the
processes that show the pages.

The engine gets only a few requests of one client at a time, so that a client with many requests does not keep the
others waiting. Nothing is queued for a client but the newest frame of each request. A client that reads slowly skips
frames, and does not delay others. When a client disappears, its requests are cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HandshakeRequest
from websockets.http11 import Response as HandshakeResponse

from ..cleaning import CleanEngine
from ..engine import Engine
from ..errors import EngineClosed, EngineError, GenerationFailed, RequestRefused
from ..frames import Frame, Request
from ..request_slots import SlotScheduler
from .protocol import (
    MAX_REQUEST_BYTES,
    MAX_TEXT_LENGTH,
    SUBPROTOCOL,
    TOKEN_VARIABLE,
    InvalidMessage,
    decode,
    decode_prompt,
    decode_request,
    encode,
    encode_about,
    encode_error,
    encode_frame,
)

MAX_CLIENT_REQUESTS: Final = 1024
"""Requests of one client at the same time."""

_POLICY_VIOLATION, _SERVICE_RESTART = 1008, 1012

log = logging.getLogger("unwritten.engine_server")
_handshake_log = log.getChild("handshake")
_handshake_log.setLevel(logging.CRITICAL)  # websockets logs a traceback for every invalid handshake


class EngineServer:
    """Serves an engine. Call all methods from the engine's event loop.

    Args:
        engine: the engine. It stays open when the server closes.
        token: what clients must send; "" accepts every client that can connect.
    """

    def __init__(self, engine: Engine, token: str = "") -> None:
        self.engine = engine.engine if isinstance(engine, CleanEngine) else engine
        self.closing = False
        self._token = token.encode()
        self._server: Server | None = None
        self._clients: set[_Client] = set()

    @property
    def num_requests(self) -> int:
        """Number of requests that run or wait."""
        return sum(client.num_requests for client in self._clients)

    async def start(self, sock: socket.socket) -> None:
        """Accept clients on a bound socket. It is closed with the server."""
        self._server = await serve(
            self._handle,
            sock=sock,
            origins=[None],  # browsers send an origin: pages of other sites must not reach a server on this machine
            subprotocols=[SUBPROTOCOL],
            process_request=self._authorize,
            compression=None,
            close_timeout=2,
            max_size=MAX_REQUEST_BYTES,
            logger=_handshake_log,
        )

    async def close(self, drain_seconds: float = 0.0) -> None:
        """Refuse new requests, let running ones finish, and disconnect all clients.

        Args:
            drain_seconds: how long running requests may take. Then they are cancelled.
        """
        self.closing = True
        if self._server is None:
            return
        self._server.close(close_connections=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds):
                await asyncio.gather(*(client.wait_until_idle() for client in self._clients))
        await asyncio.gather(*(client.websocket.close(_SERVICE_RESTART) for client in list(self._clients)))
        await self._server.wait_closed()

    def _authorize(self, connection: ServerConnection, request: HandshakeRequest) -> HandshakeResponse | None:
        """Refuse a client without the token, in constant time."""
        if not self._token:
            return None
        scheme, _, given = " ".join(request.headers.get_all("Authorization")).partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return None
        return connection.respond(HTTPStatus.UNAUTHORIZED, f"The token is missing or wrong: set {TOKEN_VARIABLE}.\n")

    async def _handle(self, websocket: ServerConnection) -> None:
        client = _Client(self, websocket)
        self._clients.add(client)
        try:
            await client.run()
        finally:
            self._clients.discard(client)


@dataclass(eq=False, slots=True)
class _Call:
    """A request of a client.

    Attributes:
        request: the request; None for other work.
        task: the running work.
        frame: the newest frame that was not sent yet.
        sent: the text of the last frame that was sent.
        result: the last message, once the work has ended: an error, or ``ok``. A text ends with its last frame.
        ended: True if nothing follows ``frame`` and ``result``.
    """

    request: Request | None = None
    task: asyncio.Task[None] | None = None
    frame: Frame | None = None
    sent: str = ""
    result: dict[str, Any] | None = None
    ended: bool = False


class _Client:
    """One client: reads its messages, runs its requests, and sends their frames."""

    def __init__(self, server: EngineServer, websocket: ServerConnection) -> None:
        self.websocket = websocket
        self._server = server
        self._engine = server.engine
        self._about = server.engine.about
        # Twice what the engine runs, so that it never waits, and half of it for clicks.
        limit = 2 * self._about.parallel
        self._slots = SlotScheduler(limit, limit)
        self._calls: dict[int, _Call] = {}
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_requests(self) -> int:
        """Number of requests that run or wait."""
        return len(self._calls)

    async def wait_until_idle(self) -> None:
        """Wait until every request has ended and its last frame was sent."""
        await self._idle.wait()

    async def run(self) -> None:
        """Serve the client until it disconnects."""
        sender = asyncio.create_task(self._send(), name="engine server sender")
        try:
            await self._receive()
        except ConnectionClosed:
            pass
        except InvalidMessage as error:
            log.warning("A client of the engine server was disconnected: %s", error)
            await self.websocket.close(_POLICY_VIOLATION, str(error)[:100])
        except Exception:
            log.exception("A client of the engine server was disconnected")
            raise
        finally:
            tasks = [sender, *(call.task for call in self._calls.values() if call.task)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._calls.clear()
            self._idle.set()

    # -- from the client ----------------------------------------------------------------------------------

    async def _receive(self) -> None:
        await self.websocket.send(encode({"type": "about", "about": encode_about(self._about)}))
        async for text in self.websocket:
            message = decode(text)
            kind, number = message["type"], message.get("id")
            if not isinstance(number, int):
                raise InvalidMessage("A message has a number as its id.")
            if kind == "generate":
                self._start(number, self._generate, decode_request(message.get("request")))
            elif kind == "warm":
                prompts = [decode_prompt(prompt) for prompt in list(message.get("prompts") or ())]
                self._start(number, lambda call, prompts=prompts: self._warm(call, prompts))
            elif kind == "check":
                # Not by the sender: while the client does not read answers, its messages are not read either.
                await self.websocket.send(encode({**self._check(decode_request(message.get("request"))), "id": number}))
            elif kind == "cancel":
                self._cancel(number)
            elif kind == "promote":
                call = self._calls.get(number)
                if call is not None and call.request is not None:
                    self._slots.promote(call.request)
                    self._engine.promote(call.request)
            else:
                raise InvalidMessage(f"There is no message of the type {kind!r:.40}.")

    def _start(self, number: int, work: Any, request: Request | None = None) -> None:
        if number in self._calls:
            raise InvalidMessage(f"The id {number} is in use.")
        call = self._calls[number] = _Call(request)
        self._idle.clear()
        if self._server.closing:
            self._finish(call, encode_error(EngineClosed("The engine server is stopping.")))
        elif len(self._calls) > MAX_CLIENT_REQUESTS:
            error = RequestRefused(f"The engine server runs {MAX_CLIENT_REQUESTS} requests of one client. Ask later.")
            self._finish(call, encode_error(error))
        else:
            call.task = asyncio.create_task(self._run(call, work(call)), name=f"engine server request {number}")

    async def _run(self, call: _Call, work: Coroutine[Any, Any, dict[str, Any] | None]) -> None:
        """Do the work of a request, and pass on its errors in the engine's words."""
        try:
            result = await work
        except EngineError as error:
            result = encode_error(error)
        except Exception:
            log.exception("A request failed")
            result = encode_error(_internal_error())
        self._finish(call, result)

    async def _generate(self, call: _Call) -> dict[str, Any] | None:
        assert call.request is not None
        slot = await self._slots.acquire("", call.request.priority, call.request)
        try:
            if slot.priority is not None and slot.priority is not call.request.priority:  # promoted while it waited
                call.request = replace(call.request, priority=slot.priority)
            async with contextlib.aclosing(self._engine.generate(call.request)) as frames:
                async for frame in frames:
                    if len(frame.text) > MAX_TEXT_LENGTH:
                        raise GenerationFailed(
                            f"The engine has written more than {MAX_TEXT_LENGTH:,} characters. The request was stopped."
                        )
                    call.frame = frame
                    self._changed.set()
                    if frame.done:
                        return None
            return encode_error(GenerationFailed("The engine ended without a last frame."))
        finally:
            self._slots.release(slot)

    async def _warm(self, call: _Call, prompts: Any) -> dict[str, Any]:
        await self._engine.warm(prompts)
        return {}

    def _check(self, request: Request) -> dict[str, Any]:
        try:
            self._engine.check(request)
        except EngineError as error:
            return {"type": "error", **encode_error(error)}
        except Exception:
            log.exception("A request could not be checked")
            return {"type": "error", **encode_error(_internal_error())}
        return {"type": "ok"}

    def _cancel(self, number: int) -> None:
        call = self._calls.get(number)
        if call is None:
            return
        if call.task is not None and not call.task.done():
            call.frame = None
            call.task.cancel()
            call.task.add_done_callback(lambda _: self._remove(number))
        else:
            self._remove(number)

    # -- to the client ------------------------------------------------------------------------------------

    def _finish(self, call: _Call, result: dict[str, Any] | None) -> None:
        call.result, call.ended = result, True
        self._changed.set()

    def _remove(self, number: int) -> None:
        self._calls.pop(number, None)
        if not self._calls:
            self._idle.set()

    async def _send(self) -> None:
        """Send the newest frame of every request whenever the connection has room for it."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._changed.wait()
                self._changed.clear()
                for number, call in list(self._calls.items()):
                    await self._send_call(number, call)
                about = self._engine.about  # its reasons may grow
                if about != self._about:
                    self._about = about
                    await self.websocket.send(encode({"type": "about", "about": encode_about(about)}))

    async def _send_call(self, number: int, call: _Call) -> None:
        ended = call.ended
        if (frame := call.frame) is not None:
            call.frame = None
            message = {"type": "frame", "id": number, **encode_frame(frame, call.sent)}
            call.sent = frame.text
            await self.websocket.send(encode(message))
        if ended:
            if call.result is not None:
                kind = "error" if "error" in call.result else "ok"
                await self.websocket.send(encode({"type": kind, "id": number, **call.result}))
            self._remove(number)


def _internal_error() -> GenerationFailed:
    return GenerationFailed("The engine failed. The log of the engine server has the details.")
