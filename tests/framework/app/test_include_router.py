"""Tests of ``App.include_router``."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from tests.support.apps import browser, make_app
from tests.support.forum import Post

from unwritten.app.router import Router
from unwritten.core.errors import BadApp, BadTable
from unwritten_engine import scripted


def make_recipes() -> Router:
    router = Router()
    posts = router.table(Post)

    @router.page("/{title}")
    def recipe(title: str) -> str:
        return f"A recipe for {title}."

    @router.action("/{title}/rate")
    def rate(title: str, stars: int) -> None:
        posts.insert(Post(thread=stars, text=title))

    @router.route("/api/count")
    def count(request: Request) -> Response:
        return PlainTextResponse(str(posts.count()))

    return router


def test_a_router_is_included_below_a_prefix(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Boil it."))
    app.include_router(make_recipes(), prefix="/recipes")
    with browser(app) as client:
        assert "Boil it." in client.get("/recipes/Tea?plain=1").text
        assert client.get("/recipes/api/count").text == "0"
        assert client.get("/Tea").status_code == 404
        assert app.url_path_for("recipe", title="Tea") == "/recipes/Tea"
        assert client.get("/recipes/Tea/rate").status_code == 405


def test_invalid_prefixes_and_repeated_tables_are_errors(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("x"))
    router = make_recipes()
    for prefix in ("recipes", "/recipes/"):
        with pytest.raises(BadApp, match="begin with a slash"):
            app.include_router(router, prefix=prefix)
    with pytest.raises(BadApp, match="no parameter 'country'"):
        app.include_router(router, prefix="/{country}")
    app.include_router(router, prefix="/recipes")
    with pytest.raises(BadTable):
        app.include_router(router, prefix="/more")
