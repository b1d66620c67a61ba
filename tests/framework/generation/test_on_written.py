"""Hooks that run when a page has been written."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.support.apps import LIVE, browser, make_app, templates, until, watch
from tests.support.servers import PATIENCE, wait_for

from unwritten import App, Canvas, Page, Visit
from unwritten.core.errors import BadApp
from unwritten.storage.tables import Table
from unwritten.testing import Visitor
from unwritten_engine import Engine, scripted

TEMPLATE = """{% extends "layout.html" %}{% block main %}
{% block sheet %}{% for thing in sheet %}<p class="thing">{{ thing.text }}</p>{% else %}
{% block plan %}{{ plan }}{% endblock %}{% endfor %}{% endblock %}{% endblock %}"""

PLAN = '{"things":["hammer","nails"]}'


class Plan(BaseModel):
    things: list[str]


class Thing(BaseModel):
    id: int | None = None
    shed: str
    text: str


def make_shed(home: Path, engine: Engine) -> tuple[App, Table[Thing], list[str]]:
    """Return an app whose hook copies the items of a written page into a table."""
    app = make_app(home, engine, folder=templates(home, shed=TEMPLATE))
    things = app.table(Thing, index=["shed"])
    called: list[str] = []

    @app.page("/shed/{name}")
    def shed(name: str) -> Page:
        found = things.select(shed=name)
        if found:
            return Page("shed.html", sheet=found)
        return Page("shed.html", sheet=found, plan=Canvas(f"What is in {name}.", schema=Plan))

    @app.on_written("/shed/{name}")
    def fill(name: str) -> None:
        called.append(name)
        plan = app.value(f"/shed/{name.replace(' ', '_')}", "plan")
        for text in plan.things if not things.count(shed=name) else ():
            things.insert(Thing(shed=name, text=text))
        if name == "Bad":
            raise RuntimeError("nothing fits in here")

    return app, things, called


def test_a_hook_runs_before_the_job_is_finished(tmp_path: Path) -> None:
    app, things, called = make_shed(tmp_path, scripted(PLAN))
    visitor = Visitor(app)
    page = visitor.visit("/shed/Old_barn")
    assert called == ["Old barn"]
    assert "hammer" in page.region("sheet") and "plan" not in page.html.partition("<main")[2].split("data-region")[1]
    assert [thing.text for thing in things.select(shed="Old barn")] == ["hammer", "nails"]
    assert "nails" in visitor.visit("/shed/Old_barn").text and called == ["Old barn"], (
        "a stored page is not written again"
    )


def test_the_page_is_written_when_its_hook_has_returned(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("A shed."))
    started, may_end = threading.Event(), threading.Event()

    @app.page("/shed/{name}")
    def shed(name: str) -> str:
        return f"A shed: {name}."

    @app.on_written("/shed/{name}")
    def fill(name: str) -> None:
        started.set()
        may_end.wait(10)

    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        client.get("/shed/Barn")
        wait_for(started.is_set)
        watch(ws, "/shed/Barn")
        assert until(ws, type="page")[-1]["state"] == "writing"
        may_end.set()
        assert until(ws, type="page")[-1]["state"] == "written"


def test_open_pages_show_rows_that_a_hook_inserts(tmp_path: Path) -> None:
    app, _, _ = make_shed(tmp_path, scripted([PLAN[:10], PLAN], delay=0.05))
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        client.get("/shed/Barn")
        ws.send_json({"type": "follow", "page": "/shed/Barn", "seen": {}})
        assert "hammer" in _frame(ws, "sheet", 'class="thing"')["html"]
        assert 'class="thing">hammer' in client.get("/shed/Barn").text


def test_a_hook_that_raises_is_rolled_back_and_the_page_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app, things, _ = make_shed(tmp_path, scripted(PLAN))
    visitor = Visitor(app)
    with caplog.at_level(logging.ERROR, "unwritten"):
        page = visitor.visit("/shed/Bad")
    assert page.status == 200 and "hammer" in page.text
    assert things.count(shed="Bad") == 0
    assert (
        "/shed/Bad is written, but its on_written hook 'fill' failed" in caplog.text and "nothing fits" in caplog.text
    )


def test_a_hook_runs_only_for_pages_of_its_pattern(tmp_path: Path) -> None:
    app, _, called = make_shed(tmp_path, scripted("Words."))

    @app.page("/other/{name}")
    def other(name: str) -> str:
        return f"Something about {name}."

    Visitor(app).visit("/other/Barn")
    assert called == []


@pytest.mark.parametrize("function", [lambda name, more: None, lambda: None])
def test_a_hook_takes_the_parameters_of_the_page(tmp_path: Path, function: Any) -> None:
    app = make_app(tmp_path, scripted("Words."))
    if function.__code__.co_argcount:
        app.on_written("/shed/{name}")(function)  # `more` comes from the query
    else:
        with pytest.raises(BadApp, match="has no parameter 'name'"):
            app.on_written("/shed/{name}")(function)


def test_a_hook_cannot_take_a_visit(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))
    with pytest.raises(BadApp, match="cannot take a Visit"):

        @app.on_written("/shed/{name}")
        def fill(name: str, visit: Visit) -> None: ...


def _frame(ws: Any, region: str, words: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = until(ws, region=region)[-1]
        if words in message.get("html", ""):
            return message


def test_waiting_async_hooks_do_not_block_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.storage.sqlite.LOCK_TIMEOUT", 2 * PATIENCE)
    app = make_app(tmp_path, scripted("Words."))
    things = app.table(Thing)
    locked, turns = threading.Event(), 0

    @app.page("/shed/{name}")
    def shed(name: str) -> str:
        return f"A shed called {name}."

    @app.on_written("/shed/{name}")
    async def fill(name: str) -> None:
        things.insert(Thing(shed=name, text="hammer"))

    async def count() -> None:
        nonlocal turns
        while locked.is_set():
            await asyncio.sleep(0.01)
            turns += 1

    with browser(app) as client:
        assert client.portal is not None
        job_queue = app.site.jobs
        store_page = app.site.store.save

        async def lock_and_save(page: Any) -> Any:
            stored = await store_page(page)
            other.execute("BEGIN IMMEDIATE")
            locked.set()
            return stored

        other = sqlite3.connect(tmp_path / "pages.db", isolation_level=None, check_same_thread=False)
        app.site.store.save = lock_and_save  # type: ignore[method-assign]
        client.get("/shed/Red")
        wait_for(locked.is_set)
        running = client.portal.start_task_soon(count)
        wait_for(lambda: turns > 30)
        assert job_queue.get("/shed/Red") is not None and things.count() == 0
        locked.clear()
        running.result()
        other.rollback()
        other.close()
        wait_for(lambda: things.count() == 1)
