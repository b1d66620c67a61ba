"""Variants: one stored page for each value of ``vary=``, read only by requests with the same value."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.testclient import TestClient
from tests.support.apps import LIVE, browser, make_app, make_wiki, tables, until, write
from tests.support.servers import wait_for

from unwritten import App, BadApp, Canvas, Visit
from unwritten.core.paths import page_key
from unwritten.export.static_site import export_site
from unwritten.storage.records import PageWrite, Provenance, StoredCanvas
from unwritten_engine import Engine, scripted

KEY = "/notes/Tea"


class Fact(BaseModel):
    text: str


ANN, BOB, GUEST = {"x-user": "ann"}, {"x-user": "bob"}, dict[str, str]()


def user_of(request: Request) -> str | None:
    return request.headers.get("x-user")


def answer(request: Any) -> str:
    """Write what the prompt says, with a link."""
    return f"Words: {request.prompt.ask} See [[Salt]]."


def make_notes(home: Path, engine: Engine | None = None, **given: Any) -> App:
    app = make_app(home, engine or scripted(answer), **{"edits": "on", **given})

    @app.page("/notes/{name}", vary=user_of)
    def note(name: str, visit: Visit) -> str:
        return f"A note on {name} for {visit.vary or 'guests'}."

    @app.page("/wiki/{title}", links="/notes/{name}")
    def article(title: str) -> str:
        return f"An article about {title}."

    @app.route("/lists")
    def lists(request: Request) -> Response:
        store = app.store
        return JSONResponse(
            {
                "recent": [page.key for page in store.recent()],
                "search": [page.key for page in store.search("ann")],
                "links": [page.key for page in store.links_to("/notes/Salt#vary=ann")],
                "missing": [node.key for node in store.missing_pages()],
            }
        )

    return app


def generate(client: TestClient, headers: Mapping[str, str], key: str = KEY) -> str:
    """Open a page for a visitor, and return its text when it is stored."""
    client.get(key, headers=headers)
    wait_for(lambda: 'aria-busy="true"' not in client.get(key, headers=headers).text)
    return client.get(key, headers=headers).text


def test_each_value_has_a_page_of_its_own_and_none_is_shared(tmp_path: Path) -> None:
    app = make_notes(tmp_path)
    with browser(app) as client:
        for headers, words in ((ANN, "for ann"), (BOB, "for bob"), (GUEST, "for guests")):
            assert words in generate(client, headers)
        for headers, words in (
            (ANN, "for ann"),
            (BOB, "for bob"),
            (GUEST, "for guests"),
            ({"x-other": "1"}, "for guests"),
        ):
            assert words in client.get(KEY, headers=headers).text
        assert len(app.site.engine.requests) == 3  # type: ignore[attr-defined]
    assert [row["key"] for row in tables(tmp_path / "pages.db")["pages"]] == [f"{KEY}#vary=ann", f"{KEY}#vary=bob", KEY]


def test_all_representations_tell_caches_what_they_depend_on(tmp_path: Path) -> None:
    app = make_notes(tmp_path)

    @app.page("/secret/{name}", allow=lambda request: "x-user" in request.headers)
    def secret(name: str) -> str:
        return f"A plan for {name}."

    @app.page("/mine/{name}")
    def mine(name: str, request: Request) -> str:
        return f"A text about {name}."

    json_of = {"accept": "application/json"}
    with browser(app) as client:
        for path in (KEY, "/secret/Plan", "/mine/Tea", "/wiki/Tea"):
            began = [client.head(path, headers=ANN), client.get(path, headers=ANN)]
            assert all(answer.headers["cache-control"] == "no-store" for answer in began)
            generate(client, ANN, path)
            wait_for(lambda url=f"{path}.json": client.get(url, headers=ANN).status_code == 200)  # type: ignore[misc]
            kept = [client.get(path, headers=ANN), client.get(f"{path}?version=1", headers=ANN)]
            data = [client.get(f"{path}.json", headers=ANN), client.get(path, headers={**ANN, **json_of})]
            again = client.get(path, headers={**ANN, **json_of, "if-none-match": data[0].headers["etag"]})
            assert again.status_code == 304
            for answer in (*kept, *data, again):
                assert ("Cookie" in answer.headers["vary"]) == (path == KEY)
                assert answer.headers["vary"].startswith("Accept")
            assert {answer.headers["cache-control"] for answer in (*data, again)} == {"private, no-cache"}
            expected = "no-cache" if path == "/wiki/Tea" else "private, no-cache"
            assert {answer.headers["cache-control"] for answer in kept} == {expected}
            history = client.get(
                "/_unwritten/history", params={"page": path if path != KEY else f"{KEY}#vary=ann"}, headers=ANN
            )
            assert (history.status_code, history.headers["cache-control"]) == (200, "no-store")
        for moved in (client.get("/notes/Great Tea"), client.get("/notes/Great Tea.json")):
            assert (moved.status_code, moved.headers["cache-control"]) == (302, "private, no-cache")
        unwritten = client.get("/notes/Other.json", headers=ANN)
        assert unwritten.status_code == 404 and "Cookie" in unwritten.headers["vary"]


def test_lists_find_the_variant_of_a_visitor_among_those_of_many_others(tmp_path: Path) -> None:
    """One check for each URL finds it, however many variants the URL has."""
    app, calls = make_app(tmp_path, scripted(answer)), list[str]()

    def user(request: Request) -> str | None:
        calls.append("vary")
        return user_of(request)

    @app.page("/notes/{name}", vary=user)
    def note(name: str) -> Canvas:
        return Canvas("A note.", schema=Fact)

    @app.route("/lists")
    def lists(request: Request) -> Response:
        store = app.store
        found = [store.recent(), store.search("words"), store.all(), store.all(-1)]
        values = [source.key for source, _ in app.values(Fact)]
        return JSONResponse([*[[page.key for page in pages] for pages in found], values])

    provenance = Provenance("a script", "scripted", 7, 5, 5, 1, 0.5, "end")
    fact = StoredCanvas("body", "typed", "{}", '{"text":"words"}', 7, 5, 5, 1, 0.5, "end", schema="Fact")

    def page(user: str) -> PageWrite:
        return PageWrite(f"{KEY}#vary={user}", "Tea", "Some words.", "hash", provenance, (fact,), ())

    with browser(app) as client:
        app.site.store.save_all(page(user) for user in ("ann", *(f"u{number}" for number in range(2000))))
        own = [f"{KEY}#vary=ann"]
        for headers, expected in ((ANN, own), (BOB, []), (GUEST, [])):
            calls.clear()
            assert client.get("/lists", headers=headers).json() == [expected] * 5
            assert len(calls) == 1


def test_behind_middleware_pages_are_held_by_browsers_only(tmp_path: Path) -> None:
    class Login:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    app = make_wiki(tmp_path, scripted("Words."), middleware=[Middleware(Login)])
    with browser(app) as client:
        write(client, "/wiki/Tea")
        assert client.get("/wiki/Tea").headers["cache-control"] == "private, no-cache"


def test_responses_are_not_stored_by_others_and_revalidated_by_their_variant(tmp_path: Path) -> None:
    with browser(make_notes(tmp_path)) as client:
        generate(client, ANN)
        generate(client, BOB)
        ann, bob = client.get(KEY, headers=ANN), client.get(KEY, headers=BOB)
        assert ann.headers["cache-control"] == "private, no-cache" and "Cookie" in ann.headers["vary"]
        assert ann.headers["etag"] != bob.headers["etag"]
        again = client.get(KEY, headers={**ANN, "if-none-match": ann.headers["etag"]})
        assert again.status_code == 304 and again.headers["cache-control"] == "private, no-cache"
        assert client.get(KEY, headers={**BOB, "if-none-match": ann.headers["etag"]}).status_code == 200
        write(client, "/wiki/Cup")
        assert client.get("/wiki/Cup").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("headers", [BOB, GUEST])
def test_no_visitor_reads_the_variant_of_another(tmp_path: Path, headers: dict[str, str]) -> None:
    key = f"{KEY}#vary=ann"
    with browser(make_notes(tmp_path)) as client:
        generate(client, ANN)
        quoted = key.replace("#", "%23")
        for path in ("/_unwritten/history", "/_unwritten/edit"):
            assert client.get(f"{path}?page={quoted}", headers=ANN).status_code == 200
            assert client.get(f"{path}?page={quoted}", headers=headers).status_code == 403
            assert client.get(f"{path}?page={KEY}", headers=headers).status_code == 404  # their own
        edit = {"page": key, "region": "body", "base": "1", "means": "by hand", "text": "Mine."}
        assert client.post("/_unwritten/edit", data=edit, headers=headers).status_code == 403
        assert client.post("/_unwritten/rewrite", data={"page": key}, headers=headers).status_code == 403
        assert client.post("/_unwritten/write", data={"page": key}, headers=headers).status_code == 403
        for path in (quoted, f"{KEY}%2523vary=ann", f"{KEY}?version=1", f"{KEY}?vary=ann"):
            assert "for ann" not in client.get(path, headers=headers).text
        with client.websocket_connect(LIVE, headers=headers) as ws:
            for kind in ("watch", "follow"):
                ws.send_json({"type": kind, "page": key, "seen": {}})
                assert until(ws, type="page")[-1]["state"] == "unwritten"
        with client.websocket_connect(LIVE, headers=ANN) as ws:
            ws.send_json({"type": "watch", "page": key, "seen": {}})
            assert until(ws, type="page")[-1]["state"] == "written"


def test_open_tabs_get_only_the_frames_of_their_variant(tmp_path: Path) -> None:
    with browser(make_notes(tmp_path)) as client:
        generate(client, ANN)
        generate(client, BOB)
        with (
            client.websocket_connect(LIVE, headers=ANN) as ann,
            client.websocket_connect(LIVE, headers=BOB) as bob,
        ):
            ann.send_json({"type": "follow", "page": f"{KEY}#vary=ann", "seen": {"body": 1}})
            bob.send_json({"type": "follow", "page": f"{KEY}#vary=bob", "seen": {"body": 1}})
            client.post("/_unwritten/rewrite", data={"page": f"{KEY}#vary=ann"}, headers=ANN)
            frames = [message.get("html", "") for message in until(ann, type="page", state="written")]
            assert any("for ann" in html for html in frames)
            bob.send_json({"type": "view", "page": 1})  # an invalid message, whose reply is the next one
            assert bob.receive_json()["type"] == "refused"


def test_lists_links_and_missing_pages_are_those_of_the_own_variant(tmp_path: Path) -> None:
    with browser(make_notes(tmp_path)) as client:
        generate(client, ANN)
        generate(client, ANN, "/notes/Salt")
        write(client, "/wiki/Cup")
        assert client.get(KEY, headers=ANN).text.count('href="/notes/Salt" class="written"') == 1
        assert 'href="/notes/Salt" class="unwritten"' in client.get("/wiki/Cup").text
        generate(client, BOB)
        assert 'href="/notes/Salt" class="unwritten"' in client.get(KEY, headers=BOB).text  # not Bob's
        ann, bob, guest = (client.get("/lists", headers=headers).json() for headers in (ANN, BOB, GUEST))
    own = {f"{KEY}#vary=ann", "/notes/Salt#vary=ann"}
    assert {*ann["recent"]} == {*own, "/wiki/Cup"} and {*ann["search"]} == own
    assert ann["links"] == [f"{KEY}#vary=ann"]
    assert {*bob["recent"]} == {f"{KEY}#vary=bob", "/wiki/Cup"} and bob["search"] == [] == bob["links"]
    assert "/notes/Salt#vary=bob" in bob["missing"] and "/notes/Salt#vary=ann" not in bob["missing"]
    assert guest["recent"] == ["/wiki/Cup"]


def test_prompts_of_other_pages_have_no_words_of_a_variant(tmp_path: Path) -> None:
    app = make_notes(tmp_path)
    with browser(app) as client:
        generate(client, ANN, "/notes/Cup")
        write(client, "/wiki/Salt")
        generate(client, BOB, "/notes/Salt")
        requests = app.site.engine.requests  # type: ignore[attr-defined]
        assert not any("for ann" in fact for request in requests[1:] for fact in request.prompt.facts)


def test_links_to_variants_have_a_url_without_the_value(tmp_path: Path) -> None:
    app = make_notes(tmp_path, signed_links="on")
    with browser(app) as client:
        assert client.post("/_unwritten/write", data={"page": KEY}, headers=ANN).headers["location"] == KEY
        generate(client, ANN)
        link = app.site.template_globals.link
        assert link(f"{KEY}#vary=ann") == KEY
        assert link(f"{KEY}#vary=bob").startswith(f"{KEY}?")  # signed, because it is not written
        page = client.get(KEY, headers=ANN).text
        assert f'href="{KEY}#vary' not in page and f"page={KEY}%23vary%3Dann" in page
        assert (
            client.post("/_unwritten/rewrite", data={"page": f"{KEY}#vary=ann"}, headers=ANN)
            .headers["location"]
            .endswith(KEY)
        )


def test_a_page_is_prefetched_in_the_variant_of_the_reader(tmp_path: Path) -> None:
    app = make_notes(tmp_path, prefetch="on")
    with browser(app) as client:
        generate(client, ANN)
        with client.websocket_connect(LIVE, headers=ANN) as ws:
            links = ["/notes/Salt"]
            ws.send_json({"type": "view", "page": f"{KEY}#vary=ann", "links": links, "hover": None, "press": None})
            message = until(ws, type="written")[-1]
        assert message["links"] == ["/notes/Salt"]
        assert "for ann" in client.get("/notes/Salt", headers=ANN).text
    keys = [row["key"] for row in tables(tmp_path / "pages.db")["pages"]]
    assert keys == [f"{KEY}#vary=ann", "/notes/Salt#vary=ann"]


def test_an_export_has_the_variant_of_visitors_without_cookies(tmp_path: Path) -> None:
    with browser(make_notes(tmp_path)) as client:
        generate(client, ANN)
        generate(client, GUEST)
        generate(client, ANN, "/notes/Milk")
    report = export_site(make_notes(tmp_path), tmp_path / "out")
    assert report.keys == {KEY} and {*report.left_out} == {f"{KEY}#vary=ann", "/notes/Milk#vary=ann"}
    texts = " ".join(path.read_text() for path in (tmp_path / "out").rglob("*.html"))
    assert "for guests" in texts and "for ann" not in texts


@pytest.mark.parametrize(
    ("value", "words"), [(7, "must return a text"), ("", "1 to 64"), ("x" * 65, "1 to 64"), ("a/b#c", "1 to 64")]
)
def test_a_value_that_is_no_short_text_is_an_error_and_nothing_is_generated(
    tmp_path: Path, value: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = scripted("Words.")
    app = make_app(tmp_path, engine)
    app.page("/x", vary=lambda request: value)(lambda: "Words.")
    with browser(app, raise_server_exceptions=False) as client, caplog.at_level(logging.ERROR, "unwritten"):
        assert client.get("/x").status_code == 500
    assert words in caplog.text and not engine.requests


def test_a_function_that_raises_decides_the_response(tmp_path: Path) -> None:
    def login(request: Request) -> str:
        if "x-user" not in request.headers:
            raise HTTPException(401)
        raise RuntimeError("The table of users is gone.")

    engine = scripted("Words.")
    app = make_app(tmp_path, engine)
    app.page("/x", vary=login)(lambda: "Words.")
    with browser(app, raise_server_exceptions=False) as client:
        assert client.get("/x").status_code == 401
        assert client.get("/x", headers=ANN).status_code == 500
    assert not engine.requests


def test_it_may_be_async_and_must_take_a_request(tmp_path: Path) -> None:
    async def language(request: Request) -> str:
        await asyncio.sleep(0)
        return "de"

    app = make_app(tmp_path, scripted("Wörter."))
    app.page("/x", vary=language)(lambda: "Words.")
    with pytest.raises(BadApp, match="vary="):
        app.page("/y", vary="de")  # type: ignore[arg-type]
    with pytest.raises(BadApp, match="one argument"):
        app.page("/z", vary=lambda: "de")  # type: ignore[arg-type,misc]
    with browser(app) as client:
        generate(client, GUEST, "/x")
    assert [row["key"] for row in tables(tmp_path / "pages.db")["pages"]] == ["/x#vary=de"]


def test_a_page_has_a_limited_number_of_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unwritten.routing.vary_rule.MAX_VARIANTS", 2)
    app = make_notes(tmp_path)
    with browser(app) as client:
        for name in ("ann", "bob"):
            generate(client, {"x-user": name})
        wait_for(lambda: app.site.store.count_variants(KEY) == 2)
        with caplog.at_level(logging.ERROR, "unwritten"):
            assert client.get(KEY, headers={"x-user": "eve"}).status_code == 403
        assert "too many different values" in caplog.text
        assert "for ann" in client.get(KEY, headers=ANN).text
        assert "for guests" in generate(client, GUEST)  # the shared one does not count
        assert "for eve" in generate(client, {"x-user": "eve"}, "/notes/Teapot")


def test_a_variant_is_continued_when_its_visitor_opens_it(tmp_path: Path) -> None:
    app = make_notes(tmp_path)
    with browser(app) as client:
        found = client.portal.call(app.site.resolver.resolve_without_visitor, KEY)  # type: ignore[union-attr]
    assert found is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("/a#vary=de", "/a#vary=de"),
        ("/a?b=1#vary=de", "/a?b=1#vary=de"),
        ("/a#section", "/a"),
        ("/a#vary=", "/a"),
        ("/a#vary=x%20y", "/a"),
        ("/a#vary=x#vary=y", "/a"),
        ("/a%23vary=de", "/a%23vary=de"),
    ],
)
def test_only_a_valid_variant_is_part_of_a_key(text: str, key: str) -> None:
    assert page_key(text) == key


# -- pages without variants -------------------------------------------------------------------------------------------


def by_language(request: Request) -> str:
    return f"Tea, in {request.headers.get('accept-language', 'en')[:2]}."


def by_cookie(request: Request) -> Canvas:
    return Canvas(f"Tea for {'experts' if 'pro' in request.cookies else 'beginners'}.")


def by_visitor(visit: Visit) -> str:
    return f"Tea{' again' if visit.visitor else ''}."


def by_address(request: Request) -> str:
    return f"Tea at {request.client.host if request.client else ''}."


@pytest.mark.parametrize(
    ("function", "source"),
    [
        (by_language, "the header 'accept-language'"),
        (by_cookie, "a cookie"),
        (by_address, "request.client"),
    ],
)
def test_a_prompt_that_depends_on_the_visitor_is_an_error_in_development(
    tmp_path: Path, function: Callable[..., Any], source: str
) -> None:
    engine = scripted("Words.")
    app = make_app(tmp_path, engine, debug=True)
    app.page("/x")(function)
    with browser(app, raise_server_exceptions=False) as client:
        page = client.get("/x", headers={"cookie": "pro=1", "accept-language": "de"})
        assert page.status_code == 500 and "vary=" in page.text
        assert source in json.dumps(page.text) or source.replace("'", "&#39;") in page.text
    assert not engine.requests


def test_reading_the_visitor_for_access_or_for_the_template_is_no_error(tmp_path: Path) -> None:
    numbers = iter(range(1000))
    app = make_app(tmp_path, scripted("Words."), debug=True)

    @app.page("/access/{name}")
    def access(name: str, request: Request) -> str:
        if "pro" not in request.cookies:
            raise HTTPException(403)
        return f"Tea with {name}."

    @app.page("/random")
    def random(request: Request) -> str:
        return f"Tea number {next(numbers)} of {len(request.headers)}."

    @app.page("/vary", vary=lambda request: request.headers.get("accept-language", "en")[:2])
    def vary(request: Request, visit: Visit) -> str:
        assert visit.vary == request.headers.get("accept-language", "en")[:2]
        return f"Tea in {request.headers.get('accept-language', 'en')[:2]}."

    with browser(app) as client:
        for path in ("/access/milk", "/random", "/vary"):
            assert client.get(path, headers={"cookie": "pro=1", "accept-language": "de"}).status_code == 200
