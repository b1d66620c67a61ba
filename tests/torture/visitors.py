"""Hostile visitors: slow ones, many at once, malformed requests, and attempts to read or do what is not theirs."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import random
import re
import select
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.support.hostile import ADDRESSES
from tests.torture.app import SECRET
from tests.torture.app_server import AppServer, app_server, new_address
from tests.torture.figures import Figures
from tests.torture.hostile_server import HostileServer
from tests.torture.probe import Prober
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

HALF_OPEN = 1_100
ATTACKER = "127.66.6.6"


def _raw(server: AppServer, data: bytes, ip: str = ATTACKER, buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(5)
    sock.bind((ip, 0))
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(data)
    return sock


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
                sockets.append(_raw(server, b"GET / HTTP/1.1\r\nHost: torture\r\nX-%d: " % number))
        time.sleep(wait)
        half_open = _still_open(sockets)
        _close(sockets)
    bodies: list[socket.socket] = []
    head = b"POST /board/x/add HTTP/1.1\r\nHost: torture\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with Prober(server.port, "/", server.pid) as bodies_prober:
        for _ in range(100 if short else HALF_OPEN):
            with contextlib.suppress(OSError):
                bodies.append(_raw(server, head + b"Content-Length: 1000\r\n\r\ntext="))
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
        async with asyncio.timeout(seconds), connect(address, local_addr=(ip, 0), max_size=None, open_timeout=30) as live:
            await live.send(json.dumps({"type": "watch", "page": key, "seen": {}}))
            async for text in live:
                received.append(len(text))


def _mute_subscriber(server: AppServer, key: str) -> socket.socket:
    """Return a live socket that follows a page and never reads."""
    sock = _raw(
        server,
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
    left = _still_open(mute)
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
    '{"type":"watch","page":"/","seen":{"a":1e999}}', '{"type":"watch","page":"/","seen":{"a":-1}}', '{"type":"stop","page":"/"}',
    '{"type":"view","page":"/","links":[[]]}', '{"type":"view","page":"/","links":["//evil.example","/%5cevil"]}',
    '{"type":"follow","page":"/\\u0000"}', '{"type":"follow","page":"/\\ud800"}', '{"type":"hide","page":"/' + "a" * 7000 + '"}',
    "[" * 8000, '{"type":"watch","page":"/","seen":' + "9" * 8000 + "}", "a" * 9000, '{"type":"view","page":"/","links":null}',
]  # fmt: skip


def bad_messages(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Send invalid messages over sockets, and open sockets without end. The server refuses them and goes on."""
    server.whole("/")
    tracebacks = server.log.read_text(errors="replace").count("Traceback")
    for text in BAD_MESSAGES:
        with contextlib.suppress(OSError, WebSocketException, TimeoutError), server.socket(new_address()) as live:
            live.send(text)
            live.send(b"\x00\xff" + text.encode()[:50])
            live.recv(1)
    sockets = []
    with Prober(server.port, "/", server.pid) as prober:
        for _ in range(300):
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                sockets.append(server.socket(ATTACKER))
        refused = 0
        try:
            with server.socket(new_address()) as live:
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


ROUTES = [
    "/", "/short/x", "/markdown/plain", "/schema/x", "/board/x", "/titled/A_b", "/login", "/health", "/robots.txt", "/_unwritten/live",
    "/_unwritten/write", "/_unwritten/edit", "/_unwritten/rewrite", "/_unwritten/history", "/_unwritten/restore", "/_unwritten/box",
    "/_unwritten/box/state", "/_unwritten/picture/x", "/_unwritten/static/live.js", "/_unwritten/developer", "/board/x/add", "/nothing",
]  # fmt: skip
_NAMES = ["page", "region", "base", "version", "from", "to", "before", "text", "_s", "_page", "_form", "plain", "seed", "means", "state", "x"]
_VALUES = [
    "", "/", "//", "/short/x", "1", "-1", "0", "9" * 400, "1e999", "\x00", "\r\nx: y", "%00", "%ff", "%", "%2", "é", "\u202e", "a" * 9000, "[[", "'",
    '"', "<script>", "{}", "[]", "null", "../../etc/passwd", "/%2e%2e/", "/\\evil.example", "${7*7}", "{{7*7}}", "🗼", "%ed%a0%80", "body",
]  # fmt: skip
_HEADERS = [
    ("Cookie", "session=!!!; unwritten=x.y; a"), ("Accept", "\xff"), ("Range", "bytes=9999999999-0"), ("If-None-Match", '"' + "a" * 2000),
    ("If-Modified-Since", "never"), ("Content-Type", "multipart/form-data"), ("Content-Type", "application/json"), ("Sec-Purpose", "prefetch"),
    ("X-Forwarded-For", "999.1.1.1, \x7f"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "javascript"), ("Forwarded", "for=;;;"),
    ("Host", "evil.example:99999"), ("Host", "[::1"), ("Accept-Language", "*" * 3000), ("Save-Data", "on"), ("Transfer-Encoding", "chunked"),
    ("Upgrade", "websocket"), ("Content-Length", "5"), ("Origin", "null"), ("Referer", "http://[/"), ("Accept-Encoding", "br;q=9"),
]  # fmt: skip


def fuzz(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Send malformed requests to every route. No response has status 5xx, and none is missing."""
    chance = random.Random(7)
    count = 400 if short else 5_000
    errors: dict[str, int] = {}
    before = server.log.read_text(errors="replace").count("Traceback")
    for number in range(count):
        path = chance.choice(ROUTES)
        if chance.random() < 0.3:
            path += chance.choice(["/", "//", "%00", "%2f", "%5c", "?", "#", "%ff", ";x", "/..", "/%2e%2e/", "\u202e"])
        query = "&".join(f"{chance.choice(_NAMES)}={chance.choice(_VALUES)}" for _ in range(chance.randrange(4)))
        path = quote(f"{path}?{query}" if query else path, safe="%/?&=;#:@![]{}\\'\"$<>,*+~|^`") if chance.random() < 0.7 else path
        path = "".join(c if "!" <= c <= "~" else f"%{ord(c) & 255:02x}" for c in path)
        method = chance.choice(["GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
        headers = dict(chance.sample(_HEADERS, chance.randrange(3)))
        body = "&".join(f"{chance.choice(_NAMES)}={quote(chance.choice(_VALUES))}" for _ in range(chance.randrange(5)))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {"Host": "torture", **headers}.items())]
        if method == "POST" and "Transfer-Encoding" not in headers and "Content-Length" not in headers:
            lines += [f"Content-Length: {len(body)}", "Sec-Fetch-Site: same-origin"]
            lines += [] if "Content-Type" in headers else ["Content-Type: application/x-www-form-urlencoded"]
        else:
            body = "0\r\n\r\n" if "Transfer-Encoding" in headers else "aaaaa" if "Content-Length" in headers else ""
        data = "\r\n".join([*lines, "Connection: close", "", body]).encode("latin-1", "replace")
        status = _status(server, data)
        if status == 0 or (status >= 500 and status != 501):
            errors[f"{method} {path[:100]}"] = status
    for request, status in list(errors.items())[:8]:
        print(f"    fuzz: {status} {request}")
    return {
        "fuzzed_requests": count,
        "fuzz_5xx": len(errors),
        "fuzz_tracebacks": server.log.read_text(errors="replace").count("Traceback") - before,
    }


def _status(server: AppServer, data: bytes) -> int:
    """Return the status of the response to raw bytes; 0 if there is none."""
    with contextlib.suppress(OSError):
        sock = _raw(server, data, new_address())
        with sock:
            head = sock.recv(4096)
            return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else 0
    return 0


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


# -- off-site -------------------------------------------------------------------------------------------------


def leaves_site(location: str, host: str = "torture") -> bool:
    """True if a browser that is at ``http://HOST/`` leaves the site when it follows an address.

    Browsers remove tabs and line ends, treat a backslash as a slash, and remove dot segments before they resolve.
    """
    text = re.sub(r"[\t\r\n]", "", location).strip("".join(map(chr, range(33)))).replace("\\", "/")
    if re.match(r"[a-z][a-z0-9+.-]*:", text, re.I):
        parts = urlsplit(text)
        return parts.scheme not in {"http", "https"} or (parts.hostname or "") not in {host, "127.0.0.1"}
    return text.startswith("//")


TARGETS = [
    *ADDRESSES, "/%5Cevil.example/x", "/%09/evil.example", "/%0a/evil.example", "/%0d%0aLocation:%20//evil.example", "/.//evil.example/p",
    "/..//evil.example", "/%2e//evil.example", "/%2e%2e//evil.example", "/x/..//evil.example", "/x/../..//evil.example", "/\t/evil.example",
    "/\r\n/evil.example", "/;//evil.example", "/%2f%2fevil.example", "/%2fevil.example", "//evil.example/%2e%2e", "/\u2215evil.example",
    "/_unwritten/box?page=/%5Cevil.example", "/_unwritten/../..//evil.example", "////evil.example", "/@evil.example", "/%00/evil.example",
    "/short/x/%2e%2e/%2e%2e//evil.example", "/short/x//evil.example", "/titled/%5Cevil.example", "/titled//evil.example", "/login//",
]  # fmt: skip
"""Addresses that might lead away from this site, or into the framework's own routes."""


def off_site(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Give addresses of other sites to every route, as path, parameter and field. No response leads there."""
    server.whole("/")
    server.whole("/app/plain")
    tried, led, dropped = 0, set[str](), set[str]()
    document = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
    form = {**document, "Content-Type": "application/x-www-form-urlencoded"}
    requests: list[tuple[str, str, Mapping[str, str], bytes | None]] = []
    for target in TARGETS:
        raw = "".join(c if "!" <= c <= "~" else "".join(f"%{b:02x}" for b in c.encode()) for c in target)
        for encoded in {quote(target, safe=""), raw, quote(raw, safe="/")}:
            for route in ("box", "edit", "history", "developer", "write", "rewrite"):
                requests.append(("GET", f"/_unwritten/{route}?page={encoded}&region=body&text=x", document, None))
            requests += [
                ("POST", f"/_unwritten/{route}", form, f"page={quote(target, safe='')}&seed=".encode())
                for route in ("write", "rewrite", "restore", "edit")
            ]
            requests.append(("POST", f"/board/x/add?_page={encoded}&_form=1.x", form, b"text=a"))
            requests.append(("POST", f"/board/x/add?_page={encoded}", form, b"text=a"))
        if raw.startswith("/"):
            requests += [("GET", raw, document, None), ("GET", f"/titled{raw}/", document, None), ("HEAD", f"{raw}/", document, None)]
    if short:  # the routes that have redirected to what they were given, and some of the others
        requests = [r for n, r in enumerate(requests) if n % 6 == 0 or "/box?" in r[1]]
    for method, path, headers, body in requests:
        if not path or " " in path:
            continue
        tried += 1
        try:
            reply = server.request(method, path, new_address(), {"Host": "torture", **headers}, body, 20)
        except (OSError, ValueError) as error:
            dropped.add(f"{method} {path}: {error}")
            continue
        if leaves_site(reply.headers.get("location", "")):
            led.add(f"{method} {path} -> {reply.headers['location']}")
    for text in sorted(led)[:6] + sorted(dropped)[:3]:
        print(f"    off site: {text[:180]}")
    return {"off_site_requests": tried, "off_site_redirects": len(led), "off_site_dropped": len(dropped)}


# -- what is not theirs ---------------------------------------------------------------------------------------------


def protected(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Try to read a protected page, to forge what the server has signed, and to stop what others have started."""
    session = server.get("/login?as=alice").headers["set-cookie"].partition(";")[0]
    member = {"Cookie": session}
    other = {"Cookie": server.get("/login?as=bob").headers["set-cookie"].partition(";")[0]}
    assert SECRET in server.get("/secret/plan?plain=1", headers=member).text, "the check needs a protected page"
    read = _read_by_strangers(server)
    leaked = _visitor_values(server, member, other)
    forged = 0
    page = server.whole("/board/forged")
    action = re.search(r'action="([^"]+/add\?[^"]+)"', page.text)
    assert action is not None
    good = html.unescape(action[1])
    for bad in (
        re.sub(r"_form=[^&]*", "_form=ffffff.AAAA.1", good),
        re.sub(r"_page=[^&]*", "_page=/board/other", good),
        good.replace("/board/forged/add", "/board/other/add"),
        re.sub(r"[?].*", "", good),
    ):
        forged += server.post(bad, {"text": "forged"}).status in {200, 303}
    cross = {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
    forged += server.post(good, {"text": "forged"}, headers=cross).status in {200, 303}
    name, _, value = session.partition("=")
    for cookie in (f"{name}={value[:-1]}A", f"{name}={value[:20]}", f"{name}=eyJuYW1lIjogIngifQ==.x.y"):
        forged += SECRET in server.get("/secret/plan?plain=1", headers={"Cookie": cookie}).text
    with contextlib.suppress(OSError, WebSocketException):
        with server.socket(headers={"Origin": "http://evil.example"}):
            forged += 1
    return {
        "protected_pages_read": read,
        "values_of_others": leaked,
        "forgeries_accepted": forged,
        "stopped_by_strangers": _stopped_by_strangers(server),
    }


def _read_by_strangers(server: AppServer) -> int:
    """Return in how many ways a stranger reads a protected page, or learns that it is written."""
    key, ways = "/secret/plan", []
    for path in (
        key, f"{key}?plain=1", f"{key}?version=1", f"/_unwritten/history?page={key}", f"/_unwritten/edit?page={key}",
        f"/_unwritten/box?page={key}&region=body", f"/_unwritten/developer?page={key}", "/",
    ):  # fmt: skip
        if SECRET in server.get(path, new_address()).text:
            ways.append(path)
    for route in ("write", "rewrite", "edit"):
        form = {"page": key, "region": "body", "base": "1", "means": "by hand", "text": "Changed."}
        names = ["page"] if route == "write" else ["page", "seed"] if route == "rewrite" else list(form)
        reply = server.post(f"/_unwritten/{route}", {name: form.get(name, "") for name in names}, new_address())
        if reply.status < 400 and not str(reply.headers.get("location", "")).endswith("/login"):
            ways.append(f"POST {route}: {reply.status}")
    for kind in ("watch", "follow"):
        with contextlib.suppress(OSError, WebSocketException), server.socket(new_address()) as live:
            live.send(json.dumps({"type": kind, "page": key, "seen": {}}))
            end = time.monotonic() + 1
            with contextlib.suppress(TimeoutError):
                while time.monotonic() < end:
                    if SECRET in str(live.recv(0.5)):
                        ways.append(f"socket {kind}")
                        break
    for way in ways:
        print(f"    a stranger gets at a protected page: {way}")
    return len(ways)


def _visitor_values(server: AppServer, member: Mapping[str, str], other: Mapping[str, str]) -> int:
    """Return how many messages to one visitor hold the name of another."""
    key, leaked = "/member/room", 0
    server.get(f"{key}?plain=1", headers=member)
    with server.socket(headers=member) as first, server.socket(headers=other) as second, server.socket() as third:
        for live in (first, second, third):
            live.send(json.dumps({"type": "follow", "page": key, "seen": {}}))
        time.sleep(0.3)
        add_note(server, "A note")
        time.sleep(2)
        for live, names in ((first, ["bob"]), (second, ["alice"]), (third, ["alice", "bob"])):
            with contextlib.suppress(TimeoutError, WebSocketException):
                while True:
                    text = str(live.recv(0.05))
                    leaked += sum(f"Read by {name}" in text for name in names)
    for cookie, name in ((other, "alice"), ({}, "alice"), ({}, "bob")):
        leaked += f"Read by {name}" in server.get(key, headers=cookie).text
    return leaked


def add_note(server: AppServer, text: str, name: str = "notes") -> int:
    """Submit the form of a board. Return the status."""
    page = server.whole(f"/board/{name}", "127.0.0.1")
    action = re.search(r'action="([^"]+/add\?[^"]+)"', page.text)
    assert action is not None, "the board has no form"
    return server.post(html.unescape(action[1]), {"text": text}).status


def _stopped_by_strangers(server: AppServer) -> int:
    """Return 1 if a stranger can stop a page before the socket of the visitor who started it connects."""
    server.get("/markdown/slow-1", new_address(), {"Sec-Fetch-Mode": "navigate"})
    with contextlib.suppress(TimeoutError, WebSocketException), server.socket(new_address()) as live:
        live.send(json.dumps({"type": "watch", "page": "/markdown/slow-1", "seen": {}}))
        live.send(json.dumps({"type": "stop", "page": "/markdown/slow-1"}))
        end = time.monotonic() + 8
        while (left := end - time.monotonic()) > 0:
            message = json.loads(live.recv(left))
            if message["type"] == "page" and message["state"] in {"written", "stopped", "failed"}:
                return int(message["state"] != "written")
    return 0


def live_updates(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Let one visitor follow a page whose function takes long. Measure how long others wait for their update."""
    slow = 4 if short else 9
    server.whole("/board/fast", "127.0.0.1")
    server.whole(f"/slow/{slow}/a", "127.0.0.1")
    with server.socket() as first, server.socket(new_address()) as second:
        first.send(json.dumps({"type": "follow", "page": f"/slow/{slow}/a", "seen": {}}))
        time.sleep(0.2)
        second.send(json.dumps({"type": "follow", "page": "/board/fast", "seen": {}}))
        time.sleep(0.2)
        add_note(server, "first note", "fast")
        time.sleep(0.1)
        add_note(server, "second note", "fast")
        begun = time.monotonic()
        with contextlib.suppress(TimeoutError, WebSocketException):
            while time.monotonic() - begun < slow * 3:
                if "second note" in str(second.recv(slow * 3)):
                    return {"update_beside_slow_page_s": time.monotonic() - begun}
    return {"update_beside_slow_page_s": slow * 3.0}


# -- owner ----------------------------------------------------------------------------------------------------------


def owner(folder: Path, model: HostileServer) -> Figures:
    """Reach a server that trusts no proxy through a bare one, under other hosts, and with spoofed headers."""
    given, hosts, spoofed = [], 0, 0
    flags = {"--host": "127.0.0.1", "--hosts": "", "--edits": "auto", "--signed-links": "auto"}
    forwarded: list[dict[str, str]] = [
        {}, {"CF-Connecting-IP": "203.0.113.7"}, {"True-Client-IP": "203.0.113.7"}, {"Via": "1.1 proxy"},
        {"Fly-Client-IP": "203.0.113.7"}, {"X-Real-IP": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.7"}, {"Forwarded": "for=203.0.113.7"},
    ]  # fmt: skip
    with app_server(folder, model.url, flags, metrics=False) as server:
        for headers in forwarded:
            for path in ("/metrics", "/_unwritten/developer?page=/"):
                reply = server.get(path, headers=headers)
                if reply.status == 200:
                    given.append(f"{path} with {headers or 'nothing'}")
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            for path in ("/", "/metrics", "/health"):
                hosts += server.get(path, headers={"Host": host}).status not in {400, 421, 403} if host else 0
    flags = {"--host": "127.0.0.1", "--hosts": "*", "--signed-links": "on", "--edits": "auto"}
    with app_server(folder, model.url, flags, metrics=False) as server:
        hosts += server.get("/metrics", headers={"Host": "evil.example"}).status == 200
        for number in range(20):
            headers = {"X-Forwarded-For": f"203.0.113.{number}", "X-Forwarded-Host": "evil.example"}
            reply = server.get(f"/short/unsigned-{number}?_s=AAAAAAAAAAAAAAAA", headers=headers)
            spoofed += "evil.example" in reply.text + str(reply.headers)
        spoofed += sum(model.requests[f"unsigned-{number}"] for number in range(20))
    for text in given:
        print(f"    owner rights: {text}")
    return {"owner_rights_given": len(given), "rebinding_answers": hosts, "spoofed_headers_believed": spoofed}
