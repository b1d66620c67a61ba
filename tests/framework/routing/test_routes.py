"""Routes of pages: matching, canonical URLs, and URL building."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import NoMatchFound
from tests.support.apps import browser, make_app, make_wiki, templates, write

from unwritten import App, Page
from unwritten.core.errors import BadURL
from unwritten_engine import scripted


def make_users(home: Path) -> App:
    """Return an app with a page for each user."""
    app = make_app(home, scripted("Words."))

    @app.page("/user/{name:raw}")
    def user(name: str) -> Response:
        return PlainTextResponse(repr(name))

    return app


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/user/john_doe", "john_doe"),
        ("/user/john%20doe", "john doe"),
        ("/user/a%2Fb", "a/b"),
        ("/user/a%2fb", "a/b"),
        ("/user/50%25", "50%"),
        ("/user/a%3Fb%23c", "a?b#c"),
        ("/user/caf%C3%A9", "café"),
        ("/user/a+b", "a+b"),
    ],
)
def test_a_raw_parameter_is_one_unchanged_segment(tmp_path: Path, path: str, name: str) -> None:
    app = make_users(tmp_path)
    with browser(app) as client:
        answer = client.get(path)
        assert (answer.status_code, answer.text) == (200, repr(name))
        url = app.url_path_for("user", name=name)
        assert client.get(url).text == repr(name)
        assert client.get("/user/a/b").status_code == 404


def test_a_raw_title_is_stored_under_its_own_key(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("See [[jane_doe]]."), links="/user/{name:raw}")

    @app.page("/user/{name:raw}")
    def user(name: str) -> str:
        return f"About {name}."

    with browser(app) as client:
        write(client, "/user/john_doe")
        write(client, "/user/john%20doe")
        page = client.get("/user/john_doe").text
        assert "<title>john_doe" in page and 'href="/user/jane_doe"' in page
        assert sorted(page.key for page in app.store.all()) == ["/user/john%20doe", "/user/john_doe"]


def test_url_path_for_takes_numbers_and_dates(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/diary/{day}/{part:int}")
    def diary(day: datetime.date, part: int) -> Response:
        return PlainTextResponse(f"{day!r} {part!r}")

    with browser(app) as client:
        url = app.url_path_for("diary", day=datetime.date(2026, 11, 30), part=2)
        assert url == "/diary/2026-11-30/2"
        assert client.get(url).text == "datetime.date(2026, 11, 30) 2"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("article", {"title": ""}, "There is no URL of 'article' for title=''. This URL has no name."),
        ("article", {"title": None}, "There is no URL of 'article' for title='None'. The parameter 'title' is None."),
        ("article", {"title": "x" * 200}, "This name has 200 characters. The limit is 120"),
        ("article", {"title": "?!"}, "There is no URL of 'article' for title='?!'. This URL has no name."),
        (
            "mood",
            {"mood": "odd"},
            "There is no URL of 'mood' for mood='odd'. 'odd' is not a valid 'mood'. One of these",
        ),
        ("thread", {"n": "seven"}, "There is no URL of 'thread' for n='seven'. 'seven' is not a valid 'n'."),
        ("thread", {"n": -1}, "'-1' is not a valid 'n'"),
    ],
)
def test_url_path_for_raises_for_parameters_that_no_page_can_have(
    tmp_path: Path, name: str, parameters: dict[str, object], message: str
) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/wiki/{title}", canonical=lambda text: text.strip("?!"))
    def article(title: str) -> str:
        return f"About {title}."

    @app.page("/mood/{mood}")
    def mood(mood: Literal["calm", "wild"]) -> str:
        return f"A {mood} page."

    @app.page("/thread/{n:int}")
    def thread(n: int) -> Page:
        return Page(title=str(n))

    with pytest.raises(BadURL) as caught:
        app.url_path_for(name, **parameters)
    assert message in str(caught.value)
    assert app.url_path_for(name, **parameters, default=None) is None


def test_a_default_does_not_hide_an_unknown_route(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    assert app.url_path_for("article", title="Tea", default="/") == "/wiki/Tea"
    assert app.url_path_for("article", title="..", default="/") == "/"
    with pytest.raises(NoMatchFound):
        app.url_path_for("artikle", title="Tea", default="/")


def test_other_spellings_are_redirected_to_the_canonical_url(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    with browser(app) as client:
        answer = client.get("/wiki/Great%20Auk?x=1")
        assert (answer.status_code, answer.headers["location"]) == (302, "/wiki/Great_Auk?x=1")
        assert client.get("/wiki/AC%2FDC").status_code == 200


def test_the_fallback_has_urls_everywhere(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, front="{{ url_for('other', path='a/b') }}"))

    @app.fallback
    def other(path: str, request: Request) -> Page | Response:
        return Page("front.html") if path == "front" else PlainTextResponse(str(request.url_for("other", path="c")))

    @app.page("/known")
    def known() -> Response:
        return PlainTextResponse("known")

    with browser(app) as client:
        assert client.get("/front").text == "/a/b"
        assert client.get("/elsewhere").text == "http://testserver/c"
        assert client.get("/known").text == "known"
        assert app.url_path_for("other", path="a/../b", default=None) is None
