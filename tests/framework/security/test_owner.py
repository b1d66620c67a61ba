"""The owner: recognized by a token, and never by a loopback address alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.support.apps import BROWSER, LIVE, make_wiki, until, watch
from tests.support.servers import wait_for

from unwritten import App
from unwritten.core.errors import BadSetting
from unwritten.security.owner import Owner
from unwritten_engine import scripted
from unwritten_engine.errors import GenerationFailed

KEY = "/wiki/Tea"
SOCKET = f"ws://127.0.0.1{LIVE}"


def local(app: App, **headers: str) -> TestClient:
    """Return a client of a real server on this machine, such as a proxy."""
    return TestClient(
        app,
        base_url="http://127.0.0.1",
        headers={**BROWSER, **headers},
        client=("127.0.0.1", 1),
        follow_redirects=False,
        raise_server_exceptions=False,
    )


@pytest.mark.parametrize("headers", [{}, {"cf-connecting-ip": "192.0.2.7"}, {"x-forwarded-for": "192.0.2.7"}], ids=str)
def test_a_bare_proxy_is_not_the_owner(tmp_path: Path, headers: dict[str, str]) -> None:
    app = make_wiki(tmp_path, scripted("A drink."))
    app.devtools.local = True
    with local(app, **headers) as client:
        assert client.get(KEY).status_code == 404, "it needs a signed link"
        assert client.get("/metrics").status_code == 403
        assert client.get(f"/_unwritten/developer?page={KEY}").status_code == 404
        assert client.get(f"{KEY}?_trace=1").status_code == 404
        for path in ("rewrite", "edit", "restore"):
            assert client.post(f"/_unwritten/{path}", data={"page": KEY}).status_code == 403
        assert app.site.budgets.limit("visitor_pages") == 240


def test_the_printed_url_signs_in_once(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A drink."))
    app.devtools.local = True
    with local(app) as client:
        answer = client.get(app.owner.url("") + "&a=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?a=1")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and app.owner.token not in cookie
        assert not app.site.exposure.is_public, "nothing is signed while only the owner was there"
        assert client.get(KEY).status_code == 200
        wait_for(lambda: app.site.store.exists([KEY]))
        page = client.get(KEY).text
        assert "devtools.js" in page and "Regenerate" in page
        assert client.get(f"/_unwritten/edit?page={KEY}").status_code == 200
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "credentials",
    [
        lambda owner: {"params": {"_owner": owner.token[:-1]}},
        lambda owner: {"params": {"_owner": ""}},
        lambda owner: {"headers": {"authorization": f"Basic {owner.token}"}},
        lambda owner: {"headers": {"authorization": "Bearer "}},
        lambda owner: {"headers": {"cookie": f"{owner.cookie}={owner.token}"}},
        lambda owner: {"headers": {"cookie": f"{owner.cookie}="}},
    ],
)
def test_other_credentials_do_not_sign_in(tmp_path: Path, credentials: Callable[[Owner], dict[str, Any]]) -> None:
    app = make_wiki(tmp_path, scripted("A drink."))
    with local(app) as client:
        answer = client.get(KEY, **credentials(app.owner))
        assert answer.status_code == 404 and app.owner.cookie not in answer.headers.get("set-cookie", "")


def test_the_token_in_a_url_leads_nowhere_else(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A drink."))
    with local(app) as client:
        for path in ("//evil.example/x", "/\\evil.example"):
            scope_path = f"http://127.0.0.1{path}?_owner={app.owner.token}"
            assert client.get(scope_path).headers["location"] == "/"


def test_another_site_that_rebinds_its_name_reads_no_metrics(tmp_path: Path) -> None:
    with local(make_wiki(tmp_path, scripted("A drink."), hosts="*"), host="evil.example") as client:
        assert client.get("/metrics").status_code == 403


def test_a_token_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNWRITTEN_OWNER_TOKEN", "secret")
    with pytest.raises(BadSetting, match="at least 16"):
        App("Tea")
    monkeypatch.setenv("UNWRITTEN_OWNER_TOKEN", "a longer secret of mine")
    assert App("Tea").owner.token == "a longer secret of mine"


def test_visitors_see_a_number_and_the_owner_the_text_of_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = scripted(["A", 0.3, GenerationFailed("http://10.0.0.9:8080 said: no")])
    app = make_wiki(tmp_path, engine, signed_links="off")
    owner = {"authorization": f"Bearer {app.owner.token}"}
    with local(app) as client:
        assert client.get(KEY).status_code == 200
        with client.websocket_connect(SOCKET) as visitor, client.websocket_connect(SOCKET, headers=owner) as ours:
            watch(visitor, KEY)
            watch(ours, KEY)
            heard, last = until(visitor, type="page", state="failed"), until(ours, type="page", state="failed")[-1]
        assert "10.0.0.9" not in json.dumps(heard) and "10.0.0.9" in last["message"]
        number = heard[-1]["message"].rstrip(".").rpartition(" ")[2]
        assert number in caplog.text and "10.0.0.9" in caplog.text


def test_the_path_of_the_database_is_not_shown(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A drink."), signed_links="off")
    with local(app) as client:
        client.get("/")
        app.site.store.close()
        answers = [
            client.get(KEY),
            client.get(f"/_unwritten/history?page={KEY}"),
            client.get(f"/_unwritten/box/state?page={KEY}&region=body"),
        ]
        with client.websocket_connect(SOCKET) as ws:
            watch(ws, KEY)
            told = ws.receive_json()
        for text in (*(answer.text for answer in answers), json.dumps(told)):
            assert str(tmp_path) not in text and "pages.db" not in text
        assert all(answer.status_code in {500, 503} for answer in answers)
