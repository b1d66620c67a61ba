"""Faults: a process that does not respond, and a broker that is away."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.support.apps import (
    LIVE,
    Message,
    browser,
    follow,
    in_turn,
    make_app,
    make_wiki,
    tables,
    text_frame,
    until,
    watch,
    write,
)
from tests.support.forum import make_forum, send
from tests.support.html_checks import inner
from tests.support.redis_server import MISSING, PROGRAM, RedisServer, redis_server
from tests.support.servers import PATIENCE, free_port, wait_for

from unwritten import App, Canvas, Page
from unwritten.core.errors import BadSetting, BrokerError
from unwritten_engine import Engine, scripted
from unwritten_engine.scripted import HANG

pytestmark = pytest.mark.usefixtures("fast_leases")

KEY = "/wiki/Lighthouse"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis server of one test, which may stop it."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with redis_server() as running:
        yield running


def text_of(message: Message) -> str:
    """Return the text of a frame."""
    return re.sub("<[^>]*>", "", message["html"]).strip()


def state_of(client: TestClient) -> str:
    return str(client.app.site.broker.state)  # type: ignore[attr-defined]


def freeze(client: TestClient, seconds: float) -> threading.Thread:
    """Block the event loop of a process, as SIGSTOP and SIGCONT do."""
    portal = client.portal
    assert portal is not None
    thread = threading.Thread(target=portal.call, args=(time.sleep, seconds))
    thread.start()
    return thread


# -- processes --------------------------------------------------------------------------------------------------------


def test_a_page_is_taken_over_from_a_process_that_does_not_respond(redis: RedisServer, tmp_path: Path) -> None:
    slow, fast = scripted(["From A", HANG]), scripted("From B.")
    with (
        browser(make_wiki(tmp_path, slow, broker=redis.url)) as a,
        browser(make_wiki(tmp_path, fast, broker=redis.url)) as b,
        b.websocket_connect(LIVE) as ws,
    ):
        a.get(KEY)
        watch(ws, KEY)
        assert "From A" in text_of(until(ws, type="frame", state="writing")[-1])
        frozen = freeze(a, 1.5)
        assert "From B." in until(ws, type="frame", state="written")[-1]["html"]
        until(ws, type="page", state="written")
        frozen.join()
        assert follow(a, KEY)[-1]["state"] == "written"
        wait_for(lambda: slow.stopped == 1)  # the process that was frozen has noticed it
        assert "From B." in a.get(KEY).text
    assert [row["text"] for row in tables(tmp_path / "pages.db")["canvases"]] == ["**Lighthouse**From B."]


def test_a_process_that_was_frozen_before_it_saved_does_not_store_a_second_version(
    redis: RedisServer, tmp_path: Path
) -> None:
    other = scripted("From B.")
    with (
        browser(make_wiki(tmp_path, scripted(["From A", 0.3, "From A."]), broker=redis.url)) as a,
        browser(make_wiki(tmp_path, other, broker=redis.url)) as b,
        b.websocket_connect(LIVE) as ws,
    ):
        store = a.app.site.store  # type: ignore[attr-defined]
        save = store.save

        async def save_late(page: Any) -> Any:
            time.sleep(1.5)  # the lease was confirmed just before
            return await save(page)

        store.save = save_late
        a.get(KEY)
        watch(ws, KEY)
        until(ws, type="page", state="written")
        assert follow(a, KEY)[-1]["state"] == "written"
        assert "From A." in a.get(KEY).text
    assert other.requests == [], "the finished region was published, and is stored by the other process"
    assert len(tables(tmp_path / "pages.db")["canvases"]) == 1


def test_a_page_that_another_process_stores_meanwhile_is_served(redis: RedisServer, tmp_path: Path) -> None:
    other = scripted("From B.")
    with (
        browser(make_wiki(tmp_path, scripted("From A."), broker=redis.url)) as a,
        browser(make_wiki(tmp_path, other, broker=redis.url, visitor_pages=1)) as b,
    ):
        jobs = b.app.site.jobs  # type: ignore[attr-defined]
        claim = jobs.claim

        async def claim_late(key: str) -> Any:
            await asyncio.to_thread(write, a, key)  # after this process has seen that the page is not stored
            return await claim(key)

        jobs.claim = claim_late
        for title in ("One", "Two"):  # it is free
            page = b.get(f"/wiki/{title}")
            assert page.status_code == 200 and "From A." in page.text and 'aria-busy="true"' not in page.text
            assert follow(b, f"/wiki/{title}")[-1]["state"] == "written"
    assert other.requests == []
    assert len(tables(tmp_path / "pages.db")["versions"]) == 2


def test_a_change_is_reverted_if_the_process_that_makes_it_disappears(redis: RedisServer, tmp_path: Path) -> None:
    with (
        browser(make_wiki(tmp_path, scripted(in_turn("Old.", ["New", HANG])), broker=redis.url)) as a,
        browser(make_wiki(tmp_path, scripted("From B."), broker=redis.url)) as b,
        b.websocket_connect(LIVE) as ws,
    ):
        write(a, KEY)
        a.post("/_unwritten/rewrite", data={"page": KEY})
        watch(ws, KEY)
        until(ws, type="frame", state="writing")
        frozen = freeze(a, 1.5)
        page = until(ws, type="page", state="written")[-1]
        assert page["message"] == "The server that made this change was stopped. The page is as it was."
        frozen.join()
        assert follow(a, KEY)[-1]["message"] == page["message"]
        for client in (a, b):
            assert "Old." in client.get(KEY).text and 'busy="true' not in client.get(KEY).text


def test_a_stream_shows_the_whole_text_after_a_takeover(redis: RedisServer, tmp_path: Path) -> None:
    draft = "**Lighthouse** is the first text.\n\nIt is long.\n\nIt has no end"
    slow = scripted([text_frame(draft, fixed=len(draft)), HANG])
    with (
        browser(make_wiki(tmp_path, slow, broker=redis.url)) as a,
        browser(make_wiki(tmp_path, scripted(" and its second text."), broker=redis.url)) as b,
        ThreadPoolExecutor(1) as pool,
    ):
        a.get(KEY)
        wait_for(lambda: "It is long." in a.get(KEY).text)
        stream = pool.submit(lambda: b.get(f"{KEY}?plain=1").text)
        wait_for(lambda: b.app.site.jobs.get(KEY) is not None)  # type: ignore[attr-defined]
        time.sleep(0.2)  # until the beginning was sent
        freeze(a, 1.5).join()
        body = re.sub("<[^>]*>", "", inner(stream.result(PATIENCE), "body"))
    assert "is the first text." in body
    assert body.split("This part was started again:")[1].strip() == "Lighthouse and its second text."


def test_the_client_that_started_a_page_is_charged_after_a_takeover(redis: RedisServer, tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(["From B", 0.3, "From B."]), broker=redis.url)) as b:
        with browser(make_wiki(tmp_path, scripted(["From A", HANG]), broker=redis.url), client=("127.0.0.7", 1)) as a:
            a.get(KEY)
            b.get(KEY)
            job = b.app.site.jobs.get(KEY)  # type: ignore[attr-defined]
            wait_for(lambda: job.client_id == "127.0.0.7")
        assert follow(b, KEY)[-1]["state"] == "written"
        assert (job.client_id, job.follows) == ("127.0.0.7", False)


def test_a_server_that_stops_hands_its_pages_over_at_once(redis: RedisServer, tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("From B."), broker=redis.url)) as b, b.websocket_connect(LIVE) as ws:
        with browser(make_wiki(tmp_path, scripted(["From A", HANG]), broker=redis.url)) as a:
            a.get(KEY)
            watch(ws, KEY)
            until(ws, type="frame", state="writing")
        until(ws, type="page", state="written")
        assert "From B." in b.get(KEY).text


def test_a_region_that_only_one_process_knows_is_added_after_the_page_was_stored(
    redis: RedisServer, tmp_path: Path
) -> None:
    with (
        browser(make_wiki(tmp_path, scripted(["First", 0.3, "First."]), broker=redis.url)) as a,
        browser(make_old_and_new(tmp_path, scripted("Second."), broker=redis.url)) as b,
    ):
        a.get(KEY)
        assert write(b, KEY)[-1]["state"] == "written"
        page = b.get(KEY).text
        assert "First." in page and "Second." in page
    assert [row["name"] for row in tables(tmp_path / "pages.db")["canvases"]] == ["body", "more"]


def make_old_and_new(home: Path, engine: Engine, **given: Any) -> App:
    """Return the wiki of a newer version, whose articles have another part."""
    source = """{% extends "layout.html" %}{% block main %}
    {% block body %}{{ body }}{% endblock %}{% block more %}{{ more }}{% endblock %}{% endblock %}"""
    (home / "templates").mkdir()
    (home / "templates" / "both.html").write_text(source)
    app = make_app(home, engine, folder=home, **given)

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        body = Canvas(f"An encyclopedia article about {title}.")
        return Page("both.html", title=title, body=body, more=Canvas("More."))

    return app


# -- the broker -------------------------------------------------------------------------------------------------------


def test_a_running_page_is_finished_and_shown_while_the_broker_is_away(server: RedisServer, tmp_path: Path) -> None:
    engines = scripted(["A", 1.0, "A b."]), scripted("Another.")
    with (
        browser(make_wiki(tmp_path, engines[0], broker=server.url)) as a,
        browser(make_wiki(tmp_path, engines[1], broker=server.url)) as b,
        b.websocket_connect(LIVE) as ws,
    ):
        write(b, "/wiki/Stored")
        a.get(KEY)
        watch(ws, KEY)
        until(ws, type="frame", state="writing")
        server.stop()
        wait_for(lambda: state_of(a) == state_of(b) == "unavailable")
        answer = b.get("/wiki/New")
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        assert "Stored pages can be read" in answer.text
        assert b.get("/wiki/Stored").status_code == 200
        assert follow(a, KEY)[-1]["state"] == "written"
        until(ws, type="page", state="written")
        assert "A b." in b.get(KEY).text
        server.start()
        wait_for(lambda: state_of(a) == state_of(b) == "ok")
        assert write(b, "/wiki/New")[-1]["state"] == "written"
    assert [len(engine.requests) for engine in engines] == [1, 2]


def test_a_restart_of_the_broker_does_not_interrupt_a_page(server: RedisServer, tmp_path: Path) -> None:
    engines = scripted(["A", 1.2, "A b", 0.3, "A b c."]), scripted("Another.")
    with (
        browser(make_wiki(tmp_path, engines[0], broker=server.url)) as a,
        browser(make_wiki(tmp_path, engines[1], broker=server.url)) as b,
        b.websocket_connect(LIVE) as ws,
    ):
        a.get(KEY)
        watch(ws, KEY)
        until(ws, type="frame", state="writing")
        server.stop()
        server.start()
        wait_for(lambda: state_of(b) == "ok")
        third = threading.Thread(target=b.get, args=("/wiki/Third",))
        third.start()
        heard = until(ws, type="page", state="written")
        texts = [text_of(message) for message in heard if message["type"] == "frame"]
        assert any(text.endswith("A b") for text in texts), "frames arrive again"
        third.join()
    assert [len(engine.requests) for engine in engines] == [1, 1]
    assert len([row for row in tables(tmp_path / "pages.db")["pages"] if row["key"] == KEY]) == 1


def test_no_page_is_started_again_after_the_broker_has_lost_its_data(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis as library

    monkeypatch.setattr("unwritten.broker.redis_timing.LEASE_REACQUISITION_TIME", 1.0)
    other = scripted("From B.")
    with (
        browser(make_wiki(tmp_path, scripted(["From A", 2.0, "From A."]), broker=redis.url)) as a,
        browser(make_wiki(tmp_path, other, broker=redis.url)) as b,
        library.Redis.from_url(redis.url) as client,
    ):
        a.get(KEY)
        frozen = freeze(a, 0.4)  # so that the other process is the first one that notices it
        client.flushall()
        assert b.get(KEY).status_code == 200
        frozen.join()
        assert follow(b, KEY)[-1]["state"] == "written"
        assert "From A." in b.get(KEY).text
    assert other.requests == []


def test_a_broker_that_does_not_respond_delays_nothing_but_new_pages(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.broker.redis_timing.COMMAND_TIMEOUT", 1.5)
    with browser(make_wiki(tmp_path, scripted(in_turn("A.", ["A", 0.5, "A b."])), broker=server.url)) as client:
        write(client, "/wiki/Stored")
        client.get(KEY)
        server.pause()
        begun = time.monotonic()
        assert client.get("/wiki/Stored").status_code == 200
        assert time.monotonic() - begun < 1.4
        assert client.get("/wiki/New").status_code == 503
        assert time.monotonic() - begun < 20
        assert follow(client, KEY)[-1]["state"] == "written"
        server.resume()
        wait_for(lambda: state_of(client) == "ok")


def test_open_pages_show_what_other_processes_have_changed_while_the_broker_was_unavailable(
    server: RedisServer, tmp_path: Path
) -> None:
    def make(engine: Engine) -> App:
        return make_forum(tmp_path, engine, broker=server.url)[0]

    with (
        browser(make(scripted("Because."))) as a,
        browser(make(scripted("Another."))) as b,
        b.websocket_connect(LIVE) as ws,
    ):
        send(a, "/thread/1", "/thread/1/post", text="Why?")
        assert follow(a, "/thread/1")[-1]["state"] == "written"
        ws.send_json({"type": "follow", "page": "/thread/1", "seen": {}})
        until(ws, region="posts")
        server.stop()
        wait_for(lambda: state_of(a) == state_of(b) == "unavailable")
        posts = next(iter(a.app.site.tables))  # type: ignore[attr-defined]
        posts.insert(posts.model(thread=1, text="Really."))
        edit = {"page": "/thread/1", "region": "replies-1", "base": "1", "means": "by hand", "text": "Mine."}
        assert a.post("/_unwritten/edit", data=edit).status_code == 303
        server.start()
        missing = {"posts": "<p>Really.</p>", "replies-1": "Mine."}  # they come in any order
        while missing:
            message = ws.receive_json()
            if missing.get(message.get("region"), "\0") in message.get("html", ""):
                del missing[message["region"]]


def test_messages_that_are_not_from_this_version_are_ignored(redis: RedisServer, tmp_path: Path) -> None:
    import redis as library

    with (
        browser(make_wiki(tmp_path, scripted(["A", 0.5, "A b."]), broker=redis.url)) as a,
        browser(make_wiki(tmp_path, scripted("Another."), broker=redis.url)) as b,
        b.websocket_connect(LIVE) as ws,
        library.Redis.from_url(redis.url) as client,
    ):
        a.get(KEY)
        watch(ws, KEY)
        until(ws, type="frame", state="writing")
        broker = a.app.site.broker  # type: ignore[attr-defined]
        frame = '{"type":"frames","regions":{"body":{"number":9999999999999999,"state":"written","stored":{"x":1}}}}'
        for text in ("no JSON", "[1]", "{}", '{"type":"frames"}', '{"type":"frames","regions":{"body":{}}}', frame):
            for channel in (broker._connection.name("all"), broker._connection.name("page", KEY)):
                client.publish(channel, text)
        until(ws, type="page", state="written")
        assert "A b." in b.get(KEY).text


def test_worlds_that_share_a_server_do_not_affect_each_other(redis: RedisServer, tmp_path: Path) -> None:
    homes = tmp_path / "one", tmp_path / "two"
    for home in homes:
        home.mkdir()
    with (
        browser(make_wiki(homes[0], scripted(["One", 0.3, "One."]), broker=redis.url)) as a,
        browser(make_wiki(homes[1], scripted(["Two", 0.3, "Two."]), broker=redis.url)) as b,
    ):
        a.get(KEY)
        b.get(KEY)
        assert "Two." in [message["html"] for message in follow(b, KEY) if message["type"] == "frame"][-1]
        assert "One." in [message["html"] for message in follow(a, KEY) if message["type"] == "frame"][-1]


# -- at start-up ------------------------------------------------------------------------------------------------------


def prepare(home: Path, url: str) -> None:
    app = make_wiki(home, scripted("Words."), broker=url)
    app.prepare()


def test_a_missing_broker_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"cannot be used: .*Start Redis or Valkey"):
        prepare(tmp_path, f"redis://user:secret@127.0.0.1:{free_port()}")


@pytest.mark.parametrize("url", ["http://user:secret@host", "user:secret@host", "redis://:secret@host:port"])
def test_a_url_that_is_not_valid_is_an_error_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadSetting) as caught:
        prepare(tmp_path, url)
    assert "secret" not in str(caught.value) and "URL" in str(caught.value)


def test_passwords_are_checked_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if PROGRAM is None:
        pytest.skip(MISSING)
    with redis_server("--requirepass", "secret") as server:
        for wrong in ("", ":wrong-secret@"):
            with pytest.raises(BrokerError) as caught:
                prepare(tmp_path, server.url.replace("//", f"//{wrong}"))
            assert "secret" not in str(caught.value) and "PASSWORD" in str(caught.value)
        url = server.url.replace("//", "//:secret@")
        with browser(make_wiki(tmp_path, scripted("Words."), broker=url)) as client:
            assert write(client, KEY)[-1]["state"] == "written"
            server.stop()
            wait_for(lambda: state_of(client) == "unavailable")
            assert "secret" not in client.get("/wiki/New").text
    assert "is unavailable" in caplog.text and "secret" not in caplog.text
