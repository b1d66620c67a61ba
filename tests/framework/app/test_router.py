"""Tests of tables and actions that are declared on an app."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.routing import Route
from tests.support.apps import browser, make_app
from tests.support.forum import Post, make_forum

from unwritten.core.errors import BadTable
from unwritten.web.action_routes import ActionRoute
from unwritten_engine import scripted


def test_tables_and_actions_are_declared_in_one_line(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    assert posts.name == "post" and posts.index == ("thread",)
    routes = [route for route in app.routes if isinstance(route, ActionRoute)]
    assert [(route.name, route.path, route.methods) for route in routes] == [("post", "/thread/{id}/post", {"POST"})]
    assert all(not isinstance(route, ActionRoute) for route in app.pages), "an action is not a page"


def test_a_script_can_use_tables_of_a_prepared_app(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    app.prepare()
    posts.insert(Post(thread=1, text="From a script"))
    asyncio.run(app.close())
    with pytest.raises(BadTable, match="is not open yet"):
        posts.count()
    with browser(app) as client:
        assert "From a script" in client.get("/thread/1").text


def test_tables_work_in_plain_routes(tmp_path: Path) -> None:
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response

    def add(request: Request) -> Response:
        return PlainTextResponse(str(posts.insert(Post(thread=1, text="x")).id))

    app = make_app(tmp_path, scripted("Words."), routes=[Route("/add", add)])
    posts = app.table(Post)
    with browser(app) as client:
        assert [client.get("/add").text for _ in range(2)] == ["1", "2"]
