"""A real PostgreSQL server for tests, and a proxy in front of it that breaks connections."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .servers import free_port

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


class PostgresServer:
    """A PostgreSQL server on a free port of this machine, in a temporary folder.

    Attributes:
        port: Its port.
    """

    def __init__(self) -> None:
        self.port = free_port()
        # PostgreSQL refuses to run as root.
        self._user: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._folder = tempfile.mkdtemp(prefix="unwritten-pg-", dir="/tmp")
        if self._user:
            shutil.chown(self._folder, "postgres", "postgres")
        self._data = f"{self._folder}/data"
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count()
        options = ["-D", self._data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run(_binary("initdb"), *options)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, **self._user)

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            "shared_buffers": "16MB",
            "logging_collector": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with open(f"{self._folder}/log", "ab") as log:
            self._process = subprocess.Popen[bytes](
                [_binary("postgres"), "-D", self._data, *options],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                **self._user,
            )
        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < end, Path(f"{self._folder}/log").read_text()
                time.sleep(0.02)

    def stop(self, *, crash: bool = False) -> None:
        """Stop the server, and break all connections. With ``crash`` it has no time to finish anything."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            self._process.wait(30)
            self._process = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend all processes of the server: connections stay open, but nothing responds."""
        assert self._process is not None
        # Its child processes have groups of their own.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        processes = [self._process.pid, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def close(self) -> None:
        """Stop the server, and delete its files."""
        self.stop(crash=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(
        self, schema: str = "", *, database: str = "postgres", port: int | None = None, user: str = "postgres"
    ) -> str:
        """Return the URL of a database, or of a schema of it."""
        options = f"?options=-csearch_path%3D{schema}" if schema else ""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}{options}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Execute a statement as superuser, and return its rows."""
        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_schema(self) -> str:
        """Create an empty schema, and return its name. It is a world of its own, and much faster than a database."""
        name = f"world_{next(self._names)}"
        self.execute(f"CREATE SCHEMA {name}")
        return name


class Proxy:
    """A TCP proxy that can break the connections that go through it.

    Args:
        target: The port to which connections are forwarded.

    Attributes:
        port: Its own port.
        lose_reply_to: When a client sends this, the reply is lost and the connection is broken, once.
        is_open: False refuses new connections.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.lose_reply_to = b""
        self.is_open = True
        self.num_lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self.is_open:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                lost = threading.Event()
                threading.Thread(target=self._forward, args=(client, server, lost), daemon=True).start()
                threading.Thread(target=self._return, args=(server, client, lost), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.lose_reply_to and self.lose_reply_to in data:
                    self.lose_reply_to = b""
                    self.num_lost += 1
                    lost.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _return(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if lost.is_set():
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
        client.close()
        server.close()


def _binary(name: str) -> str:
    if not _BINARIES:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return str(_BINARIES[-1] / name)


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a server. Skips the test if PostgreSQL is not installed."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
