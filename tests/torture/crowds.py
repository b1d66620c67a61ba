"""Hostile crowds: slow clients, sockets that never read, floods, and forms that are far too large."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from tests.torture.app_server import ATTACKER, AppServer, new_address
from tests.torture.figures import Figures
from tests.torture.hostile_server import HostileServer
from tests.torture.probe import Prober
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

HALF_OPEN = 1_100


def _still_open(sockets: list[socket.socket]) -> int:
    """Return how many connections the server has not closed."""
    closed = 0
    poller = select.poll()
    for sock in sockets:
        poller.register(sock, select.POLLRDHUP)
    closed = sum(1 for _, event in poller.poll(0) if event & (select.POLLRDHUP | select.POLLHUP | select.POLLERR))
    return len(sockets) - closed


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def slow_clients(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Open 1,100 requests and do not finish them; then forms whose body never comes. Others must not notice."""
    server.whole("/")
    log = server.log.stat().st_size
    sockets: list[socket.socket] = []
    wait = 1.5 if short else 45
    with Prober(server.port, "/", server.pid) as prober:
        for number in range(HALF_OPEN):
            with contextlib.suppress(OSError):
                sockets.append(server.raw(b"GET / HTTP/1.1\r\nHost: torture\r\nX-%d: " % number))
        time.sleep(wait)
        half_open = _still_open(sockets)
        _close(sockets)
    bodies: list[socket.socket] = []
    head = b"POST /board/x/add HTTP/1.1\r\nHost: torture\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with Prober(server.port, "/", server.pid) as bodies_prober:
        for _ in range(100 if short else HALF_OPEN):
            with contextlib.suppress(OSError):
                bodies.append(server.raw(head + b"Content-Length: 1000\r\n\r\ntext="))
        time.sleep(wait)
        slow_bodies = _still_open(bodies)
        _close(bodies)
    figures = {
        "half_open_failures": prober.failures + bodies_prober.failures,
        "half_open_stall_ms": max(prober.longest_ms, bodies_prober.longest_ms),
        "half_open_log_kb": (server.log.stat().st_size - log) / 1000,
    }
    return figures if short else {**figures, "half_open_left": half_open, "slow_bodies_left": slow_bodies}


async def _subscribe(server: AppServer, key: str, ip: str, received: list[int], seconds: float) -> None:
    """Follow a page as a browser does, and note the lengths of its messages."""
    address = f"ws://127.0.0.1:{server.port}/_unwritten/live"
    with contextlib.suppress(OSError, WebSocketException, TimeoutError):
        async with (
            asyncio.timeout(seconds),
            connect(address, local_addr=(ip, 0), max_size=None, open_timeout=30) as live,
        ):
            await live.send(json.dumps({"type": "watch", "page": key, "seen": {}}))
            async for text in live:
                received.append(len(text))


def _mute_subscriber(server: AppServer, key: str) -> socket.socket:
    """Return a live socket that follows a page and never reads."""
    sock = server.raw(
        b"GET /_unwritten/live HTTP/1.1\r\nHost: torture\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        new_address(),
        buffer=2048,
    )
    sock.recv(1000)
    text = json.dumps({"type": "watch", "page": key, "seen": {}}).encode()
    sock.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
    return sock


def subscribers(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Let 300 tabs follow one page while it is written, of which three never read. Measure the shells of others."""
    count, seconds = (100, 8.0) if short else (300, 20.0)
    server.whole("/")
    key = "/markdown/growing"
    received: list[list[int]] = [[] for _ in range(count - 3)]
    mute: list[socket.socket] = []

    async def crowd() -> None:
        await asyncio.gather(*(_subscribe(server, key, new_address(), got, seconds) for got in received))

    with contextlib.closing(server.connection(new_address())) as starter:
        starter.request("GET", key, headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        starter.getresponse().read()
        for _ in range(3):
            mute.append(_mute_subscriber(server, key))
        with Prober(server.port, "/short/shell-{n}", server.pid) as prober:
            asyncio.run(crowd())
    if not short:
        time.sleep(30)
    left = server.num_open(mute)
    _close(mute)
    figures = {
        "subscribers": count,
        "subscribers_without_frames": sum(not got for got in received),
        "subscriber_mb": sum(map(sum, received)) / 1e6 / len(received),
        "shells": prober.requests,
        "shell_p99_ms": prober.p99 * 1000,
    }
    return figures if short else {**figures, "mute_sockets_left": left}


BAD_MESSAGES = [
    "", "{", "null", "[]", "7", '"a"', "{}", '{"type":"watch"}', '{"type":7,"page":"/"}', '{"type":"watch","page":7}',
    '{"type":"watch","page":"//evil.example"}', '{"type":"x","page":"/"}', '{"type":"watch","page":"/","seen":[]}',
    '{"type":"watch","page":"/","seen":{"a":1e999}}', '{"type":"watch","page":"/","seen":{"a":-1}}',
    '{"type":"stop","page":"/"}', '{"type":"view","page":"/","links":[[]]}',
    '{"type":"view","page":"/","links":["//evil.example","/%5cevil"]}', '{"type":"follow","page":"/\\u0000"}',
    '{"type":"follow","page":"/\\ud800"}', '{"type":"hide","page":"/' + "a" * 7000 + '"}', "[" * 8000,
    '{"type":"watch","page":"/","seen":' + "9" * 8000 + "}", "a" * 9000, '{"type":"view","page":"/","links":null}',
]  # fmt: skip


def bad_messages(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Send invalid messages over sockets, and open sockets without end. The server refuses them and goes on."""
    server.whole("/")
    tracebacks = server.log.read_text(errors="replace").count("Traceback")

    def send(text: str) -> None:
        with contextlib.suppress(OSError, WebSocketException, TimeoutError), server.live_socket(new_address()) as live:
            live.send(text)
            live.send(b"\x00\xff" + text.encode()[:50])
            live.recv(1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, BAD_MESSAGES))
    sockets = []
    with Prober(server.port, "/", server.pid) as prober:
        for _ in range(300):
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                sockets.append(server.live_socket(ATTACKER))
        refused = 0
        try:
            with server.live_socket(new_address()) as live:
                live.send('{"type": "watch", "page": "/"}')
                refused = "page" not in str(live.recv(5))
        except (OSError, WebSocketException, TimeoutError):
            refused = 1
        for live in sockets:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                live.socket.close()
    return {
        "bad_messages_tracebacks": server.log.read_text(errors="replace").count("Traceback") - tracebacks,
        "flood_refuses_others": refused,
        "flood_failures": prober.failures,
        "flood_stall_ms": prober.longest_ms,
    }


def large_forms(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Submit forms that are far too large. They are refused, and cost little memory."""
    before = server.memory_mb
    wrong = 0
    multipart = b"--x\r\nContent-Disposition: form-data; name=text\r\n\r\n" + b"a" * 20_000_000 + b"\r\n--x--\r\n"
    bodies = [
        (b"text=" + b"a" * 20_000_000, "application/x-www-form-urlencoded"),
        (b"a=&" * 1_000_000, "application/x-www-form-urlencoded"),
        (multipart, "multipart/form-data; boundary=x"),
        (b"{" + b"[" * 5_000_000, "application/json"),
    ]
    for path in ("/board/x/add", "/_unwritten/write", "/_unwritten/edit", "/_unwritten/box/state"):
        for body, kind in bodies:
            with contextlib.suppress(OSError):  # the server may close before the form has been sent
                reply = server.request("POST", path, new_address(), {"Content-Type": kind}, body, 20)
                wrong += not 400 <= reply.status < 500
    return {"large_forms_accepted": wrong, "large_forms_memory_mb": server.peak_mb - before}


def live_updates(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Let one visitor follow a page whose function takes long. Measure how long others wait for their update."""
    slow = 4 if short else 9
    server.whole("/board/fast", "127.0.0.1")
    server.whole(f"/slow/{slow}/a", "127.0.0.1")
    with server.live_socket() as first, server.live_socket(new_address()) as second:
        first.send(json.dumps({"type": "follow", "page": f"/slow/{slow}/a", "seen": {}}))
        time.sleep(0.2)
        second.send(json.dumps({"type": "follow", "page": "/board/fast", "seen": {}}))
        time.sleep(0.2)
        server.add_note("first note", "fast")
        time.sleep(0.1)
        server.add_note("second note", "fast")
        begun = time.monotonic()
        with contextlib.suppress(TimeoutError, WebSocketException):
            while time.monotonic() - begun < slow * 3:
                if "second note" in str(second.recv(slow * 3)):
                    return {"update_beside_slow_page_s": time.monotonic() - begun}
    return {"update_beside_slow_page_s": slow * 3.0}
