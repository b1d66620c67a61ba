"""The first middleware: trusted proxies, allowed hosts, signatures, and whether other machines can reach the app."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unwritten.core.errors import BadSetting
from unwritten.core.mount import MountPoint
from unwritten.core.settings import load_settings
from unwritten.security.client_address import client_id
from unwritten.security.exposure import Exposure
from unwritten.security.signed_links import SCOPE_KEY
from unwritten.security.trusted_proxies import TrustedProxiesMiddleware
from unwritten.web.middleware import ConnectionMiddleware
from unwritten.web.watchdog import Watchdog

pytestmark = pytest.mark.anyio


class Connection:
    """The middleware, the scopes that it passes on and the messages that it sends."""

    def __init__(self, **settings: Any) -> None:
        loaded = load_settings(settings, environment={})
        self.exposure, self.mount, self.watchdog = Exposure(loaded), MountPoint(), Watchdog()
        self.scopes: list[Scope] = []
        self.sent: list[Message] = []
        self.middleware: ASGIApp = ConnectionMiddleware(self._app, loaded, self.exposure, self.mount, self.watchdog)
        if loaded.trusted_proxies:
            self.middleware = TrustedProxiesMiddleware(self.middleware, loaded.trusted_proxies)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)

    async def open(self, query: bytes = b"", root_path: str = "", type: str = "http", **headers: str) -> None:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": type,
            "path": "/",
            "root_path": root_path,
            "scheme": "http",
            "query_string": query,
            "client": ("127.0.0.1", 5000),
            "server": ("127.0.0.1", 80),
            "headers": pairs,
        }

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.middleware(scope, receive, send)


async def test_proxy_headers_are_applied_before_the_host_is_checked() -> None:
    connection = Connection(trusted_proxies="127.0.0.1", hosts="wiki.example")
    await connection.open(b"q=1&_s=abc", host="10.0.0.1", x_forwarded_host="wiki.example", x_forwarded_for="192.0.2.7")
    [scope] = connection.scopes
    assert client_id(scope) == "192.0.2.7"
    assert (scope["query_string"], scope.get(SCOPE_KEY)) == (b"q=1", "abc")
    await connection.open(host="wiki.example", x_forwarded_host="evil.example")
    assert len(connection.scopes) == 1 and connection.exposure.refused_hosts == 1
    assert connection.sent[0]["status"] == 421 and b"'evil.example'" in connection.sent[1]["body"]


async def test_an_unknown_host_closes_a_socket_before_it_is_accepted() -> None:
    connection = Connection(hosts="wiki.example")
    await connection.open(type="websocket", host="evil.example")
    assert connection.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


async def test_a_request_without_the_owners_token_makes_the_app_public() -> None:
    connection = Connection()
    token = f"Bearer {connection.exposure.owner.token}"
    await connection.open(host="localhost", authorization=token)
    await connection.open(host="localhost", authorization=token)
    assert not connection.exposure.is_public
    await connection.open(host="localhost")  # a proxy may have forwarded it without any header
    assert connection.exposure.is_public


async def test_the_prefix_is_remembered() -> None:
    connection = Connection()
    await connection.open(host="localhost", root_path="/wiki")
    assert connection.mount.url("/a") == "/wiki/a"


async def test_invalid_settings_are_reported_at_once() -> None:
    with pytest.raises(BadSetting, match="trusted_proxies"):
        Connection(trusted_proxies="x")
