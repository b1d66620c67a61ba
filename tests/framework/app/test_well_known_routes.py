"""Tests of ``/robots.txt`` and ``/health``."""

from __future__ import annotations

from pathlib import Path
from urllib.robotparser import RobotFileParser

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.support.apps import browser, make_app, make_wiki

from unwritten_engine import scripted


def test_robots_txt_allows_pages_and_disallows_framework_and_signed_urls(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        response = client.get("/robots.txt")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    rules = RobotFileParser()
    rules.parse(response.text.splitlines())
    assert rules.can_fetch("anybot", "/wiki/Tea")
    assert not rules.can_fetch("anybot", "/_unwritten/live")
    assert "Disallow: /*?_s=\nDisallow: /*&_s=\n" in response.text


def test_robots_txt_takes_precedence_over_pages(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/{title}")
    def page(title: str) -> str:
        return title

    @app.fallback
    def elsewhere(path: str) -> str:
        return path

    with browser(app) as client:
        assert "User-agent" in client.get("/robots.txt").text
        assert "User-agent" not in client.get("/robots").text


def test_routes_of_the_author_take_precedence(tmp_path: Path) -> None:
    app = make_app(
        tmp_path, scripted("Words."), routes=[Route("/robots.txt", lambda request: PlainTextResponse("mine"))]
    )

    @app.page("/health")
    def health() -> Response:
        return PlainTextResponse("well")

    with browser(app) as client:
        assert client.get("/robots.txt").text == "mine"
        assert client.get("/health").text == "well"


def test_robots_txt_cannot_be_posted_to(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert client.post("/robots.txt").status_code == 405
