"""``app.can``: what the engine is trusted with, and who has the last word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.apps import browser, make_app, templates

from unwritten import App, Page
from unwritten.core.errors import BadApp, BadPage
from unwritten.formats.registry import FORMATS, MARKUP
from unwritten_engine import Abilities, scripted
from unwritten_engine.scripted import ABOUT

BASE = replace(ABOUT, abilities=Abilities(schemas=True))


def prepared(home: Path, about: object = ABOUT, **given: object) -> App:
    app = make_app(home, scripted("Text.", about=about), **given)  # type: ignore[arg-type]
    app.prepare()
    return app


@pytest.mark.parametrize("setting", ["auto", "on", "off"])
@pytest.mark.parametrize("about", [ABOUT, BASE])
def test_the_setting_overrules_the_engine(tmp_path: Path, about: object, setting: str) -> None:
    app = prepared(tmp_path, about, markup=setting)
    wanted = about is ABOUT if setting == "auto" else setting == "on"
    assert {app.supports(format) for format in MARKUP} == {wanted}
    assert all(app.supports(format) for format in FORMATS.keys() - MARKUP)


def test_an_unknown_format_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(BadPage, match=r"no format 'svgg'.*'svg'"):
        prepared(tmp_path).supports("svgg")


def test_before_there_is_an_engine_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadApp, match="prepared"):
        make_app(tmp_path, scripted("Text.")).supports("svg")


def test_page_functions_and_templates_ask_it(tmp_path: Path) -> None:
    probe = '{% extends "layout.html" %}{% block main %}{{ app.supports("svg") }} {{ drawn }}{% endblock %}'
    app = make_app(tmp_path, scripted("Text.", about=BASE), folder=templates(tmp_path, probe=probe))

    @app.page("/")
    def front() -> Page:
        return Page("probe.html", title="Front", drawn=app.supports("app"))

    with browser(app) as client:
        assert "False False" in client.get("/").text
