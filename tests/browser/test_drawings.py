"""Drawings in a browser: they grow in place, have a name, and use the page's colors."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.browser.tabs import OpenTab, Serve, until
from tests.support.apps import templates
from tests.support.svg_checks import KETTLE

from unwritten import App, Canvas, Page
from unwritten_engine.scripted import scripted

pytestmark = pytest.mark.browser

TWO = """{% extends "layout.html" %}{% block main %}<article class="page"><h1>{{ page.title }}</h1>
{% block art %}{{ art }}{% endblock %}<figure>{% block other %}{{ other }}{% endblock %}</figure>
</article>{% endblock %}"""


def drawings(home: Path, delay: float = 0.0) -> App:
    steps = [KETTLE[:end] for end in range(60, len(KETTLE), 40)]
    app = App(
        "Drawings",
        engine=scripted([*steps, KETTLE], delay=delay),
        folder=templates(home, two=TWO),
        database=str(home / "pages.db"),
    )

    @app.page("/p/{title}")
    def page(title: str) -> Page:
        canvas = Canvas(f"A drawing of {title}.", "svg", tokens=900)
        return Page("two.html", title=title, art=canvas, other=canvas)

    return app


def test_a_drawing_grows_in_place(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    tab.goto(f"{serve(drawings(tmp_path, 0.15))}/p/Kettle")
    shapes = "() => document.querySelectorAll('#region-art svg.drawing :is(path, circle, polyline, use, text)').length"
    until(lambda: tab.js(shapes) >= 1)
    tab.js("() => { window.first = document.querySelector('#region-art svg.drawing path') }")
    seen = [1]
    while seen[-1] < 5:
        seen.append(tab.js(shapes))
    assert seen == sorted(seen) and len(set(seen)) > 2
    tab.finished()
    assert tab.js("() => first.isConnected && first === document.querySelector('#region-art svg.drawing path')")


def test_each_drawing_has_a_name_a_size_and_unique_ids(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    tab.goto(f"{serve(drawings(tmp_path))}/p/Kettle")
    tab.finished()
    assert tab.page.get_by_role("img", name="A kettle & steam It boils.").count() == 2
    sizes = tab.js("""() => [...document.querySelectorAll("svg.drawing")].map((svg) => {
        const { width, height } = svg.getBoundingClientRect(), room = svg.parentElement.getBoundingClientRect().width;
        return [Math.round(width - room), Math.round(100 * width / height)];
    })""")
    assert sizes == [[0, 150], [0, 150]], "as wide as the region, with the aspect ratio of the viewBox"
    ids = tab.js("() => [...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
    reached = """() => [...document.querySelectorAll("svg.drawing use")].every((use) =>
        use.closest("svg.drawing").contains(document.getElementById(use.getAttribute("href").slice(1))))"""
    assert tab.js(reached)
    painted = """() => [...document.querySelectorAll("svg.drawing polyline")].map((line) => {
        const id = /#([^"')]+)/.exec(getComputedStyle(line).fill)[1];
        return line.closest("svg.drawing").contains(document.getElementById(id));
    })"""
    assert tab.js(painted) == [True, True]


@pytest.mark.parametrize(("scheme", "ink"), [("light", "rgb(31, 29, 26)"), ("dark", "rgb(228, 225, 216)")])
def test_lines_have_the_text_color_of_the_page(
    serve: Serve, open_tab: OpenTab, tmp_path: Path, scheme: str, ink: str
) -> None:
    tab = open_tab(color_scheme=scheme)
    tab.goto(f"{serve(drawings(tmp_path))}/p/Kettle")
    tab.finished()
    looks = """() => [getComputedStyle(document.querySelector("svg.drawing g")).stroke,
        getComputedStyle(document.querySelector("svg.drawing text")).fill, getComputedStyle(document.body).color]"""
    assert tab.js(looks) == [ink, ink, ink]
