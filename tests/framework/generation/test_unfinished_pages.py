"""A server that stops: running pages are finished, and the rest is continued by the next server."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect
from tests.support.apps import (
    LIVE,
    browser,
    follow,
    in_turn,
    make_app,
    make_two,
    make_wiki,
    until,
    until_over,
    watch,
    write,
)
from tests.support.servers import wait_for

from unwritten import App, Visit
from unwritten.generation import unfinished_pages
from unwritten.storage import unfinished
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG, ScriptedEngine

KEY = "/wiki/Lighthouse"


def drain(client: TestClient, app: App) -> None:
    assert client.portal is not None
    client.portal.call(app.site.drain)


def assert_reconnects(ws: WebSocketTestSession) -> None:
    """Assert that a tab is told to connect again, while its page stays unfinished."""
    message = until(ws, message="The server is restarting. This page continues in a moment.")[-1]
    assert message["state"] == "queued"
    with pytest.raises(WebSocketDisconnect) as closed:
        ws.receive_json()
    assert closed.value.code == 1012


def test_a_running_page_is_finished_and_stored_while_the_server_stops(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(["A light", 0.3, "A lighthouse."]))
    with browser(app) as client:
        client.get(KEY)
        with client.websocket_connect(LIVE) as ws:
            watch(ws, KEY)
            drain(client, app)
            assert until_over(ws)[-1]["state"] == "written"
        assert app.store.get(KEY) is not None


def test_waiting_visitors_are_told_and_prefetches_are_cancelled_at_once(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Tower": ["A tower", 0.4, "A tower."]}, default=["A light", HANG])
    app = make_wiki(tmp_path, engine, jobs=1)
    with browser(app) as client:
        client.get("/wiki/Tower")
        client.get(KEY)
        with client.websocket_connect(LIVE) as ws:
            watch(ws, KEY)
            until(ws, state="queued")
            drain(client, app)
            assert_reconnects(ws)
        assert app.store.get("/wiki/Tower") is not None
    assert len(engine.requests) == 1


def test_a_stopping_server_prefetches_nothing_and_serves_the_clicks_that_it_has_accepted(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Text."), prefetch="on")
    with browser(app) as client:
        write(client, "/wiki/Stored")
        drain(client, app)
        answer = client.get("/wiki/Other", headers={"sec-purpose": "prefetch"})
        assert answer.status_code == 503 and "The server is restarting" in answer.text
        assert client.get("/wiki/Stored").status_code == 200
        assert "Text." in client.get(f"{KEY}?plain=1").text


def test_health_says_that_the_server_is_stopping(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Text."))
    with browser(app) as client:
        drain(client, app)
        answer = client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")


def test_the_wait_is_bounded_and_a_page_that_takes_longer_continues_after_the_next_start(tmp_path: Path) -> None:
    first = scripted(by_ask={"Lead": "The lead is finished.", "Body": ["The bo", HANG]})
    app = make_two(tmp_path, first, drain_seconds=0.2)
    with browser(app) as client:
        client.get("/")
        with client.websocket_connect(LIVE) as ws:
            watch(ws, "/")
            until(ws, region="lead", state="written")
            drain(client, app)
            assert_reconnects(ws)

    second = scripted(by_ask={"Body": "The body is finished."})
    again = make_two(tmp_path, second)
    with browser(again) as client:
        wait_for(lambda: again.store.get("/"))
        text = client.get("/").text
    assert "The lead is finished." in text and "The body is finished." in text
    assert ["Body" in request.prompt.ask for request in second.requests] == [True]  # the lead was kept

    third = scripted("Never asked.")
    with browser(make_two(tmp_path, third)) as client:
        client.get("/")
    assert third.requests == []


def test_a_page_that_is_opened_while_it_is_continued_becomes_a_click(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(["A light", HANG]))) as client:
        client.get(KEY)
    engine = scripted(["A light", 0.3, "A lighthouse."])
    app = make_wiki(tmp_path, engine)
    with browser(app) as client:
        wait_for(lambda: engine.requests)
        client.get(KEY)
        assert follow(client, KEY)[-1]["state"] == "written"
    assert len(engine.requests) == len(engine.promoted) == 1


def test_an_interrupted_continuation_is_continued_again(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(["A light", HANG]))) as client:
        client.get(KEY)
    slow = scripted(["A light", HANG])
    with browser(make_wiki(tmp_path, slow)):
        wait_for(lambda: slow.running)
    app = make_wiki(tmp_path, scripted("A lighthouse."))
    with browser(app):
        wait_for(lambda: app.store.get(KEY))


def test_prefetched_and_stopped_pages_are_not_continued(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(["A light", HANG]), prefetch="on")
    with browser(app) as client:
        assert client.get(KEY, headers={"sec-purpose": "prefetch"}).status_code == 200
        client.get("/wiki/Stopped")
        with client.websocket_connect(LIVE) as ws:
            watch(ws, "/wiki/Stopped")
            until(ws, type="frame")
            ws.send_json({"type": "stop", "page": "/wiki/Stopped"})
            until_over(ws)
    engine = scripted("A lighthouse.")
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, "/wiki/Other")
    assert [request.prompt.ask for request in engine.requests] == ["An encyclopedia article about Other."]


def test_a_page_function_that_sees_the_visitor_is_not_called_without_one(tmp_path: Path) -> None:
    calls: list[str] = []

    def make(engine: object) -> App:
        secret = Middleware(SessionMiddleware, secret_key="x")
        app = make_app(tmp_path, engine, middleware=[secret])  # type: ignore[arg-type]

        @app.page("/visit/{title}")
        def visit(title: str, visit: Visit) -> str:
            calls.append(title)
            return f"Visit {title}."

        @app.page("/request/{title}")
        def request(title: str, request: Request) -> str:
            calls.append(title)
            return f"{request.session.get('name')} {title}."

        return app

    keys = ("/visit/A", "/request/B")
    with browser(make(scripted(["Text", HANG]))) as client:
        for key in keys:
            client.get(key)
    calls.clear()
    for _ in range(2):  # they are remembered until they are opened
        engine = scripted("Whole text.")
        with browser(make(engine)) as client:
            client.get("/health")
        assert engine.requests == []
    assert not {"A", "B"} & set(calls)  # start-up calls them with a sample
    with closing(sqlite3.connect(tmp_path / "pages.db")) as database:
        assert database.execute("SELECT count(*) FROM unfinished").fetchone() == (2,)
    with browser(make(scripted("Whole text."))) as client:
        for key in keys:
            assert write(client, key)[-1]["state"] == "written"
    with closing(sqlite3.connect(tmp_path / "pages.db")) as database:
        assert database.execute("SELECT count(*) FROM unfinished").fetchone() == (0,)


def test_an_unfinished_page_needs_no_second_signature(tmp_path: Path) -> None:
    def make(engine: ScriptedEngine) -> App:
        app = make_app(tmp_path, engine, signed_links="on")

        @app.page("/wiki/{title}")
        def article(title: str, visit: Visit) -> str:
            return f"About {title}."

        return app

    first = scripted(["A light", HANG])
    app = make(first)
    with browser(app) as client:
        assert client.get(KEY).status_code == 404
        assert client.get(app.site.signed_links.sign(KEY)).status_code == 303
        wait_for(lambda: first.running)
    again = make(scripted("A lighthouse."))
    with browser(again) as client:
        assert client.get("/wiki/Other").status_code == 404
        assert "A lighthouse." in client.get(f"{KEY}?plain=1").text


def test_old_pages_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "MAX_AGE", -1.0)
    with browser(make_wiki(tmp_path, scripted(["A light", HANG]))) as client:
        client.get(KEY)
    engine = scripted("A lighthouse.")
    app = make_wiki(tmp_path, engine)
    with browser(app) as client:
        wait_for(lambda: not app.site.store.database.read("SELECT * FROM unfinished"))
    assert engine.requests == []


def test_the_number_of_remembered_pages_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished_pages, "MAX_PAGES", 2)
    app = make_wiki(tmp_path, scripted(["A light", HANG]))
    with browser(app) as client:
        for number in range(5):
            client.get(f"/wiki/Page_{number}")
    with closing(sqlite3.connect(tmp_path / "pages.db")) as database:
        assert database.execute("SELECT count(*) FROM unfinished").fetchone() == (2,)


def test_a_change_of_a_stored_page_is_reverted_and_not_repeated(tmp_path: Path) -> None:
    first = scripted(in_turn("The first text.", ["The sec", HANG]))
    app = make_wiki(tmp_path, first, edits="on", drain_seconds=0)
    with browser(app) as client:
        write(client, KEY)
        client.post("/_unwritten/rewrite", data={"page": KEY}, headers={"origin": "http://testserver"})
        wait_for(lambda: first.running)
        drain(client, app)
    engine = scripted("Never asked.")
    again = make_wiki(tmp_path, engine)
    with browser(again) as client:
        assert "The first text." in client.get(KEY).text
    assert engine.requests == []


def test_draining_without_jobs_takes_no_time(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Text."), drain_seconds=60)
    with browser(app) as client:
        assert client.portal is not None

        async def timed() -> None:
            async with asyncio.timeout(20):
                await app.site.drain()

        client.portal.call(timed)
