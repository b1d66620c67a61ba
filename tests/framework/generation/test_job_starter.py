"""The job starter: which regions of a page are generated."""

from __future__ import annotations

from pathlib import Path

from tests.support.apps import browser, make_app, make_two, templates, write

from unwritten import Canvas, Page
from unwritten_engine import scripted


def test_only_regions_that_are_not_stored_are_generated(tmp_path: Path) -> None:
    engine = scripted("A text.")
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
    engine = scripted("Another text.")
    three = (
        '{% extends "layout.html" %}{% block main %}{% block lead %}{{ lead }}{% endblock %}'
        "{% block body %}{{ body }}{% endblock %}{% block notes %}{{ notes }}{% endblock %}{% endblock %}"
    )
    app = make_app(tmp_path, engine, folder=templates(tmp_path, three=three))

    @app.page("/")
    def front() -> Page:
        return Page("three.html", title="Front", lead=Canvas("Lead."), body=Canvas("Body."), notes=Canvas("Notes."))

    with browser(app) as client:
        write(client, "/")
        page = client.get("/").text
    assert [request.prompt.ask for request in engine.requests] == ["Notes. The subject is Front."]
    assert page.count("A text.") == 2 and page.count("Another text.") == 1


def test_a_region_whose_format_has_changed_is_generated_again(tmp_path: Path) -> None:
    num_requests = []
    for format in ("markdown", "markdown", "text"):
        engine = scripted("A text.")
        app = make_app(tmp_path, engine)

        def front(format: str = format) -> Canvas:
            return Canvas("A note.", format)

        app.page("/note")(lambda: front())
        with browser(app) as client:
            assert "A text." in client.get("/note?plain=1").text
        num_requests.append(len(engine.requests))
    assert num_requests == [1, 0, 1]
