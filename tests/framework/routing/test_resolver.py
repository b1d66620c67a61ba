"""From a request to what its page needs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from tests.support.apps import make_app, make_wiki

from unwritten import App
from unwritten.routing.routes import PageRequest
from unwritten_engine import scripted


def at(app: App, key: str) -> object:
    """What a GET of this key would ask for."""

    async def ask() -> object:
        app.prepare()
        try:
            return await app.site.resolver.resolve_key(key, app.pages, [])
        finally:
            await app.close()

    return asyncio.run(ask())


def test_a_click_is_a_key_a_title_and_what_the_page_needs(tmp_path: Path) -> None:
    click = at(make_wiki(tmp_path, scripted("x")), "/wiki/Great_Auk?utm=1")
    assert isinstance(click, PageRequest)
    assert (click.key, click.title, list(click.page.canvases)) == ("/wiki/Great_Auk", "Great Auk", ["body"])
    assert isinstance(click.request, Request)


def test_titles_come_from_the_last_word_of_the_address(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("x"))

    @app.page("/a/{one}/{two}")
    def two_words(one: str, two: str) -> str:
        return "x"

    @app.page("/n/{n:int}")
    def number(n: int) -> str:
        return "x"

    @app.fallback
    def anything(path: str) -> str:
        return "x"

    titles = {
        "/a/b/c_d": "c d",
        "/a/b/AC%2FDC": "AC/DC",
        "/n/7": "Fake Wiki",
        "/docs/some_page/": "some page",
        "/docs/%5B%5Bx%5D%5D": "x",
    }
    for key, title in titles.items():
        click = at(app, key)
        assert isinstance(click, PageRequest) and click.title == title


def test_a_key_that_no_route_claims_is_nothing(tmp_path: Path) -> None:
    for key in ("/nowhere", "//evil.example/wiki/X", "//[", "/wiki/"):
        assert at(make_wiki(tmp_path, scripted("x")), key) is None
