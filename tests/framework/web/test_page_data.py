"""Pages as data: documents, states, access, and which URLs are data and which are pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.testclient import TestClient
from tests.support.apps import LIGHTHOUSE, browser, follow, make_app, make_wiki, templates, write

from unwritten import App, Canvas, Page
from unwritten.export.static_site import export_site
from unwritten.security.headers import prefers_json
from unwritten.testing import Visitor
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG

KEY = "/wiki/Lighthouse"
JSON = {"accept": "application/json"}


@dataclass
class Facts:
    kind: str
    height: float


def make_facts(home: Path, **given: Any) -> App:
    app = make_app(
        home,
        scripted(lambda request: '{"kind":"tower","height":30.5}' if request.schema else LIGHTHOUSE),
        folder=templates(
            home,
            two='{% extends "layout.html" %}{% block main %}{% block body %}{{ body }}{% endblock %}'
            "{% block facts %}{{ facts.kind }}{% endblock %}{% endblock %}",
        ),
        **given,
    )

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        return Page("two.html", body=Canvas(f"About {title}."), facts=Canvas("Facts.", schema=Facts))

    return app


def test_a_page_is_data_at_its_own_url_and_with_a_suffix(tmp_path: Path) -> None:
    with browser(make_facts(tmp_path)) as client:
        write(client, KEY)
        by_suffix, by_accept = client.get(f"{KEY}.json"), client.get(KEY, headers=JSON)
        assert by_suffix.content == by_accept.content
        assert by_suffix.headers["content-type"] == "application/json"
        data = by_suffix.json()
        assert (data["key"], data["url"], data["title"], data["state"]) == (KEY, KEY, "Lighthouse", "written")
        assert list(data["canvases"]) == ["body", "facts"]
        assert data["canvases"]["body"]["text"].startswith("A **lighthouse** is a [[Tower]]")
        assert data["canvases"]["body"]["value"] is None
        assert data["canvases"]["facts"]["value"] == {"kind": "tower", "height": 30.5}
        assert data["canvases"]["facts"]["schema"] == "Facts"
        assert [(link["key"], link["text"], link["written"]) for link in data["links"]] == [
            ("/wiki/Tower", "Tower", False),
            ("/wiki/Lamp", "bright lamp", False),
        ]
        assert data["provenance"]["engine"] == "scripted" and data["provenance"]["tokens"] > 0
        assert (data["version"], [version["version"] for version in data["versions"]]) == (1, [1])
        write(client, "/wiki/Tower")
        assert client.get(f"{KEY}.json").json()["links"][0]["written"] is True
        client.post("/_unwritten/rewrite", data={"page": KEY})
        follow(client, KEY)
        data = client.get(f"{KEY}.json").json()
        assert (data["version"], [version["version"] for version in data["versions"]]) == (2, [2, 1])
        first = client.get(f"{KEY}.json?version=1").json()
        assert (first["version"], first["links"], first["state"]) == (1, None, "written")
        assert client.get(f"{KEY}.json?version=9").status_code == 404


def test_an_unwritten_page_is_not_generated_by_reading_its_data(tmp_path: Path) -> None:
    engine = scripted("Words.")
    with browser(make_wiki(tmp_path, engine)) as client:
        for answer in (client.get(f"{KEY}.json"), client.get(KEY, headers=JSON), client.head(f"{KEY}.json")):
            assert answer.status_code == 404 and answer.headers["cache-control"] == "no-store"
        data = client.get(f"{KEY}.json").json()
        assert (data["state"], data["versions"], data["canvases"]["body"]["text"]) == ("unwritten", [], "")
        assert engine.requests == []
        # The document says how to have it written, which is limited as the button of the page is.
        how = data["write"]
        assert client.request(how["method"], how["url"], data=how["fields"]).status_code == 303
        follow(client, KEY)
        assert client.get(f"{KEY}.json").json()["state"] == "written"


def test_a_page_that_is_being_written_has_data_so_far(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(["A light", HANG]))) as client:
        client.get(KEY)
        answer = client.get(f"{KEY}.json")
        assert (answer.status_code, answer.headers["retry-after"]) == (202, "2")
        assert answer.json()["state"] in {"queued", "writing"}
        assert answer.json()["canvases"]["body"]["state"] in {"waiting", "writing"}


def test_unchanged_data_is_not_modified(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        write(client, KEY)
        answer = client.get(f"{KEY}.json")
        tag = answer.headers["etag"]
        assert answer.headers["vary"] == "Accept" and answer.headers["x-content-type-options"] == "nosniff"
        same = client.get(f"{KEY}.json", headers={"if-none-match": f'"other", {tag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        head = client.head(f"{KEY}.json")
        assert (head.status_code, head.headers["etag"]) == (200, tag)
        # Caches must not send the data to a browser, nor the page to a program.
        page = client.get(KEY)
        assert page.headers["vary"] == "Accept" and page.headers["etag"] != tag
        assert client.get(KEY, headers={"if-none-match": page.headers["etag"]}).headers["vary"] == "Accept"
        assert client.get(KEY, headers={**JSON, "if-none-match": page.headers["etag"]}).status_code == 200


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", False),
        ("*/*", False),
        ("", False),
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("text/html;q=0.5, Application/JSON", True),
        ("text/html, application/json;q=0.9", False),
        ("text/html, application/json", False),
        ("application/json;q=0", False),
        ("application/json;q=high", False),
        ("application/ld+json", False),
        ("application/jsonp", False),
    ],
)
def test_only_clients_that_prefer_json_get_it(accept: str, is_json: bool) -> None:
    assert prefers_json({"headers": [(b"host", b"here"), (b"accept", accept.encode())]}) is is_json


def test_a_page_whose_own_url_ends_in_json_stays_reachable(tmp_path: Path) -> None:
    engine = scripted(lambda request: "See [[package.json]]." if "Tea" in request.prompt.ask else "A file.")
    app = make_app(tmp_path, engine)

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"An article about {title}."

    @app.page("/data/{name}.json")
    def declared(name: str) -> str:
        return f"A page about {name}."

    key = "/wiki/package.json"
    with browser(app) as client:
        write(client, "/wiki/Tea")
        assert client.get(key).json()["key"] == "/wiki/package"  # not linked to, not written: data of the other page
        (link,) = client.get("/wiki/Tea").text.split('href="' + key)[1].split('"')[:1]
        assert client.get(f"{key}{link}").headers["location"] == key
        follow(client, key)
        assert client.get(key).headers["content-type"].startswith("text/html")
        assert "A file." in client.get(key).text
        assert client.get(f"{key}.json").json()["key"] == key
        assert client.get(key, headers=JSON).json()["key"] == key
        assert "A page about" in engine.requests[-1].prompt.ask or write(client, "/data/Tea.json")
        assert client.get("/data/Tea.json").headers["content-type"].startswith("text/html")


def test_the_button_and_redirects_lead_to_a_page_whose_url_ends_in_json(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A file."))

    @app.route("/find")
    async def find(request: Request) -> Response:
        return app.site.handler.sign_redirect(Response(status_code=303, headers={"location": "/wiki/a.json"}), request)

    with browser(app) as client:
        assert client.post("/_unwritten/write", data={"page": "/wiki/b.json"}).headers["location"] == "/wiki/b.json"
        follow(client, "/wiki/b.json")
        assert "A file." in client.get("/wiki/b.json").text
        location = client.get("/find", headers={"sec-fetch-site": "same-origin"}).headers["location"]
        assert location.startswith("/wiki/a.json?_s=") and client.get(location).headers["location"] == "/wiki/a.json"
        assert app.link("/wiki/c.json").startswith("/wiki/c.json?_s=") and app.link("/wiki/c") == "/wiki/c"


def test_pages_of_all_kinds_of_patterns_have_data(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/")
    def front() -> str:
        return "The front page."

    @app.page("/about")
    def about() -> str:
        return "About us."

    @app.page("/number/{id:int}")
    def number(id: int, sort: str = "") -> str:
        return f"Number {id}, {sort}."

    @app.page("/own")
    def own() -> Response:
        return JSONResponse({"mine": True})

    @app.route("/api.json")
    async def api(request: Request) -> Response:
        return PlainTextResponse("mine")

    @app.route("/plain")
    async def plain(request: Request) -> Response:
        return PlainTextResponse("a route")

    with browser(app) as client:
        for key in ("/", "/about", "/number/3", "/number/3?sort=old"):
            path, mark, query = key.partition("?")
            assert client.get(f"{path}.json{mark}{query}").json()["key"] == key
        assert client.get("/number/03.json").headers["location"] == "/number/3.json"
        assert client.get("/own.json").json() == {"mine": True}
        assert client.get("/api.json").text == "mine"
        for path in ("/plain.json", "/missing.json", "/health.json", "/_unwritten/live.json"):
            assert client.get(path).status_code == 404, path
        assert client.post("/about.json").status_code == 404


def test_a_fallback_has_data_too(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/about")
    def about() -> str:
        return "About us."

    @app.fallback
    def elsewhere(path: str) -> str:
        return f"A page about {path}."

    with browser(app) as client:
        assert client.get("/about.json").json()["key"] == "/about"
        assert client.get("/far/away.json").json()["key"] == "/far/away"


class Gate(BaseHTTPMiddleware):
    """Refuses one path exactly, as careless middleware does."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        if request.url.path == "/wiki/Secret" and "key" not in request.headers:
            return PlainTextResponse("No.", 401)
        response: Response = await call_next(request)
        return response


def test_data_is_read_with_the_right_to_read_the_page(tmp_path: Path) -> None:
    def allow(request: Request) -> bool:
        if request.headers.get("key") == "odd":
            raise HTTPException(418, "A teapot.")
        return "key" in request.headers

    app = make_wiki(tmp_path, scripted("Words."), middleware=[Middleware(Gate)])

    @app.page("/notes/{name}", allow=allow)
    def notes(name: str) -> str:
        return f"Notes about {name}."

    with browser(app) as client:
        for key in ("/wiki/Secret", "/notes/Tea"):
            assert client.get(key, headers={"key": "1"}).status_code == 200
            wait = client.get(f"{key}.json", headers={"key": "1"})
            assert wait.status_code in {200, 202} and wait.json()["key"] == key
            for headers in ({}, JSON):
                refused = client.get(f"{key}.json", headers=headers)
                assert refused.status_code in {401, 403, 404} and "Words" not in refused.text
                assert refused.headers["content-type"] == "application/problem+json"
                assert refused.json()["status"] == refused.status_code and refused.json()["detail"]
            assert client.get(key, headers=JSON).status_code in {401, 403, 404}
        assert client.get("/notes/Tea", headers={**JSON, "key": "odd"}).json()["detail"] == "A teapot."


def test_prompts_are_for_the_owner(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    with browser(app) as client:
        write(client, KEY)
        assert "about Lighthouse" in client.get(f"{KEY}.json").json()["canvases"]["body"]["prompt"]["ask"]
    with TestClient(app, client=("203.0.113.9", 5000), headers=JSON) as visitor:
        assert "prompt" not in visitor.get(KEY).json()["canvases"]["body"]


def test_hostile_values_and_texts_are_valid_json(tmp_path: Path) -> None:
    app = make_facts(tmp_path)
    with browser(app) as client:
        write(client, KEY)

        def spoil(connection: Any) -> None:
            connection.execute("UPDATE canvases SET text = ? WHERE name = 'facts'", ('{"a":NaN,"b":1e999,"c":-0.5}',))
            connection.execute("UPDATE canvases SET text = 'broken' WHERE name = 'body'")

        app.site.store.database.write_sync(spoil)

        def refuse(name: str) -> None:
            raise ValueError(name)

        data = json.loads(client.get(f"{KEY}.json").content, parse_constant=refuse)
        assert data["canvases"]["facts"]["value"] == {"a": None, "b": None, "c": -0.5}


def test_the_data_of_a_mounted_app_has_the_prefix(tmp_path: Path) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    outer = Starlette(routes=[Mount("/guide", make_wiki(tmp_path, scripted(LIGHTHOUSE)))])
    visitor = Visitor(outer)
    visitor.visit("/guide/wiki/Tea")
    data = json.loads(visitor.visit("/guide/wiki/Tea.json").html)
    assert (data["key"], data["url"], data["links"][0]["url"]) == (
        "/wiki/Tea",
        "/guide/wiki/Tea",
        "/guide/wiki/Tower",
    )


def test_an_export_has_no_feed_and_keeps_pages_that_end_in_json(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    with browser(app) as client:
        client.post("/_unwritten/write", data={"page": "/wiki/a.json"})
        follow(client, "/wiki/a.json")
    report = export_site(make_wiki(tmp_path, scripted(None)), tmp_path / "site")
    assert report.keys == {"/wiki/a.json"}
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert pages and not any("feed.atom" in page.read_text(encoding="utf-8") for page in pages)
