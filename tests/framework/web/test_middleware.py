"""What is done with every connection first."""

from __future__ import annotations

from typing import Any

import pytest

from unwritten.core.errors import BadAddress, BadSetting
from unwritten.core.settings import Settings
from unwritten.security.client_address import client_id
from unwritten.security.signed_links import signature_of
from unwritten.web.middleware import Connections


def enter(door: Connections, query: bytes = b"", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "path": "/",
        "scheme": "http",
        "query_string": query,
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 80),
        "headers": pairs,
    }
    return dict(door.enter(scope))


def door(**settings: Any) -> Connections:
    return Connections(Settings(settings, environment={}), lambda: b"secret")


def test_the_proxy_is_believed_before_the_host_is_checked() -> None:
    entered = enter(
        door(trusted_proxies="127.0.0.1", hosts="wiki.example"),
        b"q=1&_s=abc",
        host="10.0.0.1",
        x_forwarded_host="wiki.example",
        x_forwarded_for="192.0.2.7",
    )
    assert client_id(entered) == "192.0.2.7"
    assert (entered["query_string"], signature_of(entered)) == (b"q=1", "abc")
    with pytest.raises(BadAddress, match=r"'evil\.example'"):
        enter(door(trusted_proxies="127.0.0.1", hosts="wiki.example"), host="a", x_forwarded_host="evil.example")


def test_what_was_passed_on_closes_the_gates() -> None:
    one = door()
    enter(one, host="localhost")
    assert not one.gates.required
    enter(one, host="localhost", x_forwarded_for="192.0.2.7")
    assert one.gates.required


def test_a_setting_that_cannot_be_read_is_said_at_once() -> None:
    with pytest.raises(BadSetting, match="trusted_proxies"):
        door(trusted_proxies="x")
    with pytest.raises(BadSetting, match=r"'gates' is 'of', but it must be auto, on or off\. Did you mean"):
        door(signed_links="of")
