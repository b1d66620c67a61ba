"""An engine server in a thread of the test process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

from tests.support.servers import PATIENCE

from unwritten_engine import Engine
from unwritten_engine.remote.server import EngineServer


class EngineServerThread:
    """An engine server on a port of this machine, with an event loop of its own.

    Args:
        engine: The engine that it serves.
        token: What clients must send.
        port: The port. 0: a free one.

    Attributes:
        url: Its address, ``ws://127.0.0.1:PORT``.
        server: The server.
    """

    def __init__(self, engine: Engine, token: str = "", port: int = 0) -> None:
        sock = socket.create_server(("127.0.0.1", port))
        self.port = int(sock.getsockname()[1])
        self.url = f"ws://127.0.0.1:{self.port}"
        self.server = EngineServer(engine, token)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._submit(self.server.start(sock)).result(PATIENCE)

    def close(self, drain_seconds: float = 0.0) -> None:
        """Stop the server. The engine stays open."""
        self._submit(self.server.close(drain_seconds)).result(PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    def _submit(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)
