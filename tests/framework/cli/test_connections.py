"""Slow clients on real sockets: each attack here keeps a connection open that costs the server something."""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from tests.support.apps import BROWSER, LIVE, make_app, make_wiki
from tests.support.servers import AS_OWNER, OWNER_TOKEN, PATIENCE, free_port, served, wait_for
from tests.support.terminal import APP

from unwritten import App, Canvas
from unwritten.cli.connections import ConnectionLimits
from unwritten_engine import scripted

KEY = "/wiki/Lighthouse"
GET = b"GET /robots.txt HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let seconds pass as tenths of seconds."""
    for name, seconds in {
        "HEADER_TIMEOUT": 0.5,
        "BODY_TIMEOUT": 0.5,
        "SEND_TIMEOUT": 0.6,
        "_SWEEP_SECONDS": 0.1,
    }.items():
        monkeypatch.setattr(f"unwritten.cli.connections.{name}", seconds)
    # A busy machine may write a large page slowly, and its only visitor has left.
    monkeypatch.setattr("unwritten.generation.job_queue.GRACE_PERIOD", 2 * PATIENCE)


def make_echo(home: Path) -> App:
    """Return an app with a route that returns the length of a body, one that never reads it, and a long response."""
    app = make_wiki(home, scripted("Words."))

    @app.route("/echo", methods=["POST"])
    async def echo(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    @app.route("/long")
    async def long(request: Request) -> Response:
        return PlainTextResponse("x" * 2_000_000)

    return app


@contextlib.contextmanager
def limited(app: App, max_connections: int | None = None) -> Iterator[Callable[[], socket.socket]]:
    """Serve an app with limits. Yields a function that opens a connection whose buffers are small."""
    app.prepare()
    options = ConnectionLimits(app.site.metrics, max_connections=max_connections).uvicorn_options()
    with (
        served(app, timeout_keep_alive=30, send_buffer=16_384, **options) as address,
        contextlib.ExitStack() as connections,
    ):
        host, port = address.split(":")

        def connect() -> socket.socket:
            connection = connections.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(10)
            connection.connect((host, int(port)))
            return connection

        yield connect


def closes_after(connection: socket.socket) -> tuple[bytes, float]:
    """Return what the server sends until it closes the connection, and after how many seconds that is."""
    started, received = time.monotonic(), b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received, time.monotonic() - started


def succeeds(connection: socket.socket) -> bool:
    """Return True if a whole response arrives, whose status is 200."""
    received = b""
    while not received.endswith(b"Disallow: /*&_s=\n"):
        data = connection.recv(65536)
        if not data:
            return False
        received += data
    return received.startswith(b"HTTP/1.1 200 ")


def closed(app: App) -> dict[str, int]:
    return dict(app.site.metrics.closed_connections)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost: localhost\r\nx: "])
def test_a_header_that_is_never_complete_closes_the_connection(tmp_path: Path, sent: bytes) -> None:
    app = make_echo(tmp_path)
    with limited(app) as connect:
        connection = connect()
        connection.sendall(sent)
        received, seconds = closes_after(connection)
        assert received.startswith(b"HTTP/1.1 408 ") and 0.3 < seconds < PATIENCE
        assert closed(app) == {"header": 1} and app.site.metrics.connections == 0


def test_a_header_that_drips_gains_no_time(tmp_path: Path) -> None:
    app = make_echo(tmp_path)
    with limited(app) as connect:
        connection, started = connect(), time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        with pytest.raises(OSError):
            while time.monotonic() - started < PATIENCE:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert closed(app) == {"header": 1}


def test_the_second_header_of_a_connection_has_the_same_limit(tmp_path: Path) -> None:
    app = make_echo(tmp_path)
    with limited(app) as connect:
        connection = connect()
        connection.sendall(GET)
        assert succeeds(connection)
        time.sleep(0.8)  # an idle connection is closed by uvicorn, later
        connection.sendall(GET)
        assert succeeds(connection)
        connection.sendall(GET[:-3])
        received, _ = closes_after(connection)
        assert b"HTTP/1.1 408 " in received and closed(app) == {"header": 1}


def test_a_body_that_drips_closes_the_connection_and_a_steady_one_does_not(tmp_path: Path) -> None:
    app = make_echo(tmp_path)
    with limited(app) as connect:
        slow, steady = connect(), connect()
        slow.sendall(POST % 100)
        steady.sendall(POST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") % 3000)
        for _ in range(15):  # 2,000 bytes per second
            steady.sendall(b"x" * 200)
            with contextlib.suppress(OSError):
                slow.sendall(b"x")
            time.sleep(0.1)
        assert closes_after(steady)[0].endswith(b"3000")
        assert closes_after(slow)[0] == b"" and closed(app) == {"body": 1}


def test_the_rest_of_a_body_that_nobody_reads_must_come_in_time(tmp_path: Path) -> None:
    app = make_echo(tmp_path)
    with limited(app) as connect:
        connection = connect()
        connection.sendall(POST.replace(b"/echo", b"/wiki/A") % 1_000_000)
        with pytest.raises(OSError):
            for _ in range(60):
                connection.sendall(b"x" * 1000)
                time.sleep(0.05)
        assert closed(app) == {"body": 1}


def test_a_response_that_is_not_read_is_cut_off_and_a_slow_reader_gets_all(tmp_path: Path) -> None:
    app = make_echo(tmp_path)
    with limited(app) as connect:
        never, slow = connect(), connect()
        for connection in (never, slow):
            connection.sendall(b"GET /long HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        received = 0
        for _ in range(15):
            received += len(slow.recv(10_000))
            time.sleep(0.1)
        received += len(closes_after(slow)[0])
        assert received > 2_000_000
        wait_for(lambda: closed(app) == {"send": 1} and app.site.metrics.connections == 0)


def handshake(connection: socket.socket) -> None:
    """Open a WebSocket, and read nothing after the handshake."""
    key = base64.b64encode(b"x" * 16).decode()
    connection.sendall(
        f"GET {LIVE} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
    )
    assert connection.recv(20) == b"HTTP/1.1 101 Switchi"


def message(text: str) -> bytes:
    """Return a text message of a browser, with a mask of zeros."""
    data = text.encode()
    assert len(data) < 126
    return bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data


def watch_and_never_read(app: App, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"GET " + KEY.encode() + b" HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\n\r\n")
    assert connection.recv(15) == b"HTTP/1.1 200 OK"
    wait_for(lambda: app.store.get(KEY))
    connection.close()
    silent = connect()
    handshake(silent)
    silent.sendall(message(f'{{"type": "watch", "page": "{KEY}"}}'))
    wait_for(lambda: closed(app).get("send"))


def make_big(home: Path) -> App:
    app = make_app(home, scripted(["".join(f"A very long word {i * i}. " for i in range(10_000))]))

    @app.page("/wiki/{title}")
    def article(title: str) -> Canvas:
        return Canvas(f"A very long article about {title}.", canvases=48)

    return app


def test_a_socket_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    app = make_big(tmp_path)
    with limited(app) as connect:
        watch_and_never_read(app, connect)
        wait_for(lambda: not app.site.sockets and not app.site.metrics.connections)
        assert closed(app)["send"] == 1


def test_without_these_limits_the_app_itself_cuts_a_socket_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.web.live_socket.SEND_TIMEOUT", 0.5)
    monkeypatch.setattr("unwritten.web.live_socket.CLOSE_TIMEOUT", 0.1)
    app = make_big(tmp_path)
    with served(app, send_buffer=16_384) as address, contextlib.ExitStack() as connections:
        host, port = address.split(":")

        def connect() -> socket.socket:
            connection = connections.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((host, int(port)))
            return connection

        watch_and_never_read(app, connect)
        wait_for(lambda: not app.site.sockets)
        assert closed(app)["send"] == 1
        # The descriptor is closed as well.
        server = {f"{host}:{port}"}
        wait_for(lambda: not (server & established(int(port))))


def established(port: int) -> set[str]:
    """Return the local addresses of established connections of a port of this machine."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if int(local.partition(":")[2], 16) == port and state == "01":
            found.add(f"127.0.0.1:{port}")
    return found


def test_idle_connections_make_room_for_new_ones(tmp_path: Path) -> None:
    app = make_echo(tmp_path)
    with limited(app, max_connections=5) as connect:
        half_open = [connect() for _ in range(20)]
        busy = connect()
        busy.sendall(GET)
        assert succeeds(busy)
        assert app.site.metrics.connections <= 5 and closed(app)["idle"] >= 15
        assert half_open


def test_connections_are_refused_while_all_others_are_busy(tmp_path: Path) -> None:
    app = make_echo(tmp_path)
    with limited(app, max_connections=3) as connect:
        for _ in range(3):
            connect().sendall(POST % 10)
        wait_for(lambda: app.site.metrics.connections == 3)
        time.sleep(0.05)
        received, _ = closes_after(connect())
        assert received.startswith(b"HTTP/1.1 503 ") or received == b""
        assert app.site.metrics.refused["connections"] == 1
        wait_for(lambda: app.site.metrics.connections == 0)  # after the time-out of their bodies
        connection = connect()
        connection.sendall(GET)
        assert succeeds(connection)


def test_connections_of_one_client_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.cli.connections.MAX_CONNECTIONS_PER_CLIENT", 3)
    app = make_echo(tmp_path)
    with limited(app) as connect:
        connections = [connect() for _ in range(5)]
        wait_for(lambda: app.site.metrics.connections == 5)  # this machine has no limit
        del connections
    monkeypatch.setattr("unwritten.cli.connections.is_loopback", lambda host: False)
    with limited(app) as connect:
        for _ in range(3):
            connect().sendall(b"GET")
        time.sleep(0.1)
        closes_after(connect())
        assert app.site.metrics.refused["client_connections"] == 1
        wait_for(lambda: app.site.metrics.connections == 0)  # they are counted until they are closed
        connection = connect()
        connection.sendall(GET)
        assert succeeds(connection)


def test_a_server_with_few_descriptors_survives_more_half_open_requests_than_it_may_open(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    port, log = free_port(), tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "unwritten", "run", "app.py", "--port", str(port), "--no-reload"],
            cwd=tmp_path,
            stdout=out,
            stderr=out,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "UNWRITTEN_OWNER_TOKEN": OWNER_TOKEN},
        )
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/wiki/Tea", headers={**BROWSER, **AS_OWNER})

        def is_up() -> bool:
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
            return False

        wait_for(is_up)
        with contextlib.ExitStack() as connections:
            for number in range(600):
                connection = connections.enter_context(socket.create_connection(("127.0.0.1", port)))
                with contextlib.suppress(OSError):
                    connection.sendall(b"GET / HTTP/1.1\r\nx: ")
                if number % 100 == 99:
                    assert is_up()
        assert len(log.read_bytes()) < 20_000, log.read_text()[:5000]
    finally:
        server.terminate()
        server.wait(PATIENCE)
