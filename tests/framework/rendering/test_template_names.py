"""The table of names that templates see is complete."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from jinja2 import pass_context
from jinja2.runtime import Context
from tests.support.apps import browser, make_app, templates
from tests.tools.readme import attributes_of

from unwritten import Page
from unwritten.formats.page import TEMPLATE_NAMES
from unwritten.rendering.regions import PageView, Region
from unwritten_engine import scripted

PROBE = """{% extends "layout.html" %}{% block main %}<pre>{{ seen() }}</pre>{% endblock %}"""


def test_every_name_that_a_template_sees_is_documented(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Text."), folder=templates(tmp_path, probe=PROBE))
    found: set[str] = set()

    @pass_context
    def seen(context: Context) -> str:
        found.update(name for name in context.get_all() if not name.startswith("_"))
        return ""

    @app.page("/")
    def front() -> Page:
        return Page("probe.html", title="Front", seen=seen, own=1)

    jinja = {"range", "dict", "lipsum", "cycler", "joiner", "namespace"}
    with browser(app) as client:
        assert client.get("/").status_code == 200
    assert found - jinja - {"seen", "own"} == set(TEMPLATE_NAMES)


@pytest.mark.parametrize("kind", [PageView, Region])
def test_every_attribute_of_pages_and_regions_is_documented(kind: type) -> None:
    described = {name for name, _ in attributes_of(kind)}
    fields = {field.name for field in dataclasses.fields(kind)}
    assert fields <= described
