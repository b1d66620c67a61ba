"""``Visit``: the link, the page and the referer of a click."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse, Response
from tests.support.apps import LIGHTHOUSE, browser, make_app, make_wiki, write

from unwritten import App, Visit
from unwritten_engine import scripted


def make_recording_app(home: Path) -> tuple[App, list[Visit]]:
    """Return an app that records its visits."""
    visits: list[Visit] = []
    app = make_app(home, scripted(LIGHTHOUSE))

    @app.page("/wiki/{title}")
    def article(title: str, visit: Visit) -> str:
        visits.append(visit)
        return f"About {title}."

    return app, visits


def test_a_visit_has_the_clicked_link(tmp_path: Path) -> None:
    app, visits = make_recording_app(tmp_path)
    with browser(app) as client:
        write(client, "/wiki/Lighthouse")
        client.cookies.clear()
        client.get("/wiki/Lamp", headers={"referer": "http://testserver/wiki/Lighthouse"})
    visit = next(visit for visit in visits if visit.key == "/wiki/Lamp")
    assert visit == Visit(
        key="/wiki/Lamp",
        came_from="/wiki/Lighthouse",
        link_text="bright lamp",
        sentence="A lighthouse is a Tower with a bright lamp.",
    )


def test_the_sentence_of_the_link_is_a_fact_in_the_prompt(tmp_path: Path) -> None:
    engine = scripted(LIGHTHOUSE)
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, "/wiki/Lighthouse")
        client.get("/wiki/Lamp", headers={"referer": "http://testserver/wiki/Lighthouse"})
        write(client, "/wiki/Lamp")
    assert engine.requests[0].prompt.facts == ()
    (fact,) = engine.requests[1].prompt.facts
    assert fact.endswith("A lighthouse is a Tower with a bright lamp.") and "says" not in fact


def test_a_visit_without_a_page_of_this_app_has_only_its_key(tmp_path: Path) -> None:
    app, visits = make_recording_app(tmp_path)
    with browser(app) as client:
        for headers in (
            {},
            {"referer": "https://evil.example/wiki/Lighthouse"},
            {"referer": "http://["},
            {"referer": "x"},
            {"referer": "http://testserver//evil.example/x"},
            {"referer": "http://testserver/_unwritten/edit?page=/"},
        ):
            client.cookies.clear()
            client.get("/wiki/Lamp?a=1&a=2", headers=headers)
            assert visits[-1] == Visit(key="/wiki/Lamp", query={"a": "2"})


def test_a_visit_has_its_referer_even_if_that_does_not_link_here(tmp_path: Path) -> None:
    app, visits = make_recording_app(tmp_path)
    with browser(app) as client:
        client.get("/wiki/Lamp", headers={"referer": "http://testserver/search?q=lamp"})
    assert (visits[-1].came_from, visits[-1].sentence) == ("/search?q=lamp", None)


def test_a_visit_is_immutable() -> None:
    with pytest.raises(AttributeError):
        Visit(key="/").key = "/other"  # type: ignore[misc]


def test_a_function_without_a_visit_parameter_gets_none(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("x"))

    @app.page("/")
    def front() -> Response:
        return PlainTextResponse("x")

    with browser(app) as client:
        assert client.get("/", headers={"referer": "http://testserver/x"}).text == "x"
