"""A real Redis (or Valkey) server for tests, without persistence."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import free_port, wait_for

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")

MISSING = "Redis is not installed: apt install redis-server"
"""Why tests are skipped."""


class RedisServer:
    """A server on a free port of this machine. It holds its data in memory and loses it with ``stop``.

    Attributes:
        url: Its URL.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        assert PROGRAM is not None, MISSING
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._accepts)

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """Kill the server. Its data is lost, and connections break."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let the server stop responding. Connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the server respond again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Run a server in a temporary folder. The program must be installed; see ``PROGRAM``."""
    with tempfile.TemporaryDirectory(prefix="unwritten-redis-") as folder:
        server = RedisServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
