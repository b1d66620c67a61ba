"""The headers of trusted proxies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from tests.support.apps import make_wiki

from unwritten.core.errors import BadSetting
from unwritten.security.client_address import client_id
from unwritten.security.trusted_proxies import TrustedProxiesMiddleware
from unwritten_engine import scripted

PROXY = "10.0.0.1"


def forwarded(trusted: str, client: str | None, kind: str = "http", **headers: str) -> Scope:
    """Return the scope that the app gets."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: dict[str, Any] = {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "client": (client, 5000) if client is not None else None,
        "server": ("127.0.0.1", 80),
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    asyncio.run(TrustedProxiesMiddleware(app, trusted)(scope, None, None))  # type: ignore[arg-type]
    return seen[0]


@pytest.mark.parametrize(
    ("hops", "visitor"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("1.2.3.4, 192.0.2.7", "192.0.2.7"),  # clients can send the header themselves
        ("1.2.3.4, 192.0.2.7, 10.0.0.9", "192.0.2.7"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("192.0.2.7:1234", "192.0.2.7"),
        ("[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", PROXY),
    ],
)
def test_the_last_address_that_is_not_a_trusted_proxy_is_the_client(hops: str, visitor: str) -> None:
    assert client_id(forwarded("10.0.0.0/8", PROXY, x_forwarded_for=hops)) == visitor


@pytest.mark.parametrize(
    ("trusted", "client"), [("10.0.0.0/8", "11.0.0.1"), ("10.0.0.0/8", None), ("::1", "::ffff:127.0.0.1")]
)
def test_headers_of_other_clients_are_ignored(trusted: str, client: str | None) -> None:
    headers = {"x_forwarded_for": "192.0.2.7", "x_forwarded_host": "evil.example", "x_forwarded_proto": "https"}
    scope = forwarded(trusted, client, host="wiki.example", **headers)
    assert (client_id(scope), scope["scheme"]) == (client_id({"client": (client, 1)}) if client else "", "http")
    assert (b"host", b"wiki.example") in scope["headers"]


def test_host_and_scheme_come_from_the_proxy() -> None:
    headers = {"host": "127.0.0.1:8000", "x_forwarded_host": "a.example, wiki.example", "x_forwarded_proto": "https"}
    scope = forwarded("::1, 127.0.0.1", "127.0.0.1", **headers)
    assert scope["scheme"] == "https"
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"wiki.example"]
    assert forwarded("127.0.0.1", "127.0.0.1", "websocket", x_forwarded_proto="https")["scheme"] == "wss"
    assert forwarded("127.0.0.1", "127.0.0.1", x_forwarded_proto="gopher")["scheme"] == "http"


@pytest.mark.parametrize("trusted", ["10.0.0.1", "10.1.2.3/8", "::ffff:10.0.0.0/104"])
def test_a_proxy_on_a_dual_stack_socket_is_recognized(trusted: str) -> None:
    assert client_id(forwarded(trusted, "::ffff:10.0.0.1", x_forwarded_for="192.0.2.7")) == "192.0.2.7"


def test_a_proxy_that_is_not_an_address_is_an_error() -> None:
    with pytest.raises(BadSetting, match=r"contains 'nginx', which is neither an address nor a network\. Separate"):
        forwarded("127.0.0.1, nginx", None)


def test_an_app_applies_them_before_it_checks_the_host(tmp_path: Any) -> None:
    app = make_wiki(tmp_path, scripted("Words."), trusted_proxies="127.0.0.1", hosts="wiki.example")

    async def get(**headers: str) -> int:
        status: list[int] = []
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/_unwritten/health",
            "query_string": b"",
            "scheme": "http",
            "client": ("127.0.0.1", 5000),
            "server": ("127.0.0.1", 80),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        await app(scope, receive, send)
        await app.close()
        return status[0]

    assert asyncio.run(get(host="10.0.0.1:8000", x_forwarded_host="wiki.example", x_forwarded_for="192.0.2.7")) != 421
    assert asyncio.run(get(host="wiki.example", x_forwarded_host="evil.example")) == 421
