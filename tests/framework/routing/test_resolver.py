"""The resolver: from a request or a key to a page request."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from tests.support.apps import make_app, make_wiki

from unwritten import App
from unwritten.routing.routes import PageRequest
from unwritten_engine import scripted


def resolve(app: App, key: str) -> object:
    """Resolve a key as a GET would."""

    async def run() -> object:
        app.prepare()
        try:
            return await app.site.resolver.resolve_key(key)
        finally:
            await app.close()

    return asyncio.run(run())


def test_a_page_request_has_a_key_a_title_and_a_page(tmp_path: Path) -> None:
    page_request = resolve(make_wiki(tmp_path, scripted("x")), "/wiki/Great_Auk?utm=1")
    assert isinstance(page_request, PageRequest)
    assert (page_request.key, page_request.title, list(page_request.page.canvases)) == (
        "/wiki/Great_Auk",
        "Great Auk",
        ["body"],
    )
    assert isinstance(page_request.request, Request)


def test_the_default_title_is_the_last_text_of_the_path(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("x"))

    @app.page("/a/{one}/{two}")
    def two_words(one: str, two: str) -> str:
        return "x"

    @app.page("/n/{n:int}")
    def number(n: int) -> str:
        return "x"

    @app.page("/user/{name:raw}")
    def user(name: str) -> str:
        return "x"

    @app.page("/")
    @app.page("/visit/opening-hours", name="hours")
    def constant() -> str:
        return "x"

    @app.fallback
    def anything(path: str) -> str:
        return "x"

    titles = {
        "/": "Fake Wiki",
        "/visit/opening-hours": "Opening hours",
        "/a/b/c_d": "c d",
        "/a/b/AC%2FDC": "AC/DC",
        "/n/7": "Fake Wiki",
        "/user/john_doe": "john_doe",
        "/docs/some_page/": "some page",
        "/docs/%5B%5Bx%5D%5D": "x",
    }
    for key, title in titles.items():
        page_request = resolve(app, key)
        assert isinstance(page_request, PageRequest) and page_request.title == title


def test_a_key_without_a_page_resolves_to_none(tmp_path: Path) -> None:
    for key in ("/nowhere", "//evil.example/wiki/X", "//[", "/wiki/"):
        assert resolve(make_wiki(tmp_path, scripted("x")), key) is None
