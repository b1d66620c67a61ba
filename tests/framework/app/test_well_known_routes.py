"""Our routes at the top of the site."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.support.apps import browser, make_app, make_wiki

from unwritten_engine import scripted


def test_a_page_for_any_address_does_not_claim_them(tmp_path: Path) -> None:
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


def test_an_authors_own_route_wins(tmp_path: Path) -> None:
    app = make_app(
        tmp_path, scripted("Words."), routes=[Route("/robots.txt", lambda request: PlainTextResponse("mine"))]
    )

    @app.page("/health")
    def health() -> Response:
        return PlainTextResponse("well")

    with browser(app) as client:
        assert client.get("/robots.txt").text == "mine"
        assert client.get("/health").text == "well"


def test_they_are_read_and_not_written_to(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert client.post("/robots.txt").status_code == 405
