from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from unwritten import App, Page, Visit
from unwritten.security.signer import VisitorCookie
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


def test_a_browser_is_known_again_after_its_first_form_and_no_other_is_it(app: App) -> None:
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


def test_only_a_cookie_that_this_world_has_given_counts() -> None:
    ours, theirs = VisitorCookie(lambda: b"one"), VisitorCookie(lambda: b"two")
    cookie, visitor = ours.new()
    assert ours.read(request(cookie, ours)) == visitor
    assert visitor not in cookie, "what a table holds is no cookie"
    for forged in (cookie[:-1] + ("0" if cookie[-1] != "0" else "1"), "", "x" * 5000, f"{visitor}.{visitor}"):
        assert ours.read(request(forged, ours)) == ""
    assert ours.name != theirs.name
    assert theirs.read(request(cookie, theirs)) == ""


def test_the_cookie_is_out_of_reach_of_scripts_and_of_plain_http_where_there_is_https() -> None:
    visitor_cookie = VisitorCookie(lambda: b"secret")
    response = Response()
    visitor_cookie.set_on(response, "c", request(""))
    sent = response.headers["set-cookie"].lower()
    assert "httponly" in sent and "samesite=lax" in sent and "secure" in sent and "path=/" in sent
