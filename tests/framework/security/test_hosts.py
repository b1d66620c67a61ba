"""Allowed hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from tests.support.apps import LIVE, browser, make_wiki

from unwritten.core.errors import BadURL
from unwritten.security.hosts import AllowedHosts
from unwritten_engine import scripted


def asks(host: str | None, server: str = "127.0.0.1") -> dict[str, Any]:
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    return {"type": "http", "headers": headers, "server": (server, 80)}


def refused(hosts: AllowedHosts, host: str | None, server: str = "127.0.0.1") -> str:
    try:
        hosts.check(asks(host, server))
    except BadURL as error:
        assert error.status == 421
        return str(error)
    return ""


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "LOCALHOST.", "app.localhost", "127.0.0.1:8000", "[::1]:8000", "192.168.1.5", None],
)
def test_on_loopback_names_and_addresses_of_this_machine_are_allowed(host: str | None) -> None:
    assert not refused(AllowedHosts("", "127.0.0.1"), host)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_on_loopback_other_names_are_refused(host: str) -> None:
    name = host.partition(":")[0]
    assert refused(AllowedHosts("", "localhost"), host) == (
        f"This server does not respond to the host {name!r}. To allow it, start the server with --hosts {name}, or "
        f"write App(…, hosts={name!r})."
    )


def test_beyond_loopback_any_name_is_allowed_unless_names_are_set() -> None:
    assert not refused(AllowedHosts("", "0.0.0.0"), "anything.example", "192.0.2.1")
    assert not refused(AllowedHosts("*", "127.0.0.1"), "anything.example")
    named = AllowedHosts("wiki.example, *.wiki.example", "0.0.0.0")
    assert not refused(named, "wiki.example")
    assert not refused(named, "de.wiki.example:443")
    assert not refused(named, "127.0.0.1:8000"), "for health checks"
    assert "'evil.example'" in refused(named, "evil.example")
    assert "'notwiki.example'" in refused(named, "notwiki.example")
    assert "a request without a valid Host header" in refused(named, None)
    assert "a request without a valid Host header" in refused(named, "[::1")


def test_pages_and_sockets_are_refused(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    with TestClient(app, base_url="http://127.0.0.1", headers={"host": "evil.example"}) as client:
        answer = client.get("/wiki/Tea")
        assert (answer.status_code, answer.headers["content-type"]) == (421, "text/plain; charset=utf-8")
        assert "--hosts evil.example" in answer.text
        with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect(f"ws://127.0.0.1{LIVE}"):
            pass
        assert closed.value.code == 1008


def test_a_test_client_may_use_any_name(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert client.get("/wiki/Tea").status_code == 200
