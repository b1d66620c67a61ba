"""The engine that uses an engine server: ``open_engine("ws://host:8090")``.

All requests of a process share one WebSocket. It is opened on the first request, and again after the server was
restarted. A second, blocking connection is used for ``check``, which cannot wait in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection as SyncConnection
from websockets.sync.client import connect as connect_sync

from ..engine import About, Progress
from ..errors import BadOption, EngineClosed, EngineError, GenerationFailed, RequestRefused, UnknownEngine
from ..frames import Frame, Priority, Prompt, Request
from ..options import Option, check_options
from .protocol import (
    MAX_FRAME_BYTES,
    MAX_IMAGE_BYTES,
    SUBPROTOCOL,
    TOKEN_VARIABLE,
    InvalidMessage,
    decode,
    decode_about,
    decode_error,
    decode_frame,
    encode,
    encode_prompt,
    encode_request,
)

OPTIONS: Final = (
    Option("connect_timeout", 5.0, "number", "seconds until a connection attempt fails", 0.1, 3600),
    Option("wait_timeout", 30.0, "number", "seconds that a request waits for a server that is away", 0, 3600),
)
"""Options of the engine, for ``open_engine``."""

CHECK_TIMEOUT: Final = 0.2
"""Seconds that ``check`` may block the event loop. Without an answer the request counts as possible."""

START_CHECK_TIMEOUT: Final = 5.0
"""The same before the first request, when an app checks all its schemas and nothing else runs."""

_AWAY_SECONDS: Final = 5.0
"""Seconds for which ``check`` does not connect again after a failure."""

_OWNER: Final = "The engine of an engine server"


class _Away(Exception):
    """The server cannot be reached, or the connection was lost."""


def open_remote(address: str, *, progress: Progress | None = None, **options: Any) -> RemoteEngine:
    """Connect to an engine server. Blocks; call it in a thread.

    Args:
        address: such as ``ws://127.0.0.1:8090``, or ``wss://…`` behind a proxy with TLS.
        progress: called before and after.
        options: see ``OPTIONS``.

    Raises:
        UnknownEngine: no engine server answers there.
        BadOption: the token is missing or wrong, or an option is invalid.
        UnknownOption: an unknown option.
    """
    settings = check_options(options, OPTIONS, _OWNER)
    report = progress or (lambda share, step: None)
    report(0.0, f"Connecting to the engine server {address}")
    server = _Address(address, os.environ.get(TOKEN_VARIABLE, ""), settings["connect_timeout"])
    checker = _Checker(server)
    try:
        about = checker.open()
    except _Away as error:
        raise UnknownEngine(
            f"The engine server {address} cannot be reached ({error}). Start it with: unwritten engine --port PORT"
        ) from None
    report(1.0, f"{about.model} is ready")
    return RemoteEngine(server, checker, about, settings["wait_timeout"])


class _Address:
    """The server's address, and how to connect to it.

    Raises:
        UnknownEngine: the address is not valid.
    """

    def __init__(self, url: str, token: str, timeout: float) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host:
            raise UnknownEngine(f"{url!r} is not the address of an engine server. Example: ws://127.0.0.1:8090")
        self.url = url
        self.arguments: dict[str, Any] = {
            "subprotocols": [SUBPROTOCOL],
            "additional_headers": {"Authorization": f"Bearer {token}"} if token else {},
            "compression": None,
            "max_size": MAX_FRAME_BYTES,
            "open_timeout": timeout,
            "proxy": None if _is_loopback(host) else True,
        }

    def describe(self, message: str | bytes) -> About:
        """Parse the server's first message."""
        values = decode(message)
        return decode_about(values.get("about"), [f"It is shared by the engine server {self.url}."])

    def explain(self, error: Exception) -> Exception:
        """Return the error for a failed connection: ``_Away`` if another attempt may succeed."""
        if isinstance(error, InvalidStatus) and error.response.status_code == 401:
            return BadOption(
                f"The engine server {self.url} refuses the token. Set {TOKEN_VARIABLE} to the server's value."
            )
        if isinstance(error, InvalidStatus) and error.response.status_code >= 500:
            return _Away(f"it answers with status {error.response.status_code}")  # a proxy in front of a stopped server
        if isinstance(error, InvalidHandshake | InvalidURI | InvalidMessage):
            return UnknownEngine(f"{self.url} is not an engine server of this version ({error}).")
        if isinstance(error, ConnectionClosed):
            return _Away("it closed the connection")
        return _Away(str(error) or type(error).__name__)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RemoteEngine:
    """An engine in another process. Created by ``open_remote``."""

    def __init__(self, server: _Address, checker: _Checker, about: About, wait_timeout: float) -> None:
        self._server = server
        self._checker = checker
        self._about = about
        self._wait_timeout = wait_timeout
        self._calls: set[_Call] = set()
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._closed = False

    @property
    def about(self) -> About:
        """See ``Engine.about``. It describes the engine of the server."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``.

        If the server is away, the request waits for it. If the connection is lost before text was shown that no later
        frame may change, the request is sent once more.

        Raises:
            GenerationFailed: also if the connection was lost, or the server was away for too long.
        """
        _check_size(request)
        call = _Call({"type": "generate", "request": encode_request(request)}, request)
        opening = len(request.prompt.opening) if self._about.abilities.prefill else 0
        shown, repeated = 0, False
        self._calls.add(call)
        try:
            while True:
                connection = await self._connected()
                connection.start(call)
                try:
                    async with contextlib.aclosing(call.frames()) as frames:
                        async for frame in frames:
                            shown = max(shown, frame.fixed)
                            yield frame
                            if frame.done:
                                return
                except _Away as error:
                    if self._closed:
                        raise EngineClosed("The engine was closed during the generation.") from None
                    if repeated or shown > opening:
                        raise GenerationFailed(
                            f"The connection to the engine server was lost during the generation ({error}). Try again."
                        ) from None
                    repeated = True
                finally:
                    connection.end(call)
        finally:
            self._calls.discard(call)

    def check(self, request: Request) -> None:
        """See ``Engine.check``. It blocks until the server has answered, at most ``CHECK_TIMEOUT``."""
        _check_size(request)
        if self._closed:
            return
        timeout = START_CHECK_TIMEOUT if self._connection is None else CHECK_TIMEOUT
        answer = self._checker.ask({"type": "check", "request": encode_request(request)}, timeout)
        if answer is not None and answer.get("type") == "error":
            raise decode_error(answer)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        for call in self._calls:
            if call.request is request:
                call.promote()

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """See ``Engine.warm``."""
        with contextlib.suppress(EngineError, _Away):
            connection = await self._connected()
            call = _Call({"type": "warm", "prompts": [encode_prompt(prompt) for prompt in prompts]})
            connection.start(call)
            try:
                await call.wait()
            finally:
                connection.end(call)

    async def close(self) -> None:
        """Disconnect. The server continues. Running generations raise ``EngineClosed``."""
        if self._closed:
            return
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()
        await asyncio.to_thread(self._checker.close)

    async def _connected(self) -> _Connection:
        """Return the connection. If there is none, connect, or wait until another request has connected.

        Raises:
            EngineClosed: the engine is closed, or was closed meanwhile.
            GenerationFailed: the server was away for too long, or does not accept this client.
        """
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="connecting to the engine server")
        connecting = self._connecting
        await asyncio.wait([connecting])  # not cancelled with one of the requests that wait for it
        if self._connecting is connecting:
            self._connecting = None
        if self._closed or connecting.cancelled():
            raise EngineClosed("The engine was closed before the generation started.")
        try:
            return connecting.result()
        except (_Away, EngineError) as error:
            raise GenerationFailed(f"The engine server cannot be reached ({error}). Is it still running?") from None

    async def _connect(self) -> _Connection:
        deadline = time.monotonic() + self._wait_timeout
        delay = 0.05
        while True:
            try:
                self._connection = await _Connection.open(self._server, self._set_about)
                return self._connection
            except _Away:
                if time.monotonic() + delay > deadline:
                    raise
            await asyncio.sleep(delay)
            delay = min(2 * delay, 1.0)

    def _set_about(self, about: About) -> None:
        self._about = about


def _check_size(request: Request) -> None:
    """Raise ``RequestRefused`` if a request is too large for one message, which would end the connection."""
    size = sum(map(len, request.prompt.images))
    if size > MAX_IMAGE_BYTES:
        raise RequestRefused(
            f"The images of this text have {size / 1e6:.1f} MB together. An engine server accepts "
            f"{MAX_IMAGE_BYTES / 1e6:.0f} MB: use fewer or smaller ones."
        )


class _Call:
    """A message to the server and what arrives in response."""

    def __init__(self, message: dict[str, Any], request: Request | None = None) -> None:
        self.message = message
        self.request = request
        self.number = 0
        self.ended = False
        self._text = ""
        self._frame: Frame | None = None
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._send: Callable[[Mapping[str, Any]], None] | None = None

    def begin(self, number: int, send: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
        """Begin, or begin again on another connection. Return the message."""
        self.number, self._send = number, send
        self.ended, self._text, self._frame, self._error = False, "", None, None
        self._changed.clear()
        return {**self.message, "id": number}

    def promote(self) -> None:
        """Raise the priority, now and if the message is sent again."""
        self.message["request"]["priority"] = int(Priority.CLICK)
        if self._send is not None and not self.ended:
            self._send({"type": "promote", "id": self.number})

    def receive(self, message: Mapping[str, Any]) -> None:
        """Take a message with this call's number."""
        if message["type"] == "frame":
            self._frame = decode_frame(message, self._text)
            self._text = self._frame.text
            self.ended = self._frame.done
        else:
            self.ended = True
            if message["type"] == "error":
                error = decode_error(message)
                # A server that stops may be restarted: the request may be sent again.
                self._error = _Away(str(error)) if isinstance(error, EngineClosed) else error
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """End because the connection was lost."""
        if not self.ended:
            self.ended, self._error = True, error
            self._changed.set()

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Yield the newest frame whenever there is one, up to the last.

        Raises:
            EngineError: the request failed.
            _Away: the connection was lost.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._frame is not None:
                frame, self._frame = self._frame, None
                if self._error is not None:
                    self._changed.set()
                yield frame
                if frame.done:
                    return
            elif self._error is not None:
                raise self._error

    async def wait(self) -> None:
        """Wait for the answer. Raises as ``frames``."""
        await self._changed.wait()
        if self._error is not None:
            raise self._error


class _Connection:
    """An open connection: sends the messages of calls, and passes on what arrives."""

    def __init__(self, websocket: ClientConnection, server: _Address, on_about: Callable[[About], None]) -> None:
        self.is_open = True
        self._websocket = websocket
        self._server = server
        self._on_about = on_about
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._outbox: deque[Mapping[str, Any]] = deque()
        self._has_outgoing = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._receive(), name="engine server messages"),
            asyncio.create_task(self._send(), name="engine server requests"),
        ]

    @classmethod
    async def open(cls, server: _Address, on_about: Callable[[About], None]) -> _Connection:
        """Connect.

        Raises:
            _Away: the server cannot be reached.
            UnknownEngine, BadOption: it is no engine server, or refuses the token.
        """
        try:
            websocket = await connect_async(server.url, **server.arguments)
            on_about(server.describe(await websocket.recv()))
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, InvalidMessage, ConnectionClosed) as error:
            raise server.explain(error) from None
        return cls(websocket, server, on_about)

    def start(self, call: _Call) -> None:
        """Send the message of a call. If the connection was lost, the call ends at once."""
        number = next(self._numbers)
        message = call.begin(number, self._post)
        if self.is_open:
            self._calls[number] = call
            self._post(message)
        else:
            call.fail(_Away("the connection was closed"))

    def end(self, call: _Call) -> None:
        """Cancel a call, unless it has ended."""
        if self._calls.pop(call.number, None) is call and not call.ended:
            self._post({"type": "cancel", "id": call.number})

    async def close(self) -> None:
        """Disconnect."""
        await self._websocket.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _post(self, message: Mapping[str, Any]) -> None:
        self._outbox.append(message)
        self._has_outgoing.set()

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._has_outgoing.wait()
                self._has_outgoing.clear()
                while self._outbox:
                    await self._websocket.send(encode(self._outbox.popleft()))

    async def _receive(self) -> None:
        lost = "the server closed the connection"
        try:
            async for text in self._websocket:
                self._dispatch(decode(text))
        except ConnectionClosed:
            lost = "the connection broke"
        except InvalidMessage as error:
            lost = str(error)
        finally:
            self.is_open = False
            for call in self._calls.values():
                call.fail(_Away(lost))
            self._tasks[1].cancel()
            await self._websocket.close()

    def _dispatch(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "about":
            self._on_about(self._server.describe(encode(message)))
            return
        number = message.get("id")
        call = self._calls.get(number) if isinstance(number, int) else None
        if call is not None:  # otherwise it was cancelled
            call.receive(message)
            if isinstance(call_error := message.get("error"), str) and call_error == EngineClosed.__name__:
                self.is_open = False  # the server is stopping: new requests wait for the next one


class _Checker:
    """A blocking connection for ``check``, which is called in the event loop and cannot wait in it."""

    def __init__(self, server: _Address) -> None:
        self._server = server
        self._connection: SyncConnection | None = None
        self._lock = threading.Lock()
        self._failed_at = float("-inf")

    def open(self) -> About:
        """Connect, and return the engine's description.

        Raises:
            _Away, UnknownEngine, BadOption: see ``_Connection.open``.
        """
        return self._connect(self._server.arguments["open_timeout"])

    def ask(self, message: Mapping[str, Any], timeout: float) -> dict[str, Any] | None:
        """Return the server's answer; None if it gives none within ``timeout`` seconds."""
        with self._lock:
            if time.monotonic() - self._failed_at < _AWAY_SECONDS:
                return None
            for _ in range(2):  # the connection may have been lost since the last time
                connected = self._connection is not None
                try:
                    if self._connection is None:
                        self._connect(timeout)
                    assert self._connection is not None
                    self._connection.send(encode({**message, "id": 0}))
                    while (answer := decode(self._connection.recv(timeout)))["type"] == "about":
                        continue
                    return answer
                except (_Away, EngineError, OSError, TimeoutError, ConnectionClosed, InvalidMessage):
                    self._drop()
                    if not connected:
                        break
            self._failed_at = time.monotonic()
            return None

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _drop(self) -> None:
        """Forget the connection, and close it without waiting for the server."""
        if self._connection is not None:
            threading.Thread(target=self._connection.close, daemon=True, name="closing a connection").start()
            self._connection = None

    def _connect(self, timeout: float) -> About:
        arguments = {**self._server.arguments, "open_timeout": timeout, "close_timeout": 1.0}
        try:
            # Entered, and left by close(): newer versions of websockets warn about a connection that is not.
            connection = self._connection = connect_sync(self._server.url, **arguments).__enter__()
            return self._server.describe(connection.recv(timeout))
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, InvalidMessage, ConnectionClosed) as error:
            self._drop()
            raise self._server.explain(error) from None
