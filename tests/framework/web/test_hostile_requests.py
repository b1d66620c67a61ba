"""Generated requests and socket messages: never a server error, a redirect off site, or an exception in the log."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote

import pytest
from starlette.routing import Mount, WebSocketRoute
from starlette.types import Message, Scope
from starlette.websockets import WebSocketDisconnect
from tests.support.apps import browser, make_app, write
from tests.support.servers import PATIENCE, served
from tests.support.urls import url_vectors

from unwritten import App, Canvas, Visit
from unwritten.core.paths import page_path, site_path
from unwritten.testing.asgi_client import running
from unwritten_engine import scripted

pytestmark = pytest.mark.anyio

BOX = "<!doctype html><html><body>x</body></html>"

VALUES: list[bytes] = [
    *(url.encode("utf-8", "surrogatepass") for url in url_vectors()[::5]),
    *(b"", b"\0", b"\r\n", b"a\r\nSet-Cookie: x=y", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf", b"%", b"%zz", b"%00"),
    *(b"0", b"1", b"-1", b"2", b"1e9", b"9" * 30, b"NaN", b"\xd9\xa3", b"\xef\xbc\x91", b"1.5", b" 1", b"true"),
    *(b"/wiki/Tea", b"/box", b"/", b"body", b"region", b"by hand", b"asked", b"again", b"x" * 5000, b"<script>"),
    *(
        b"../../etc/passwd",
        b"\xe2\x80\xae",
        b"{}",
        b"[]",
        b"\\",
        b"//",
        b"a=b&c=d",
        b";",
        b"a" * 121,
        b"'\"`",
        b"+ADw-",
    ),
]
NAMES = """page region version from to before text state seed base means keep only ask note amount _page _form _s plain
q page[] __proto__ _trace""".split()
NAMES += ["", "\0", "x" * 300, "\u202e"]
HEADERS = """cookie referer origin accept accept-language accept-encoding if-none-match if-modified-since range
content-type content-length sec-fetch-site sec-fetch-dest sec-purpose purpose save-data user-agent x-forwarded-for
x-forwarded-proto x-forwarded-prefix x-real-ip forwarded authorization host upgrade hx-request""".split()
CONTENT_TYPES = [
    *(b"application/x-www-form-urlencoded", b"application/json", b"text/plain", b"", b"\xff", b"multipart/form-data"),
    *(b"multipart/form-data; boundary=b", b"multipart/form-data; boundary=b; charset=utf-7"),
    *(b"multipart/form-data; boundary=", b"multipart/form-data; boundary=b; charset=nothing"),
    b"application/x-www-form-urlencoded; charset=utf-16",
]
ENDINGS = [b"/", b"%00", b"%0d%0a", b"/..", b"%2f", b"%ff", b"%ed%a0%80", b";x", b"//", b"a" * 9000]
BODIES = [b"[" * 3000, b"{", b"\xff", b'{"page":"/box","region":"\\ud800","state":"1"}']


def make_target(home: Path) -> App:
    """Return an app with pages, a box, an action, edits, signed links and prefetching."""
    engine = scripted("A tower with a [[Lamp]].", by_ask={"program": BOX})
    app = make_app(home, engine, edits="on", prefetch="on", markup="on")

    @app.page("/wiki/{title}")
    def article(title: str, visit: Visit, q: str = "") -> str:
        return f"About {title}."

    @app.page("/box")
    def box() -> Canvas:
        return Canvas("A program.", format="app")

    @app.page("/raw/{name:raw}/{number:int}/{rest:path}")
    def raw(name: str, number: int, rest: str) -> str:
        return f"About {name}."

    @app.action("/wish/{number:int}")
    def wish(number: int, visit: Visit, text: str = "", amount: int = 1) -> str | None:
        return text if page_path(text) else None

    with browser(app) as client:
        write(client, "/wiki/Tea")
        write(client, "/box")
    return app


def endpoints(app: App) -> list[str]:
    """Return the paths of all routes of the framework, and of pages and actions."""
    (mount,) = (route for route in app.router.routes if isinstance(route, Mount) and route.path == "/_unwritten")
    own = [f"/_unwritten{getattr(r, 'path', '')}" for r in mount.routes or () if not isinstance(r, WebSocketRoute)]
    own += ["/_unwritten/static/live.js", "/_unwritten/picture/x.y", "/robots.txt", "/health", "/metrics", "/nowhere"]
    return [*own, "/wiki/Tea", "/wiki/", "/box", "/wish/1", "/wish/1", "/wish/x", "/raw/a/1/b", "/"]


def encoded(value: bytes, chance: random.Random) -> bytes:
    """Return a value for a URL or form, percent-encoded in some way."""
    safe = chance.choice(["", "/", "/%", "".join(map(chr, range(33, 127)))])
    return quote_from_bytes(value, safe=safe).encode()


def make_body(chance: random.Random, content_type: bytes, names: Sequence[str]) -> bytes:
    pairs = [(chance.choice(names).encode(), chance.choice(VALUES)) for _ in range(chance.randrange(5))]
    if content_type.startswith(b"multipart"):
        pairs += [(b"text", b"+2AA-")] * (b"utf-7" in content_type)  # half of a character
        parts = [b'--b\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n' % pair for pair in pairs]
        return b"".join(parts) + chance.choice([b"--b--\r\n", b"", b"--b"])
    if b"json" in content_type or chance.random() < 0.2:
        text = json.dumps({name.decode(): value.decode("utf-8", "surrogateescape") for name, value in pairs})
        return chance.choice([text.encode(), *BODIES])
    return b"&".join(encoded(name, chance) + b"=" + encoded(value, chance) for name, value in pairs)


def make_requests(app: App, count: int) -> Iterator[tuple[Scope, bytes]]:
    """Yield ASGI scopes with the bodies of their requests. Every route has its turn."""
    chance = random.Random(20)
    paths = endpoints(app)
    for number in range(count):
        raw_path = paths[number % len(paths)].encode()
        if chance.random() < 0.2:
            raw_path += chance.choice(ENDINGS)
        pairs = [(chance.choice(NAMES).encode(), chance.choice(VALUES)) for _ in range(chance.randrange(4))]
        query = [encoded(name, chance) + b"=" + encoded(value, chance) for name, value in pairs]
        method = chance.choice(["GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "OPTIONS", "X"])
        content_type = chance.choice(CONTENT_TYPES)
        names = NAMES
        if raw_path == b"/wish/1":
            names = ["text", "amount"]
            token = app.site.signer.sign_form("/wish/1", "/wiki/Tea")
            query.insert(0, f"_page=/wiki/Tea&_form={token}.{number:08}".encode())
        headers = [(b"host", b"testserver"), (b"accept", b"text/html"), (b"content-type", content_type)]
        for _ in range(chance.randrange(4)):
            value = re.sub(rb"[\0\r\n]", b" ", chance.choice(VALUES))  # which no server passes on
            headers.append((chance.choice(HEADERS).encode(), value))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "root_path": "",
            "query_string": b"&".join(query),
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
        }
        yield scope, make_body(chance, content_type, names) if method == "POST" else b""


async def respond(app: App, scope: Scope, body: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Return the status and headers of a response."""
    starts: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)

    await app({**scope, "state": {}}, receive, send)
    (start,) = starts
    return start["status"], start["headers"]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


async def test_no_request_causes_an_error_or_leads_off_site(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = make_target(tmp_path)
    statuses = set()
    async with running(app):
        for scope, body in make_requests(app, 3000):
            status, headers = await respond(app, scope, body)
            statuses.add(status)
            sent = [scope[name] for name in ("method", "raw_path", "query_string", "headers")]
            assert status < 500, (sent, body[:200])
            for name, value in headers:
                assert not re.search(rb"[\0-\x08\n-\x1f\x7f]", value), (sent, body[:200])
                if name == b"location":
                    # Starlette redirects to a path with a slash at its end, with the name of the host.
                    location = value.decode().partition("_s=")[0].removeprefix("http://testserver")
                    assert site_path(location) is not None, (sent, body[:200])
    assert {200, 303, 307, 400, 403, 404, 405, 415, 422} <= statuses
    assert errors(caplog) == []


def test_no_message_breaks_the_live_socket(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = make_target(tmp_path)
    chance = random.Random(20)
    texts = [*(value.decode("utf-8", "replace") for value in VALUES), "\ud800", "/wiki/\ud800"]
    others = [None, True, -1, 2**70, 0.5, [], {}, ["\ud800"], [None], {"body": 1}, {"body": "x"}, {"\ud800": -1}]
    kinds = ["watch", "leave", "stop", "view", "hide", "follow", "unfollow", "x", None]
    names = ["page", "type", "seen", "links", "hover", "press", "region", "x"]
    with browser(app) as client:
        for _ in range(60):
            with client.websocket_connect("/_unwritten/live") as ws:
                for _ in range(5):
                    value = [chance.choice(texts)] if chance.random() < 0.2 else chance.choice([*texts, *others * 5])
                    message = {"type": chance.choice(kinds), "page": "/wiki/Tea", chance.choice(names): value}
                    ws.send_text(json.dumps(message))
                ws.send_json({"type": "x", "page": "/"})
                with contextlib.suppress(WebSocketDisconnect):  # after several invalid messages
                    while not ws.receive_json().get("message", "").startswith("The type of a message is"):
                        pass
    assert errors(caplog) == []


def test_a_real_server_answers_every_request(tmp_path: Path) -> None:
    """Line breaks in a header of the response would make the server drop the connection."""
    pages = [b"a%0d%0aX:y", b"/%0d%0aX:y", b"/%00", b"/%ff", b"/%5Cevil.example", b"/%09/e", b"//e", b"/.//e"]
    paths = [b"/_unwritten/box?region=body&page=", b"/_unwritten/history?page=", b"/wiki", b"/wiki/Tea?q=", b"/nowhere"]
    with served(make_target(tmp_path)) as address:
        host, _, port = address.partition(":")
        for path in (path + page for path in paths for page in [*pages, b"/" + b"x" * 9000]):
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
                request = b"GET %s HTTP/1.1\r\nhost: %s\r\nsec-fetch-dest: document\r\nconnection: close\r\n\r\n"
                connection.sendall(request % (path, address.encode()))
                reply = b""
                while chunk := connection.recv(65536):
                    reply += chunk
            status = re.match(rb"HTTP/1\.1 ([234]\d\d) ", reply)
            assert status, (path, reply[:200])
