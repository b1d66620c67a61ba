"""Tests of ``App``: pages, fallback, links, routes, settings and the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Route
from tests.support.apps import LIGHTHOUSE, browser, database_file, make_app, make_wiki, templates, write
from tests.support.html_checks import inner
from tests.support.servers import wait_for

from unwritten import App, Canvas, Page
from unwritten.core.errors import BadApp, BadSetting
from unwritten_engine import scripted


def test_five_lines_make_a_page(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        write(client, "/wiki/Lighthouse")
        page = client.get("/wiki/Lighthouse").text
    assert "<title>Lighthouse · Fake Wiki</title>" in page and ">Lighthouse</h1>" in page


def test_every_prompt_starts_with_the_world(tmp_path: Path) -> None:
    engine = scripted("Words.")
    with browser(make_wiki(tmp_path, engine, world="A calm world.")) as client:
        write(client, "/wiki/A")
        write(client, "/wiki/B")
    systems = {request.prompt.system for request in engine.requests}
    assert len(systems) == 1 and systems.pop().startswith("A calm world.")


def test_a_fallback_serves_any_url(tmp_path: Path) -> None:
    engine = scripted("See [[Great Auk]] and [[//evil.example|evil]].")
    app = make_app(tmp_path, engine)

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"An article about {title}."

    @app.fallback
    def anything(path: str) -> str:
        return f"The page at {path}."

    with browser(app) as client:
        write(client, "/docs/a/b.html")
        page = client.get("/docs/a/b.html").text
        assert ">b.html</h1>" in page
        assert '<a href="/Great%20Auk" class="unwritten">' in page and 'href="//' not in page
        write(client, "/")
        assert ">Fake Wiki</h1>" in client.get("/").text
        write(client, "/wiki/X")  # page patterns take precedence over the fallback
        assert client.get("/_unwritten/nothing").status_code == 404
        assert client.get("/a/%2E%2E/b").status_code == 404
        assert client.post("/docs/a").status_code == 405
        assert client.get("/" + "x/" * 100).status_code == 414
        response = client.get("//evil.example/%E2%80%8Bx")
        assert response.status_code != 302 or not response.headers["location"].startswith("//")
    assert [request.prompt.ask.partition(" The subject")[0] for request in engine.requests] == [
        "The page at docs/a/b.html.",
        "The page at .",
        "An article about X.",
    ]


def test_links_use_the_pattern_of_the_page_or_its_links_argument(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("See [[Sea]]."))

    @app.page("/")
    def front() -> str:
        return "The front page."

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"About {title}."

    @app.page("/n/{n:int}", links="/wiki/{title}")
    def numbered(n: int) -> str:
        return f"Number {n}."

    @app.page("/u/{n:int}")
    def unlinked(n: int) -> str:
        return f"Number {n}."

    with browser(app) as client:
        for path, link in (("/", False), ("/wiki/A", True), ("/n/1", True), ("/u/1", False)):
            assert write(client, path)[-1]["state"] == "written"
            assert ('href="/wiki/Sea"' in inner(client.get(path).text, "body")) is link


def test_links_without_a_matching_page_use_the_fallback(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("See [[Sea]]."))

    @app.page("/")
    def front() -> str:
        return "The front page."

    @app.fallback
    def anything(path: str) -> str:
        return f"The page at {path}."

    with browser(app) as client:
        write(client, "/")
        assert 'href="/Sea"' in inner(client.get("/").text, "body")


def test_routes_of_the_author_take_precedence_and_render_templates(tmp_path: Path) -> None:
    app: App

    async def about(request: Request) -> Response:
        return app.render("about.html", title="About us", n=7)

    app = make_app(
        tmp_path,
        scripted("Words."),
        routes=[Route("/wiki/about", about)],
        folder=templates(tmp_path, about="{% extends 'layout.html' %}{% block main %}<b>{{ n }}</b>{% endblock %}"),
    )

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return title

    with browser(app) as client:
        response = client.get("/wiki/about")
        assert "<b>7</b>" in response.text and "<title>About us" in response.text
        assert "nonce-" in response.headers["content-security-policy"]


def test_canonical_maps_spellings_to_one_page(tmp_path: Path) -> None:
    engine = scripted("See [[razorbill]], unlike the [[great auk]].")
    app = make_app(tmp_path, engine)

    @app.page("/wiki/{title}", canonical=lambda text: text[:1].upper() + text[1:])
    def article(title: str) -> str:
        return title

    with browser(app) as client:
        assert client.get("/wiki/great_auk").headers["location"] == "/wiki/Great_auk"
        write(client, "/wiki/Great_auk")
        page = inner(client.get("/wiki/Great_auk").text, "body")
        assert '<a href="/wiki/Razorbill" class="unwritten">razorbill</a>' in page
        assert "unlike the great auk" in page  # a page does not link to itself in any spelling


def test_a_hosted_app_starts_on_its_first_request(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    outer = Starlette(routes=[Host("testserver", app=app)])
    from starlette.testclient import TestClient

    with TestClient(outer) as client:
        assert "Words." in client.get("/wiki/X").text
        client.portal.call(app.close)  # type: ignore[union-attr]


def test_the_engine_is_warmed_with_the_prompt_of_a_sample_page(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app = make_wiki(tmp_path, engine)

    @app.page("/raises/{n:int}")
    def raises(n: int) -> str:
        raise ValueError

    with browser(app):
        wait_for(lambda: engine.warmed)
    assert [prompt.ask for prompt in engine.warmed] == ["An encyclopedia article about Lighthouse."]
    assert engine.requests == []


def test_invalid_settings_are_errors(tmp_path: Path) -> None:
    assert make_app(tmp_path, scripted("x"), jobs=3).settings.jobs == 3
    with pytest.raises(BadSetting, match="Did you mean 'queue_limit'"):
        App("x", queue_limits=3)
    with pytest.raises(BadApp, match="does not exist"):
        App("x", folder=tmp_path / "nowhere")
    with pytest.raises(BadApp, match="not running yet"):
        _ = App("x").store


def test_the_database_is_named_after_the_app() -> None:
    assert App("The Unwritten Encyclopedia!").database == Path("the-unwritten-encyclopedia.db")
    assert database_file(App("灯台")).suffix == ".db"
    assert App("...").database == Path("unwritten.db")


def test_page_functions_can_use_the_store(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("See [[Sea]]."), folder=templates(tmp_path, article=ARTICLE))

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        linked = app.store.links_to(f"/wiki/{title}")
        return Page("article.html", body=Canvas(f"About {title}."), linked_from=linked)

    with browser(app) as client:
        write(client, "/wiki/A")
        write(client, "/wiki/Sea")
        assert "from A." in client.get("/wiki/Sea").text


ARTICLE = (
    "{% extends 'layout.html' %}{% block main %}{% block body %}{{ body }}{% endblock %}"
    "{% for entry in linked_from %}from {{ entry.title }}.{% endfor %}{% endblock %}"
)


def test_generated_html_is_indexed_for_search_and_links(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted('<p>By the <a href="Great Sea">sea</a>.</p><p>A &amp; B.</p>'))

    @app.page("/wiki/{title}")
    def article(title: str) -> Canvas:
        return Canvas(f"About {title}.", format="html")

    with browser(app) as client:
        write(client, "/wiki/A")
        (entry,) = app.store.search("sea")
        assert entry.snippet == "By the sea. A & B."
        assert app.store.links_to("/wiki/Great_Sea")[0].snippet == "By the sea."
