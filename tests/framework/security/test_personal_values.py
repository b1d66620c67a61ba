"""What one visitor's session holds is not sent to another, and actions check before they commit."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import itsdangerous
import pytest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from tests.support.apps import BROWSER, LIVE, make_app, templates, until, watch
from tests.support.forum import action_url
from tests.support.servers import wait_for

from unwritten import App, Canvas, Page, Redraw
from unwritten.storage.tables import Table
from unwritten_engine import scripted

KEY = "key of the sessions"

NOTES = """{% extends "layout.html" %}{% block main %}
{% block note %}{{ user }} sees {{ note }}{% endblock %}{% block body %}For {{ user }}: {{ body }}{% endblock %}
<form {{ action("save") }}><input name="text"><button>Save</button></form>{% endblock %}"""


class Note(BaseModel):
    id: int | None = None
    text: str


def cookie(user: str) -> dict[str, str]:
    data = base64.b64encode(json.dumps({"user": user}).encode())
    return {"cookie": "session=" + itsdangerous.TimestampSigner(KEY).sign(data).decode()}


ANN, BOB = cookie("Ann Smith"), cookie("Bob Jones")


def make_notes(home: Path, script: Any = "Words.", **given: Any) -> tuple[App, Table[Note]]:
    """Return an app whose page shows the name of the visitor, and a note that all visitors share."""
    middleware = [Middleware(SessionMiddleware, secret_key=KEY)]
    folder = templates(home, notes=NOTES)
    app = make_app(home, scripted(script), middleware=middleware, folder=folder, **given)
    notes = app.table(Note)

    @app.page("/notes")
    def page(request: Request) -> Page:
        if "user" not in request.session:
            raise HTTPException(401)
        note = [note.text for note in notes.select()][-1:]
        if note == ["hide"]:
            raise HTTPException(404)
        return Page("notes.html", user=request.session["user"], note=note, body=Canvas("A note."))

    @app.action("/save")
    def save(text: str) -> Redraw | None:
        notes.insert(Note(text=text))
        return Redraw("nowhere") if text == "nowhere" else None

    return app, notes


def test_each_open_tab_gets_its_own_visitors_values(tmp_path: Path) -> None:
    app, notes = make_notes(tmp_path, ["A", 0.3, "A note", 0.3, "A note."])
    with TestClient(app, headers=BROWSER) as client:
        assert "Ann Smith sees" in client.get("/notes", headers=ANN).text
        with (
            client.websocket_connect(LIVE, headers=ANN) as ann,
            client.websocket_connect(LIVE, headers=BOB) as bob,
            client.websocket_connect(LIVE) as stranger,
        ):
            for ws in (ann, bob, stranger):
                ws.send_json({"type": "follow", "page": "/notes", "seen": {}})
                watch(ws, "/notes")
            assert "Bob Jones sees" in client.get("/notes", headers=BOB).text
            heard = {"Ann Smith": until(ann, type="page", state="written"), "Bob Jones": []}
            heard["Bob Jones"] = until(bob, type="page", state="written")
            notes.insert(Note(text="new"))
            for ws, name in ((ann, "Ann Smith"), (bob, "Bob Jones")):
                while "new" not in (message := ws.receive_json()).get("html", ""):
                    heard[name].append(message)
                heard[name].append(message)
            denied = until(stranger, type="page", state="unwritten")
    for name, other in (("Ann Smith", "Bob Jones"), ("Bob Jones", "Ann Smith")):
        text = json.dumps(heard[name])
        assert f"{name} sees" in text and f"For {name}" in text and other not in text
    assert "html" not in json.dumps(denied)


def test_visitors_that_a_proxy_identifies_by_a_header_are_told_apart(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, notes=NOTES))
    notes = app.table(Note)

    @app.page("/notes")
    def page(request: Request) -> Page:
        if "x-remote-user" not in request.headers:
            raise HTTPException(401)
        note = [note.text for note in notes.select()]
        return Page("notes.html", user=request.headers["x-remote-user"], note=note, body=Canvas("A note."))

    @app.action("/save")
    def save(text: str) -> None:
        notes.insert(Note(text=text))

    @app.route("/recent")
    def recent(request: Request) -> Response:
        return PlainTextResponse(" ".join(entry.key for entry in app.store.recent()))

    ann, bob = {"x-remote-user": "Ann Smith"}, {"x-remote-user": "Bob Jones"}
    with TestClient(app, headers=BROWSER) as client:
        client.get("/notes", headers=ann)
        wait_for(lambda: app.site.store.exists(["/notes"]))
        assert client.get("/recent", headers=ann).text == "/notes"
        assert client.get("/recent").text == "", "the decision for one visitor is not used for another"
        with (
            client.websocket_connect(LIVE, headers=ann) as first,
            client.websocket_connect(LIVE, headers=bob) as second,
        ):
            for ws in (first, second):
                ws.send_json({"type": "follow", "page": "/notes", "seen": {}})
                ws.send_json({"type": "watch", "page": "/nowhere"})
                until(ws, page="/nowhere")
            notes.insert(Note(text="new"))
            for ws, name in ((first, "Ann Smith"), (second, "Bob Jones")):
                while "new" not in (message := ws.receive_json()).get("html", ""):
                    pass
                assert f"{name} sees" in message["html"]


def test_streams_and_stored_pages_have_their_own_visitors_values(tmp_path: Path) -> None:
    app, _ = make_notes(tmp_path)
    with TestClient(app, headers=BROWSER) as client:
        for headers, name, other in ((ANN, "Ann Smith", "Bob Jones"), (BOB, "Bob Jones", "Ann Smith")) * 2:
            for path in ("/notes", "/notes?plain=1"):
                page = client.get(path, headers=headers).text
                assert f"{name} sees" in page and other not in page


def test_a_prompt_with_a_value_of_the_visitor_is_an_error_in_development(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for debug in (True, False):
        middleware = [Middleware(SessionMiddleware, secret_key=KEY)]
        app = make_app(tmp_path, scripted("Words."), middleware=middleware, debug=debug)

        @app.page("/hello/{title}")
        def hello(request: Request, title: str) -> Canvas:
            return Canvas(f"A greeting for {request.session['user']} about {title}.")

        @app.page("/titled")
        def titled(request: Request) -> Page:
            return Page(title=request.session["user"], body=Canvas("A text."))

        with TestClient(app, headers={**BROWSER, **ANN}, raise_server_exceptions=False) as client:
            answer = client.get("/hello/Tea")
            assert answer.status_code == (500 if debug else 200)
            assert client.get("/hello/Ann_Smith").status_code == 200, "the URL has the same words"
            assert client.get("/titled").status_code == (500 if debug else 200)
        assert "request.session['user']" in caplog.text and "canvas 'body'" in caplog.text
        assert "The title on /titled" in caplog.text
        caplog.clear()


LANGUAGES = {"de": "German", "fr": "French"}


@pytest.mark.parametrize(
    ("read", "source"),
    [
        (lambda request: LANGUAGES.get(request.cookies.get("language", ""), "English"), "the cookie 'language'"),
        (lambda request: "one" if "name" in request.cookies else "all", "the cookie 'name'"),
        (lambda request: request.session.get("tea", "green"), "request.session['tea']"),
        (lambda request: request.cookies["session"] and "all", ""),
        (lambda request: "all", ""),
    ],
)
def test_values_that_only_other_visitors_have_are_an_error_in_development(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, read: Callable[[Request], str], source: str
) -> None:
    middleware = [Middleware(SessionMiddleware, secret_key=KEY)]
    app = make_app(tmp_path, scripted("Words."), middleware=middleware, debug=True)

    @app.page("/hello/{title}")
    def hello(request: Request, title: str) -> Canvas:
        return Canvas(f"A greeting for {read(request)} about {title}.")

    with TestClient(app, headers={**BROWSER, **ANN}, raise_server_exceptions=False) as client:
        assert client.get("/hello/Tea").status_code == (500 if source else 200)
    assert source in caplog.text


def test_an_action_checks_the_page_first(tmp_path: Path) -> None:
    app, notes = make_notes(tmp_path)
    with TestClient(app, headers=BROWSER, follow_redirects=False) as client:
        client.get("/notes", headers=ANN)
        wait_for(lambda: app.site.jobs.get("/notes") is None)
        url = action_url(client.get("/notes", headers=ANN).text, "/save")
        assert client.post(url, data={"text": "a"}).status_code == 401
        assert notes.count() == 0
        assert client.post(url, data={"text": "b"}, headers=ANN).status_code == 303
        assert [note.text for note in notes] == ["b"]


def test_an_action_that_is_committed_is_answered_although_its_page_fails(tmp_path: Path) -> None:
    app, notes = make_notes(tmp_path)
    with TestClient(app, headers={**BROWSER, **ANN}, follow_redirects=False) as client:
        client.get("/notes")
        wait_for(lambda: app.site.jobs.get("/notes") is None)
        url = action_url(client.get("/notes").text, "/save")
        answer = client.post(url, data={"text": "hide"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/notes")
        assert [note.text for note in notes] == ["hide"]
        again = client.post(url, data={"text": "hide"})
        assert again.status_code == 303 and notes.count() == 1, "the same form gets the same response"


def test_an_action_with_a_session_that_cannot_be_stored_is_rolled_back(tmp_path: Path) -> None:
    app, notes = make_notes(tmp_path)

    @app.action("/enter")
    def enter(text: str, request: Request) -> None:
        notes.insert(Note(text=text))
        request.session["at"] = date(2020, 2, 2) if text == "bad" else "2020-02-02"

    templates(tmp_path, notes=NOTES.replace('action("save")', 'action("enter")'))
    with TestClient(app, headers={**BROWSER, **ANN}, follow_redirects=False, raise_server_exceptions=False) as client:
        client.get("/notes")
        wait_for(lambda: app.site.jobs.get("/notes") is None)
        for text, status in (("bad", 500), ("good", 303)):
            url = action_url(client.get("/notes").text, "/enter")
            assert client.post(url, data={"text": text}).status_code == status
        assert [note.text for note in notes] == ["good"]


def test_an_action_that_redraws_an_unknown_region_is_rolled_back(tmp_path: Path) -> None:
    app, notes = make_notes(tmp_path)
    with TestClient(app, headers={**BROWSER, **ANN}, raise_server_exceptions=False) as client:
        client.get("/notes")
        wait_for(lambda: app.site.jobs.get("/notes") is None)
        url = action_url(client.get("/notes").text, "/save")
        assert client.post(url, data={"text": "nowhere"}).status_code == 500
        assert notes.count() == 0
