"""Client addresses."""

from __future__ import annotations

from typing import Any

import pytest

from unwritten.security.client_address import client_id, is_local_client, is_loopback


@pytest.mark.parametrize(
    ("host", "visitor"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_a_client_is_an_address_or_a_network(host: str, visitor: str) -> None:
    assert client_id({"type": "http", "client": (host, 5000)}) == visitor


def test_without_an_address_the_client_is_unknown() -> None:
    assert client_id({"type": "http", "client": None}) == ""
    assert client_id({"type": "http"}) == ""


def scope(client: str | None, server: str | None = "127.0.0.1", kind: str = "http", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "client": (client, 5000) if client is not None else None,
        "server": (server, 80) if server is not None else None,
        "headers": pairs,
    }


@pytest.mark.parametrize(
    ("asked", "local"),
    [
        (scope("127.0.0.1"), True),
        (scope("::1", "::1"), True),
        (scope("testclient", "testserver"), True),
        (scope("192.168.1.9", "192.168.1.5"), False),
        (scope("127.0.0.1", "192.168.1.5"), False),
        (scope("127.0.0.1", x_forwarded_for="127.0.0.1"), False),
        (scope("127.0.0.1", forwarded="for=192.0.2.7"), False),
        (scope(None, "/run/app.sock"), False),
        (scope("127.0.0.1", None), False),
    ],
)
def test_requests_from_this_machine(asked: dict[str, Any], local: bool) -> None:
    assert is_local_client(asked) is local


def test_loopback_names_and_addresses() -> None:
    assert all(
        map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "a.localhost", "::ffff:127.0.0.1"))
    )
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "192.168.0.1", "example.org", "localhost.example.org")))
