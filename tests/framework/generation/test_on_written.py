"""Sequels: what an app does with a page that has just been written."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.support.apps import LIVE, browser, make_app, templates, until, wait_for, watch

from unwritten import App, Canvas, Page, Visit
from unwritten.core.errors import BadApp
from unwritten.storage.tables import Table
from unwritten.testing import Visitor
from unwritten_engine import Engine, scripted

pytestmark = pytest.mark.timeout(30)

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
    """A page that becomes what was written on it: its things are put into a table, once."""
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


def test_what_was_written_becomes_state_before_anybody_is_told(tmp_path: Path) -> None:
    app, things, called = make_shed(tmp_path, scripted(PLAN))
    visitor = Visitor(app)
    page = visitor.visit("/shed/Old_barn")
    assert called == ["Old barn"]
    assert "hammer" in page.region("sheet") and "plan" not in page.html.partition("<main")[2].split("data-region")[1]
    assert [thing.text for thing in things.select(shed="Old barn")] == ["hammer", "nails"]
    assert "nails" in visitor.visit("/shed/Old_barn").text and called == ["Old barn"], "a kept page is not written"


def test_whoever_comes_while_it_is_done_is_told_when_it_is_over(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("A shed."))
    begun, may_end = threading.Event(), threading.Event()

    @app.page("/shed/{name}")
    def shed(name: str) -> str:
        return f"A shed: {name}."

    @app.on_written("/shed/{name}")
    def fill(name: str) -> None:
        begun.set()
        may_end.wait(10)

    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        client.get("/shed/Barn")
        wait_for(begun.is_set)
        watch(ws, "/shed/Barn")
        assert until(ws, type="page")[-1]["state"] == "writing"
        may_end.set()
        assert until(ws, type="page")[-1]["state"] == "written"


def test_whoever_looks_sees_it_without_loading_the_page_again(tmp_path: Path) -> None:
    app, _, _ = make_shed(tmp_path, scripted([PLAN[:10], PLAN], delay=0.05))
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        client.get("/shed/Barn")
        ws.send_json({"type": "look", "page": "/shed/Barn", "seen": {}})
        assert "hammer" in _frame(ws, "sheet", 'class="thing"')["html"]
        assert 'class="thing">hammer' in client.get("/shed/Barn").text


def test_a_sequel_that_fails_takes_back_what_it_wrote_and_harms_no_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, things, _ = make_shed(tmp_path, scripted(PLAN))
    visitor = Visitor(app)
    with caplog.at_level(logging.ERROR, "unwritten"):
        page = visitor.visit("/shed/Bad")
    assert page.status == 200 and "hammer" in page.text
    assert things.count(shed="Bad") == 0
    assert "/shed/Bad is written, but 'fill' of it failed" in caplog.text and "nothing fits" in caplog.text


def test_other_pages_are_none_of_its_business(tmp_path: Path) -> None:
    app, _, called = make_shed(tmp_path, scripted("Words."))

    @app.page("/other/{name}")
    def other(name: str) -> str:
        return f"Something about {name}."

    Visitor(app).visit("/other/Barn")
    assert called == []


@pytest.mark.parametrize("function", [lambda name, more: None, lambda: None])
def test_the_parameters_are_those_of_the_page(tmp_path: Path, function: Any) -> None:
    app = make_app(tmp_path, scripted("Words."))
    if function.__code__.co_argcount:
        app.on_written("/shed/{name}")(function)  # `more` comes from the query of the page
    else:
        with pytest.raises(BadApp, match="has no parameter 'name'"):
            app.on_written("/shed/{name}")(function)


def test_nobody_in_particular_is_there(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))
    with pytest.raises(BadApp, match="cannot take a Visit"):

        @app.on_written("/shed/{name}")
        def fill(name: str, visit: Visit) -> None: ...


def _frame(ws: Any, region: str, words: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = until(ws, region=region)[-1]
        if words in message.get("html", ""):
            return message
