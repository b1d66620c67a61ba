"""Malformed requests, and requests that try to be led to another site."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from tests.support.hostile import ADDRESSES
from tests.torture.app_server import AppServer, new_address
from tests.torture.figures import Figures
from tests.torture.hostile_server import HostileServer

ROUTES = [
    "/", "/short/x", "/markdown/plain", "/schema/x", "/board/x", "/titled/A_b", "/login", "/health", "/robots.txt",
    "/_unwritten/live",
    "/_unwritten/write", "/_unwritten/edit", "/_unwritten/rewrite", "/_unwritten/history", "/_unwritten/restore",
    "/_unwritten/box",
    "/_unwritten/box/state", "/_unwritten/picture/x", "/_unwritten/static/live.js", "/_unwritten/developer",
    "/board/x/add", "/nothing",
]  # fmt: skip
_NAMES = [
    "page",
    "region",
    "base",
    "version",
    "from",
    "to",
    "before",
    "text",
    "_s",
    "_page",
    "_form",
    "plain",
    "seed",
    "means",
    "state",
    "x",
]
_VALUES = [
    "", "/", "//", "/short/x", "1", "-1", "0", "9" * 400, "1e999", "\x00", "\r\nx: y", "%00", "%ff", "%", "%2", "é",
    "\u202e", "a" * 9000, "[[", "'",
    '"', "<script>", "{}", "[]", "null", "../../etc/passwd", "/%2e%2e/", "/\\evil.example", "${7*7}", "{{7*7}}",
    "🗼", "%ed%a0%80", "body",
]  # fmt: skip
_HEADERS = [
    ("Cookie", "session=!!!; unwritten=x.y; a"), ("Accept", "\xff"), ("Range", "bytes=9999999999-0"),
    ("If-None-Match", '"' + "a" * 2000),
    ("If-Modified-Since", "never"), ("Content-Type", "multipart/form-data"), ("Content-Type", "application/json"),
    ("Sec-Purpose", "prefetch"),
    ("X-Forwarded-For", "999.1.1.1, \x7f"), ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "javascript"), ("Forwarded", "for=;;;"),
    ("Host", "evil.example:99999"), ("Host", "[::1"), ("Accept-Language", "*" * 3000), ("Save-Data", "on"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "websocket"), ("Content-Length", "5"), ("Origin", "null"), ("Referer", "http://[/"),
    ("Accept-Encoding", "br;q=9"),
]  # fmt: skip


def fuzz(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Send malformed requests to every route. No response has status 5xx, and none is missing."""
    chance = random.Random(7)
    count = 400 if short else 5_000
    errors: dict[str, int] = {}
    before = server.log.read_text(errors="replace").count("Traceback")
    server.whole("/")
    for _ in range(count):
        path = chance.choice(ROUTES)
        if chance.random() < 0.3:
            path += chance.choice(["/", "//", "%00", "%2f", "%5c", "?", "#", "%ff", ";x", "/..", "/%2e%2e/", "\u202e"])
        page = ["page=/"] if chance.random() < 0.5 else []  # one that is stored, so that the rest is looked at, too
        query = "&".join(
            [*page, *(f"{chance.choice(_NAMES)}={chance.choice(_VALUES)}" for _ in range(chance.randrange(4)))]
        )
        path = (
            quote(f"{path}?{query}" if query else path, safe="%/?&=;#:@![]{}\\'\"$<>,*+~|^`")
            if chance.random() < 0.7
            else path
        )
        path = "".join(c if "!" <= c <= "~" else f"%{ord(c) & 255:02x}" for c in path)
        method = chance.choice(["GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
        headers = dict(chance.sample(_HEADERS, chance.randrange(3)))
        body = "&".join(
            [*page, *(f"{chance.choice(_NAMES)}={quote(chance.choice(_VALUES))}" for _ in range(chance.randrange(5)))]
        )
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in {"Host": "torture", **headers}.items()),
        ]
        if method == "POST" and "Transfer-Encoding" not in headers and "Content-Length" not in headers:
            lines += [f"Content-Length: {len(body)}", "Sec-Fetch-Site: same-origin"]
            lines += [] if "Content-Type" in headers else ["Content-Type: application/x-www-form-urlencoded"]
        else:
            body = "0\r\n\r\n" if "Transfer-Encoding" in headers else "aaaaa" if "Content-Length" in headers else ""
        data = "\r\n".join([*lines, "Connection: close", "", body]).encode("latin-1", "replace")
        status = _status(server, data)
        if status == 0 or status >= 500:
            errors[f"{method} {path[:100]}"] = status
    for request, status in list(errors.items())[:8]:
        print(f"    fuzz: {status} {request}")
    return {
        "fuzzed_requests": count,
        "fuzz_5xx": len(errors),
        "fuzz_tracebacks": server.log.read_text(errors="replace").count("Traceback") - before,
    }


def _status(server: AppServer, data: bytes) -> int:
    """Return the status of the response to raw bytes; 0 if there is none, and 429 for a 503 with ``Retry-After``."""
    with contextlib.suppress(OSError):
        sock = server.raw(data, new_address())
        with sock:
            head = sock.recv(4096)
            status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else 0
            return 429 if status == 503 and b"retry-after:" in head.lower() else status
    return 0


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
    *ADDRESSES, "/%5Cevil.example/x", "/%09/evil.example", "/%0a/evil.example", "/%0d%0aLocation:%20//evil.example",
    "/.//evil.example/p",
    "/..//evil.example", "/%2e//evil.example", "/%2e%2e//evil.example", "/x/..//evil.example",
    "/x/../..//evil.example", "/\t/evil.example",
    "/\r\n/evil.example", "/;//evil.example", "/%2f%2fevil.example", "/%2fevil.example", "//evil.example/%2e%2e",
    "/\u2215evil.example",
    "/_unwritten/box?page=/%5Cevil.example", "/_unwritten/../..//evil.example", "////evil.example",
    "/@evil.example", "/%00/evil.example",
    "/short/x/%2e%2e/%2e%2e//evil.example", "/short/x//evil.example", "/titled/%5Cevil.example",
    "/titled//evil.example", "/login//",
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
            requests += [
                ("GET", raw, document, None),
                ("GET", f"/titled{raw}/", document, None),
                ("HEAD", f"{raw}/", document, None),
            ]
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
