"""The visitor cookie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from unwritten import App, Page, Visit
from unwritten.security.signer import Signer, VisitorCookie
from unwritten.testing import Visitor

FORM = """{% extends "layout.html" %}
{% block main %}<form {{ action("mark") }}><button>Mark</button></form>{% endblock %}"""


class Mark(BaseModel):
    id: int | None = None
    visitor: str


@pytest.fixture
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "templates").mkdir()
    (folder / "templates" / "marks.html").write_text(FORM)
    app = App("Marks", folder=folder)
    marks = app.table(Mark)

    @app.page("/")
    def front() -> Page:
        return Page("marks.html", count=marks.count())

    @app.action("/mark")
    def mark(visit: Visit) -> None:
        marks.insert(Mark(visitor=visit.visitor))

    @app.page("/marks")
    def list_marks() -> Response:
        return PlainTextResponse(" ".join(row.visitor for row in marks.select()))

    @app.page("/me")
    def me(visit: Visit) -> Response:
        return PlainTextResponse(visit.visitor)

    yield app


def test_a_browser_is_recognized_after_its_first_form(app: App) -> None:
    visitor = Visitor(app)
    assert visitor.visit("/me").text == ""
    visitor.visit("/").submit("Mark")
    visitor.visit("/").submit("Mark")
    other = visitor.another()
    assert other.visit("/me").text == ""
    other.visit("/").submit("Mark")
    first, again, theirs = visitor.visit("/marks").text.split()
    assert first == again == visitor.visit("/me").text
    assert theirs == other.visit("/me").text != first


def request(cookie: str, visitor_cookie: VisitorCookie | None = None) -> Request:
    name = visitor_cookie.name if visitor_cookie else "other"
    header = (b"cookie", f"{name}={cookie}".encode("latin-1"))
    return Request({"type": "http", "method": "GET", "path": "/", "scheme": "https", "headers": [header]})


def test_only_a_cookie_of_this_world_is_accepted() -> None:
    ours, theirs = VisitorCookie(Signer(b"one")), VisitorCookie(Signer(b"two"))
    cookie, visitor = ours.new()
    assert ours.read(request(cookie, ours)) == visitor
    assert visitor not in cookie, "an identifier in a table is not a cookie"
    for forged in (cookie[:-1] + ("0" if cookie[-1] != "0" else "1"), "", "x" * 5000, f"{visitor}.{visitor}"):
        assert ours.read(request(forged, ours)) == ""
    assert ours.name != theirs.name
    assert theirs.read(request(cookie, theirs)) == ""


def test_scripts_and_plain_http_cannot_read_the_cookie() -> None:
    visitor_cookie = VisitorCookie(Signer(b"secret"))
    response = Response()
    visitor_cookie.set_on(response, "c", request(""))
    sent = response.headers["set-cookie"].lower()
    assert "httponly" in sent and "samesite=lax" in sent and "secure" in sent and "path=/" in sent
