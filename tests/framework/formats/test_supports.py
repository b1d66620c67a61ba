"""``app.supports``: which formats an engine is able to write, and how the setting overrules it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.apps import browser, make_app, templates

from unwritten import App, Page
from unwritten.core.errors import BadApp, BadPage
from unwritten.formats.registry import FORMATS, MARKUP_FORMATS
from unwritten_engine import Abilities, scripted
from unwritten_engine.scripted import ABOUT

BASE = replace(ABOUT, abilities=Abilities(schemas=True))


def make_prepared_app(home: Path, about: object = ABOUT, **given: object) -> App:
    app = make_app(home, scripted("Text.", about=about), **given)  # type: ignore[arg-type]

    @app.page("/{title}")
    def page(title: str) -> str:
        return f"A page about {title}."

    app.prepare()
    return app


@pytest.mark.parametrize("setting", ["auto", "on", "off"])
@pytest.mark.parametrize("about", [ABOUT, BASE])
def test_the_setting_overrules_the_engine(tmp_path: Path, about: object, setting: str) -> None:
    app = make_prepared_app(tmp_path, about, markup=setting)
    wanted = about is ABOUT if setting == "auto" else setting == "on"
    assert {app.supports(format) for format in MARKUP_FORMATS} == {wanted}
    assert all(app.supports(format) for format in FORMATS.keys() - MARKUP_FORMATS)


def test_an_unknown_format_is_rejected_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(BadPage, match=r"no format 'svgg'.*'svg'"):
        make_prepared_app(tmp_path).supports("svgg")


def test_supports_needs_a_running_app(tmp_path: Path) -> None:
    with pytest.raises(BadApp, match="not running"):
        make_app(tmp_path, scripted("Text.")).supports("svg")


def test_page_functions_and_templates_can_use_supports(tmp_path: Path) -> None:
    probe = '{% extends "layout.html" %}{% block main %}{{ app.supports("svg") }} {{ writes_apps }}{% endblock %}'
    app = make_app(tmp_path, scripted("Text.", about=BASE), folder=templates(tmp_path, probe=probe))

    @app.page("/")
    def front() -> Page:
        return Page("probe.html", title="Front", writes_apps=app.supports("app"))

    with browser(app) as client:
        assert "False False" in client.get("/").text
