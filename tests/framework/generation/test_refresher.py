"""Freshness: old pages are served at once, and generated again in the background."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.support.apps import (
    LIVE,
    TWO,
    browser,
    in_turn,
    let_age,
    make_app,
    tables,
    templates,
    until,
    until_over,
    write,
)
from tests.support.servers import wait_for

from unwritten import App, BadApp, Canvas, Page
from unwritten.generation.refresher import RETRY_SECONDS, Refresher
from unwritten.routing.routes import PageRequest
from unwritten.web.site import Site
from unwritten_engine import Engine, Request, scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import HANG, Script

DAY = timedelta(days=1)
KEY = "/weather/Oslo"


def make_weather(home: Path, engine: Engine, **given: Any) -> App:
    app = make_app(home, engine, **given)

    @app.page("/weather/{city}", fresh=DAY)
    def weather(city: str) -> str:
        return f"The weather in {city}."

    return app


def make_town(home: Path, engine: Engine, **given: Any) -> App:
    """Return an app whose page has one canvas that is refreshed, and one that is not."""
    app = make_app(home, engine, folder=templates(home, two=TWO), **given)

    @app.page("/town/{name}")
    def town(name: str) -> Page:
        return Page("two.html", lead=Canvas(f"The lead of {name}."), body=Canvas(f"News of {name}.", fresh=DAY))

    return app


def refresher_of(client: TestClient) -> Refresher:
    site: Site = client.app.site  # type: ignore[attr-defined]
    return site.refresher


def refresh(client: TestClient, key: str = KEY) -> str:
    """Open an old page, and wait until its refresh has ended. Return the response's text."""
    text = client.get(key).text
    wait_for(lambda: not refresher_of(client).is_active)
    return text


def versions(home: Path) -> list[tuple[int, str, str]]:
    return [(row["number"], row["kind"], row["regions"]) for row in tables(home / "pages.db")["versions"]]


def test_an_old_page_is_served_at_once_and_its_next_version_afterwards(tmp_path: Path) -> None:
    app = make_weather(tmp_path, scripted(in_turn("It rains.", ["It sh", 0.2, "It shines."])))
    with browser(app) as client:
        write(client, KEY)
        etag = client.get(KEY).headers["etag"]
        assert client.get(KEY, headers={"if-none-match": etag}).status_code == 304
        let_age(app, 2 * DAY)
        page = client.get(KEY)
        assert page.status_code == 200 and "It rains." in page.text and 'aria-busy="true"' not in page.text
        assert "As of <time datetime=" in page.text
        while refresher_of(client).is_active:  # no half page is served meanwhile
            assert "It rains." in client.get(KEY).text or "It shines." in client.get(KEY).text
        again = client.get(KEY, headers={"if-none-match": page.headers["etag"]})
        assert again.status_code == 200 and "It shines." in again.text
        assert client.get(f"{KEY}?version=1").text.count("It rains.") == 1
        assert "refreshed" in client.get(f"/_unwritten/history?page={KEY}").text
    assert versions(tmp_path) == [(1, "written", "[]"), (2, "refreshed", '["body"]')]
    row = tables(tmp_path / "pages.db")["versions"][1]
    assert row["opened_after"] is None  # it is no prefetched page that waits for its first visitor


def test_a_304_response_has_the_next_version_generated_too(tmp_path: Path) -> None:
    app = make_weather(tmp_path, scripted(in_turn("It rains.", "It shines.")))
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
        headers = {"sec-purpose": "prefetch"}
        etag = client.get(KEY, headers=headers).headers["etag"]  # a prefetch is no visit
        assert client.head(KEY).status_code == 200
        assert not refresher_of(client).is_active
        assert client.get(KEY, headers={"if-none-match": etag}).status_code == 304
        wait_for(lambda: len(versions(tmp_path)) == 2)


def test_pages_without_fresh_and_young_pages_stay(tmp_path: Path) -> None:
    app = make_weather(tmp_path, scripted("Words."))

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"About {title}."

    with browser(app) as client:
        write(client, KEY)
        write(client, "/wiki/Tea")
        let_age(app, DAY - timedelta(minutes=1))
        for key in (KEY, "/wiki/Tea"):
            refresh(client, key)
        let_age(app, 2000 * DAY)
        assert "As of" not in refresh(client, "/wiki/Tea")
    assert len(versions(tmp_path)) == 2


def test_only_stale_canvases_are_generated_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: Any) -> str:
        asked.append(request.prompt.ask)
        return f"Text {len(asked)}."

    app = make_town(tmp_path, scripted(answer))
    with browser(app) as client:
        write(client, "/town/Bergen")
        let_age(app, 2 * DAY)
        refresh(client, "/town/Bergen")
        assert len(asked) == 3 and "News" in asked[2]
        assert "Text 3." in client.get("/town/Bergen").text
        refresh(client, "/town/Bergen")
    assert len(asked) == 3
    assert versions(tmp_path)[1:] == [(2, "refreshed", '["body"]')]


def test_a_text_that_a_person_has_changed_is_not_refreshed_until_it_is_regenerated(tmp_path: Path) -> None:
    app = make_weather(tmp_path, scripted(in_turn("It rains.", "It snows.", "It shines.")), edits="on")
    with browser(app) as client:
        write(client, KEY)
        edit = {"page": KEY, "region": "body", "base": "1", "means": "by hand", "text": "I say it rains."}
        assert client.post("/_unwritten/edit", data=edit).status_code == 303
        let_age(app, 9 * DAY)
        page = refresh(client)
        assert "I say it rains." in page and "As of" not in page
        assert len(versions(tmp_path)) == 2
        client.post("/_unwritten/rewrite", data={"page": KEY})
        wait_for(lambda: len(versions(tmp_path)) == 3)
        let_age(app, 9 * DAY)
        assert "It snows." in refresh(client)
        assert "It shines." in client.get(KEY).text
    assert [kind for _, kind, _ in versions(tmp_path)] == ["written", "by hand", "rewritten", "refreshed"]


def test_an_edit_during_a_refresh_stays(tmp_path: Path) -> None:
    app = make_weather(tmp_path, scripted(in_turn("It rains.", ["It sh", 0.4, "It shines."])), edits="on")
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
        client.get(KEY)
        edit = {"page": KEY, "region": "body", "base": "1", "means": "by hand", "text": "I say it rains."}
        assert client.post("/_unwritten/edit", data=edit).status_code == 303
        wait_for(lambda: not refresher_of(client).is_active)
        assert "I say it rains." in client.get(KEY).text
    assert [kind for _, kind, _ in versions(tmp_path)] == ["written", "by hand"]


def test_a_page_that_another_process_has_refreshed_meanwhile_is_not_generated_again(tmp_path: Path) -> None:
    engine = scripted(in_turn("It rains.", "It shines."))
    app = make_weather(tmp_path, engine, edits="on")
    with browser(app) as client:
        write(client, KEY)
        site: Site = app.site
        old = site.store.get(KEY)
        client.post("/_unwritten/rewrite", data={"page": KEY})
        wait_for(lambda: len(versions(tmp_path)) == 2)

        async def refresh_old_version() -> Any:
            page_request = await site.resolver.resolve_key(KEY)
            assert isinstance(page_request, PageRequest) and old is not None
            return await site.starter.refresh(page_request, old, {"body"})

        assert client.portal is not None and client.portal.call(refresh_old_version) is None
    assert len(engine.requests) == 2


def test_many_visitors_cause_one_refresh(tmp_path: Path) -> None:
    engine = scripted(in_turn("It rains.", ["It sh", 0.3, "It shines."]))
    app = make_weather(tmp_path, engine)
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
        for _ in range(20):
            assert client.get(KEY).status_code == 200
        wait_for(lambda: not refresher_of(client).is_active)
    assert len(engine.requests) == 2


def test_a_failed_refresh_leaves_the_page_and_is_repeated_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = scripted(in_turn("It rains.", ["It", GenerationFailed("The lamp broke.")], "It shines."))
    app = make_weather(tmp_path, engine)
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
        with caplog.at_level(logging.WARNING, "unwritten"):
            refresh(client)
        assert f"stays as it is for {RETRY_SECONDS:.0f} s" in caplog.text
        for _ in range(3):
            assert "It rains." in refresh(client)
        assert len(engine.requests) == 2 and len(versions(tmp_path)) == 1
        refresher_of(client)._retry_at.clear()
        refresh(client)
        assert "It shines." in client.get(KEY).text


def test_a_visitor_without_budget_sees_the_old_page(tmp_path: Path) -> None:
    engine = scripted(in_turn("It rains.", "It shines."))
    app = make_weather(tmp_path, engine, visitor_pages=1)
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
        assert "It rains." in refresh(client)
        assert len(engine.requests) == 1
    with browser(make_weather(tmp_path, engine, visitor_pages=10)) as client:
        refresh(client)
        assert "It shines." in client.get(KEY).text


def test_a_refresh_waits_for_clicks(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: Request) -> Script:
        asked.append(request.prompt.ask)
        return [HANG] if "Rome" in asked[-1] else f"Text {len(asked)}."

    engine = scripted(answer)
    app = make_weather(tmp_path, engine)
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
        with client.websocket_connect(LIVE) as ws:
            client.get("/weather/Rome")
            ws.send_json({"type": "watch", "page": "/weather/Rome", "seen": {}})
            wait_for(lambda: len(engine.requests) == 2)
            client.get(KEY)
            wait_for(lambda: refresher_of(client).is_active)
            assert len(engine.requests) == 2
            ws.send_json({"type": "stop", "page": "/weather/Rome"})
            until_over(ws)
        wait_for(lambda: "Text 3." in client.get(KEY).text)


def test_open_tabs_get_the_new_version_when_it_is_complete(tmp_path: Path) -> None:
    app = make_weather(tmp_path, scripted(in_turn("It rains.", ["It", 0.05, "It sh", 0.05, "It shines."])))
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
        with client.websocket_connect(LIVE) as ws:
            ws.send_json({"type": "follow", "page": KEY, "seen": {"body": 1}})
            client.get(KEY)
            messages = until(ws, type="page", state="written")
    frames = [re.sub("<[^>]+>", "", message["html"]).strip() for message in messages if message["type"] == "frame"]
    assert frames == ["It shines."]
    assert "As of <time" in messages[-1]["colophon"] and "Version 2" in messages[-1]["colophon"]


def test_a_tab_that_connects_after_a_refresh_gets_it_too(tmp_path: Path) -> None:
    app = make_weather(tmp_path, scripted(in_turn("It rains.", "It shines.")))
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
        assert 'data-refreshed="1"' in refresh(client)
        with client.websocket_connect(LIVE) as ws:
            ws.send_json({"type": "follow", "page": KEY, "seen": {"body": 1}, "version": 1})
            messages = until(ws, type="page", state="written")
            assert "It shines." in messages[0]["html"]
        with client.websocket_connect(LIVE) as ws:
            ws.send_json({"type": "follow", "page": KEY, "seen": {"body": 1}, "version": 2})
            ws.send_json({"type": "follow", "page": 1})
            assert ws.receive_json()["type"] == "refused"  # nothing else came before


def test_signed_links_and_read_only_servers_change_nothing(tmp_path: Path) -> None:
    app = make_weather(tmp_path, scripted(in_turn("It rains.", "It shines.")), signed_links="off")
    with browser(app) as client:
        write(client, KEY)
        let_age(app, 2 * DAY)
    with browser(make_weather(tmp_path, scripted("Never."), read_only=True)) as client:
        assert "It rains." in refresh(client)
    app = make_weather(tmp_path, scripted("It shines."), signed_links="on")
    with browser(app, client=("203.0.113.9", 5000)) as client:
        assert client.get("/weather/Bonn").status_code == 404  # a new page needs a signature
        assert "It rains." in refresh(client)
        assert "It shines." in client.get(KEY).text


@pytest.mark.parametrize("fresh", [timedelta(0), -DAY, timedelta(milliseconds=1), 86400, "1 day"])
def test_what_is_not_a_time_is_an_error_that_says_what_to_do(tmp_path: Path, fresh: Any) -> None:
    app = make_app(tmp_path, scripted("Words."))
    with pytest.raises(BadApp, match=r"timedelta\(hours=6\)|declare a route"):
        app.page("/{title}", fresh=fresh)
    with pytest.raises(BadApp, match=r"timedelta\(hours=6\)|declare a route"):
        Canvas("Words.", fresh=fresh)
