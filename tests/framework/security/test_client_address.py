"""Who is asking."""

from __future__ import annotations

from typing import Any

import pytest

from unwritten.core.errors import BadSetting
from unwritten.security.client_address import TrustedProxies, client_id, is_local_client, is_loopback

PROXY = "10.0.0.1"


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
def test_a_visitor_is_an_address_and_a_household_is_one(host: str, visitor: str) -> None:
    assert client_id({"type": "http", "client": (host, 5000)}) == visitor


def test_without_an_address_nobody_is_known() -> None:
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
    ("forwarded", "visitor"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("1.2.3.4, 192.0.2.7", "192.0.2.7"),  # what the visitor wrote themselves does not count
        ("1.2.3.4, 192.0.2.7, 10.0.0.9", "192.0.2.7"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("192.0.2.7:1234", "192.0.2.7"),
        ("[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("192.0.2.7, unknown", PROXY),
        ("192.0.2.7, <script>, 10.0.0.9", "10.0.0.9"),
        ("", PROXY),
    ],
)
def test_behind_a_proxy_its_nearest_word_counts(forwarded: str, visitor: str) -> None:
    proxies = TrustedProxies("10.0.0.0/8")
    assert client_id(proxies.apply(scope(PROXY, x_forwarded_for=forwarded))) == visitor


def test_headers_of_anybody_else_do_not_count() -> None:
    told = {"x_forwarded_for": "192.0.2.7", "x_forwarded_host": "evil.example", "x_forwarded_proto": "https"}
    for proxies, client in (
        (TrustedProxies(""), PROXY),
        (TrustedProxies("10.0.0.0/8"), "11.0.0.1"),
        (TrustedProxies("10.0.0.0/8"), None),
    ):
        asked = scope(client, **told)
        assert proxies.apply(asked) is asked


def test_a_trusted_proxy_says_the_host_and_the_scheme_too() -> None:
    told = {"host": "127.0.0.1:8000", "x_forwarded_host": "wiki.example", "x_forwarded_proto": "https"}
    seen = TrustedProxies("::1, 127.0.0.1").apply(scope("127.0.0.1", **told))
    assert seen["scheme"] == "https"
    assert [value for name, value in seen["headers"] if name == b"host"] == [b"wiki.example"]
    socket = TrustedProxies("127.0.0.1").apply(scope("127.0.0.1", kind="websocket", x_forwarded_proto="https"))
    assert socket["scheme"] == "wss"
    assert TrustedProxies("127.0.0.1").apply(scope("127.0.0.1", x_forwarded_proto="gopher"))["scheme"] == "http"


def test_a_proxy_that_is_no_address_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(BadSetting, match=r"names 'nginx', which is no address and no network\. Write addresses"):
        TrustedProxies("127.0.0.1, nginx")


@pytest.mark.parametrize(
    ("asked", "here"),
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
def test_what_certainly_comes_from_this_machine(asked: dict[str, Any], here: bool) -> None:
    assert is_local_client(asked) is here


def test_names_and_addresses_of_this_machine() -> None:
    assert all(
        map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "a.localhost", "::ffff:127.0.0.1"))
    )
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "192.168.0.1", "example.org", "localhost.example.org")))
