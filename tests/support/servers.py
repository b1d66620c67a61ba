"""Real servers in threads of the test process."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

OWNER_TOKEN = "the token of the owner"
"""What tests set as ``UNWRITTEN_OWNER_TOKEN`` for servers in other processes."""

AS_OWNER = {"authorization": f"Bearer {OWNER_TOKEN}"}
"""The header of the owner's requests to such a server."""


PATIENCE = 60.0
"""Seconds after which a test gives up. A busy machine may take long for what an idle one does at once."""


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a function returns something true. Fail after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition was not met within {seconds:g} s"
        time.sleep(0.005)


def free_port() -> int:
    """Return a port on which nothing listens. No connection gets it meanwhile: Linux gives them ports from 32768 on."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class ServerThread:
    """A uvicorn server on a free port of this machine, in a thread.

    Args:
        app: The ASGI app.
        send_buffer: Bytes that the system holds for each client that does not read. 0: up to several megabytes.
        options: Options of ``uvicorn.Config``.

    Attributes:
        address: ``127.0.0.1:PORT``.
    """

    def __init__(self, app: ASGIApp, *, send_buffer: int = 0, **options: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        if send_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, access_log=False, **options))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()

    def wait_until_started(self) -> None:
        """Wait until the app's lifespan has started."""
        wait_for(lambda: self._server.started)

    def close(self, *, force: bool = False) -> None:
        """Stop the server. With ``force`` it does not wait for open requests."""
        self._server.should_exit = True
        self._server.force_exit = force
        self._thread.join(PATIENCE)
        self._socket.close()
        assert not self._thread.is_alive(), "the server did not stop"


class OwnerConnections:
    """Makes all connections of a real server look like those of a test client, which are the owner's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["server"] = "testserver", 80
        await self._app(scope, receive, send)


@contextlib.contextmanager
def served(app: ASGIApp, *, as_owner: bool = True, **options: Any) -> Iterator[str]:
    """Serve an app; see ``ServerThread``. Yields ``127.0.0.1:PORT``. With ``as_owner`` every client is its owner."""
    options = {"log_level": "error", "ws": "websockets-sansio", **options}
    server = ServerThread(OwnerConnections(app) if as_owner else app, **options)
    try:
        server.wait_until_started()
        yield server.address
    finally:
        server.close()
