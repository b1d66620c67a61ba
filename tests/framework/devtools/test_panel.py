"""The developer panel."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel
from tests.support.apps import make_app, make_two, make_wiki
from tests.support.html_checks import page_faults

from unwritten import Canvas, Page
from unwritten.testing import VisitedPage, Visitor, answers
from unwritten_engine import scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import ABOUT, HANG, denoising_frames

PANEL = "/_unwritten/developer?page="


def facts(page: VisitedPage) -> str:
    """Return the text of the panel on one line."""
    return " ".join(page.text.split())


def test_the_panel_shows_the_prompt_the_settings_and_the_figures(tmp_path: Path) -> None:
    visitor = Visitor(
        make_wiki(tmp_path, answers({"tea": denoising_frames("Tea is a [[drink]].", steps=4)}), debug=True)
    )
    visitor.visit("/wiki/Tea")
    panel = visitor.visit(f"{PANEL}/wiki/Tea")
    assert page_faults(panel.html) == []
    for words in (
        "An encyclopedia article about Tea.",  # the ask
        "=== An encyclopedia article about Violin.",  # an example
        "Every text is short, calm and complete.",  # the system part
        "opening **Tea**",
        "frames 5",
        "steps 4 at",
        "ended by its own end",
        "seed 0",
        "budget 256 tokens in 1 canvas",
        "engine scripted",
        "state written",
        "version 1 of 1",
        "stored, rendered now",
        "SELECT p.key, v.title",
    ):
        assert words in facts(panel), words


def test_the_panel_shows_assumed_bounds(tmp_path: Path) -> None:
    class Recipe(BaseModel):
        servings: int

    about = replace(ABOUT, abilities=replace(ABOUT.abilities, patterns=True))
    app = make_app(tmp_path, scripted('{"servings":4}', about=about), debug=True)

    @app.page("/recipe")
    def recipe() -> Page:
        return Page(body=Canvas("A recipe.", schema=Recipe))

    visitor = Visitor(app)
    visitor.visit("/recipe")
    assert "assumed bounds servings: 1 to 10" in facts(visitor.visit(f"{PANEL}/recipe"))


def test_a_frame_is_rendered_as_the_page_showed_it(tmp_path: Path) -> None:
    engine = answers({"lead": denoising_frames("A tower with a [[lamp]].", steps=4), "body": "It stands by the sea."})
    visitor = Visitor(make_two(tmp_path, engine, debug=True))
    visitor.visit("/")
    first = visitor.visit(f"{PANEL}/&canvas=lead&at=0&bare=frame")
    assert 'max="4" value="0"' in first.html and "1/5 · step 1 of at most 4" in first.html
    assert 'class="unsettled"' in first.html and "% unsettled" in first.html
    last = visitor.visit(f"{PANEL}/&canvas=lead&at=99&bare=frame")
    assert 'value="4"' in last.html and "settled," in last.html and "unsettled</output>" not in last.html
    assert '>A tower with a <a href="/lamp"' in last.html or ">A tower with a lamp" in last.html
    assert "A tower with a [[lamp]]." in last.html


def test_the_panel_of_a_running_job(tmp_path: Path) -> None:
    script = ["Tea", HANG]
    visitor = Visitor(make_wiki(tmp_path, answers({"tea": script}), debug=True))
    visitor.visit("/wiki/Tea", wait=False)
    early = visitor.visit(f"{PANEL}/wiki/Tea&bare=panel")
    assert "data-active" in early.html and "state</dt><dd>writing" in early.html


def test_the_panel_of_a_page_of_an_earlier_server(tmp_path: Path) -> None:
    app, database = make_wiki(tmp_path, answers({"": "Tea is a drink."})), tmp_path / "stored.db"
    with Visitor(app, database=database) as visitor:
        visitor.visit("/wiki/Tea")
    visitor = Visitor(app, database=database, debug=True)
    panel = visitor.visit(f"{PANEL}/wiki/Tea")
    assert "This page was written before the server started." in panel.text
    assert "An encyclopedia article about Tea." in panel.text and "This page has not been requested" in panel.text


def test_repairs_are_shown(tmp_path: Path) -> None:
    class Facts(BaseModel):
        kind: str

    app = make_app(tmp_path, scripted('Here: {"Kind": "drink"}'), debug=True)

    @app.page("/")
    def front() -> Page:
        return Page(body=Canvas("Facts.", schema=Facts))

    for _ in range(2):  # from the recording and from the database
        visitor = Visitor(app)
        visitor.visit("/")
        assert "repaired removed text around the JSON; kind: renamed from 'Kind'" in facts(visitor.visit(f"{PANEL}/"))
        asyncio.run(app.close())


def test_the_panel_of_an_unwritten_page(tmp_path: Path) -> None:
    visitor = Visitor(make_wiki(tmp_path, answers(), debug=True))
    assert "state not written" in facts(visitor.visit(f"{PANEL}/wiki/Tea"))


def test_errors_are_shown(tmp_path: Path) -> None:
    engine = answers({"lead": "A tower.", "body": GenerationFailed("The lamp broke.")})
    visitor = Visitor(make_two(tmp_path, engine, debug=True))
    page = visitor.visit("/", wait=False)
    visitor.wait()
    errors = visitor.visit(f"{PANEL}/&bare=errors")
    assert page.state == "waiting" and "<h2>GenerationFailed</h2>" in errors.html and "The lamp broke." in errors.html
