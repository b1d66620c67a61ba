"""Live updates: open tabs show the changes of actions and the canvases that they add."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.testclient import WebSocketTestSession
from tests.support.apps import LIVE, browser, make_app, templates, until
from tests.support.forum import THREAD, Post, make_forum, send
from tests.support.servers import wait_for

from unwritten import App, Canvas, Page, Redraw
from unwritten.storage.tables import Table
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG, ScriptedEngine

PATH = "/thread/1/post"


def look(ws: WebSocketTestSession, key: str, **seen: int) -> None:
    ws.send_json({"type": "follow", "page": key, "seen": seen})


def shown(ws: WebSocketTestSession, region: str, words: str) -> dict[str, Any]:
    """Return the first frame of a region with this text."""
    while True:
        message: dict[str, Any] = ws.receive_json()
        if message.get("region") == region and words in message["html"]:
            return message


def test_all_subscribers_see_a_post_and_the_same_reply(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Why": ["Be", "Because ", "Because it is so."]}, delay=0.02)
    app, _ = make_forum(tmp_path, engine)
    with browser(app) as client, client.websocket_connect(LIVE) as one, client.websocket_connect(LIVE) as two:
        client.get("/thread/1")
        for ws in (one, two):
            look(ws, "/thread/1")
            assert shown(ws, "posts", "")["state"] == "live"
        send(client, "/thread/1", PATH, text="Why?")
        for ws in (one, two):
            frame = shown(ws, "posts", "<p>Why?</p>")
            assert 'data-region="replies-1"' in frame["html"]
            assert shown(ws, "replies-1", "Because it is so.")["page"] == "/thread/1"
            until(ws, type="page", state="written")
    assert len(engine.requests) == 1


def test_a_reconnected_tab_receives_only_missed_updates(tmp_path: Path) -> None:
    app, _ = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        client.get("/thread/1")
        with client.websocket_connect(LIVE) as ws:
            look(ws, "/thread/1")
            seen = shown(ws, "posts", "")["frame"]
        send(client, "/thread/1", PATH, text="Meanwhile")
        with client.websocket_connect(LIVE) as ws:
            look(ws, "/thread/1", posts=seen)
            now = shown(ws, "posts", "Meanwhile")["frame"]
            assert now > seen
            look(ws, "/thread/1", posts=now)
            send(client, "/thread/1", PATH, text="And then")
            assert "And then" in ws.receive_json()["html"], "no update was sent twice"


def two_pages(home: Path, engine: Any) -> tuple[App, Table[Any]]:
    """Return the forum with a list of the newest posts, and a page without tables."""
    newest = """{% extends "layout.html" %}{% block main %}{% block found %}{{ found|length }} posts{% endblock %}
    {% endblock %}"""
    app, posts = make_forum(home, engine)
    templates(home, newest=newest)

    @app.page("/newest")
    async def front() -> Page:
        return Page("newest.html", found=posts.select(order="-id"))

    @app.page("/other")
    def other() -> Page:
        return Page("newest.html", found=[1])

    return app, posts


def test_other_pages_that_show_the_same_table_are_updated(tmp_path: Path) -> None:
    app, _ = two_pages(tmp_path, scripted("Words."))
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        for key in ("/newest", "/other"):
            look(ws, key)
            shown(ws, "found", "posts")
        send(client, "/thread/1", PATH, text="Hello")
        assert shown(ws, "found", "1 posts")["page"] == "/newest"
        assert app.site.updates._tables == {"/newest": {"post"}, "/other": frozenset()}


def test_subscribing_starts_no_job_and_unsubscribing_forgets_the_page(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app, posts = make_forum(tmp_path, engine)
    with browser(app) as client:
        posts.insert(Post(thread=1, text="Why?"))
        with client.websocket_connect(LIVE) as ws:
            look(ws, "/thread/1")
            assert 'data-state="waiting"' in shown(ws, "posts", "Why?")["html"]
            look(ws, "/nowhere")
            ws.send_json({"type": "unfollow", "page": "/nowhere"})
            wait_for(lambda: "/nowhere" not in app.site.updates._subscriptions)
        wait_for(lambda: not app.site.updates._subscriptions and not app.site.updates._tables)
    assert engine.requests == []


def test_a_tab_may_subscribe_to_a_limited_number_of_pages(tmp_path: Path) -> None:
    app, _ = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        for number in range(33):
            look(ws, f"/thread/{number}")
            if number % 10 == 9:
                time.sleep(0.6)
        refused = until(ws, type="refused")[-1]
        assert refused["message"] == "One tab may follow up to 32 pages at the same time."


def test_a_new_canvas_joins_a_running_job(tmp_path: Path) -> None:
    slow = ["Slow", *(f"Slow {n}" for n in range(40)), "Slow answer."]
    engine = scripted(by_ask={"First": slow, "Second": "Quick answer."}, delay=0.02)
    app, _ = make_forum(tmp_path, engine)
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        look(ws, "/thread/1")
        send(client, "/thread/1", PATH, text="First?")
        shown(ws, "replies-1", "Slow")
        send(client, "/thread/1", PATH, text="Second?")
        assert "<p>Second?</p>" in client.get("/thread/1").text
        shown(ws, "posts", "<p>Second?</p>")
        ws.send_json({"type": "watch", "page": "/thread/1", "seen": {}})
        shown(ws, "replies-2", "Quick answer.")
        until(ws, type="page", state="written")
        assert {"replies-1", "replies-2"} == set(app.store.get("/thread/1").canvases)  # type: ignore[union-attr]
        assert app.store.get("/thread/1").version == 1  # type: ignore[union-attr]


def test_a_canvas_that_cannot_join_is_generated_after_the_job(tmp_path: Path) -> None:
    source = THREAD.replace("{% block posts %}", "{% block lead %}{{ lead }}{% endblock %}{% block posts %}")
    engine = scripted(by_ask={"Lead": ["A", "A slow ", "A slow lead."]}, delay=0.1)
    app = make_app(tmp_path, engine, folder=templates(tmp_path, thread=source))
    posts = app.table(Post)

    @app.page("/thread/{id}")
    def thread(id: int) -> Page:
        return Page("thread.html", id=id, posts=posts.select(), lead=Canvas("Lead."))

    @app.action("/thread/{id}/post")
    def post(id: int, text: str) -> Redraw:
        posts.insert(Post(thread=id, text=text))
        return Redraw("lead", "posts")

    with browser(app) as client:
        send(client, "/thread/1", PATH, text="Hello")  # opening the page and the action both request it
        wait_for(lambda: (kept := app.store.get("/thread/1")) and kept.version == 2)
    assert len(engine.requests) == 2


def make_slow_forum(home: Path, engine: ScriptedEngine) -> tuple[App, Table[Post]]:
    """Return a forum that runs one job at a time, without a queue. The job of its page ``/slow`` asks for "Hang"."""
    app, posts = make_forum(home, engine, jobs=1, queue_limit=0)

    @app.page("/slow")
    def slow() -> str:
        return "Hang."

    return app, posts


def test_a_full_queue_delays_new_canvases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue.GRACE_PERIOD", 0.2)
    engine = scripted(by_ask={"Hang": ["A", HANG], "Why": "Because."})
    app, _ = make_slow_forum(tmp_path, engine)
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        look(ws, "/thread/1")
        client.get("/slow")
        send(client, "/thread/1", PATH, text="Why?")
        shown(ws, "posts", "Why?")
        shown(ws, "replies-1", "Because.")  # the slow page has no subscribers, so its job is cancelled


def test_a_page_with_missing_canvases_shows_its_tables(tmp_path: Path) -> None:
    app, posts = make_slow_forum(tmp_path, scripted(by_ask={"Hang": ["A", HANG]}))
    with browser(app) as client:
        client.get("/slow")
        send(client, "/thread/1", PATH, text="Why?")
        answer = client.get("/thread/1")
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
        assert "<p>Why?</p>" in answer.text and 'data-region="replies-1"' in answer.text
        assert 'data-state="stopped"' in answer.text and "pages already wait to be written" in answer.text
        assert client.get("/thread/1", headers={"sec-purpose": "prefetch"}).status_code == 503
        assert posts.count() == 1


def test_subscribers_see_a_post_before_its_reply_is_generated(tmp_path: Path) -> None:
    app, _ = make_slow_forum(tmp_path, scripted(by_ask={"Hang": ["A", HANG]}))
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        look(ws, "/thread/1")
        client.get("/slow")
        with client.websocket_connect(LIVE) as other:
            other.send_json({"type": "watch", "page": "/slow", "seen": {}})  # the page keeps its subscribers
            send(client, "/thread/1", PATH, text="Why?")
            shown(ws, "posts", "Why?")
            assert list(app.site.starter.pending_regions) == ["/thread/1"]


def test_writes_outside_of_actions_update_open_pages(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        look(ws, "/thread/1")
        shown(ws, "posts", "")
        posts.insert(Post(thread=1, text="From a thread"))
        shown(ws, "posts", "From a thread")
        posts.delete(1)
        assert "From a thread" not in shown(ws, "posts", "")["html"]


# -- slow pages ---------------------------------------------------------------------------------------------------


def make_slow_pages(home: Path, release: threading.Event) -> tuple[App, Table[Any], Table[Any]]:
    """Return the forum with a list of posts, and pages such as ``/slow/1``, which wait when a table has rows."""

    class Chat(BaseModel):
        id: int | None = None
        text: str

    app, posts = two_pages(home, scripted("Words."))
    chats = app.table(Chat)

    @app.page("/slow/{number}")
    def slow(number: int) -> Page:
        found = chats.select()
        if found:
            release.wait(20)
        return Page("newest.html", found=found)

    return app, posts, chats


def test_slow_pages_do_not_delay_the_updates_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.web.live_updates.SLOW_SECONDS", 0.05)
    monkeypatch.setattr("unwritten.routing.page_function.FUNCTION_TIME_LIMIT", 0.3)
    release = threading.Event()
    app, posts, chats = make_slow_pages(tmp_path, release)
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        for number in range(12):
            look(ws, f"/slow/{number}")
            shown(ws, "found", "0 posts")
        look(ws, "/newest")
        shown(ws, "found", "0 posts")
        for _ in range(2):  # the first time they are not known to be slow
            chats.insert(chats.model(text="Hello"))
            wait_for(lambda: len(app.site.updates._slow) == 12)
        started = time.monotonic()
        chats.insert(chats.model(text="Hello"))
        for number in range(1, 4):
            posts.insert(Post(thread=1, text="Hello"))
            shown(ws, "found", f"{number} posts")
        assert time.monotonic() - started < 3
        release.set()
        shown(ws, "found", "3 posts")
        assert len(app.site.updates._updating) <= 13


def test_the_updates_of_a_page_that_takes_too_long_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unwritten.web.live_updates.UPDATE_TIME_LIMIT", 0.1)
    release = threading.Event()
    app, _, chats = make_slow_pages(tmp_path, release)
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        look(ws, "/slow/1")
        shown(ws, "found", "0 posts")
        chats.insert(chats.model(text="Hello"))
        wait_for(lambda: "it took more than 0.1 seconds" in caplog.text)
        release.set()
        chats.insert(chats.model(text="Hello"))
        shown(ws, "found", "2 posts")


def test_the_updates_of_one_page_run_in_order(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    running: list[int] = []
    most = 0

    @app.page("/counted")
    async def counted() -> Page:
        nonlocal most
        running.append(posts.count())
        most = max(most, len(running))
        await asyncio.sleep(0.02)
        running.pop()
        return Page("newest.html", found=posts.select())

    templates(tmp_path, newest="""{% block found %}{{ found|length }} posts{% endblock %}""")
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        look(ws, "/counted")
        shown(ws, "found", "0 posts")
        for _ in range(5):
            posts.insert(Post(thread=1, text="Hello"))
            time.sleep(0.03)
        shown(ws, "found", "5 posts")
    assert most == 1


def test_closing_cancels_the_updates(tmp_path: Path) -> None:
    release = threading.Event()
    app, _, chats = make_slow_pages(tmp_path, release)
    started = time.monotonic()
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        for number in range(3):
            look(ws, f"/slow/{number}")
            shown(ws, "found", "0 posts")
        chats.insert(chats.model(text="Hello"))
        wait_for(lambda: len(app.site.updates._updating) == 3)
        updates = app.site.updates
        release.set()
    assert not updates._updating and time.monotonic() - started < 10
