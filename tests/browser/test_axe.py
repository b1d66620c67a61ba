"""Runs axe on pages of the framework and the encyclopedia, light and dark, during and after generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.responses import HTMLResponse
from tests.browser.tabs import OpenTab, Serve, Tab, note, until
from tests.browser.test_access import BODY, FACTS, LEAD
from tests.support.apps import make_app, make_wiki

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten_engine.scripted import HANG, Step, scripted

pytestmark = pytest.mark.browser


TEXT = (
    "A **lighthouse** is a [[Tower]] with a [[Lamp|bright lamp]]. It stands by `the sea`.\n\n## History\n\n"
    "The first one burned wood, and the second burned [[Coal]].\n\n- stone\n- light\n\n> A quiet word.\n\n"
    "| Year | Fuel |\n|---|---|\n| 1811 | wood |\n"
)
DEMOS = Path(__file__).resolve().parents[2] / "demos"
SCHEMES = ("light", "dark")


def looking(tab: Tab) -> tuple[dict[str, str], Callable[[str], None]]:
    """Return the findings by name, and a function that runs axe and adds its findings under a name."""
    found: dict[str, str] = {}

    def look(name: str) -> None:
        findings = tab.axe()
        if findings.grave or findings.moderate:
            found[name] = str(findings)

    return found, look


def test_the_check_finds_faults_in_every_frame(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted())

    @app.page("/bad")
    def bad() -> HTMLResponse:
        inner = "<button></button>"
        return HTMLResponse(
            "<!doctype html><html lang=en><title>Bad</title><main><h1>Bad</h1><p style='color:#bbb'>Pale.</p>"
            f"<iframe title=inner sandbox=allow-scripts srcdoc='{inner}'></iframe></main>"
        )

    tab = open_tab()
    tab.quiet = True  # the policy removes the style and logs an error
    tab.goto(f"{serve(app)}/bad")
    tab.js("() => { document.querySelector('p').style.color = '#bbb'; }")
    time.sleep(0.2)
    found = tab.axe()
    assert any("color-contrast: p" in line for line in found.grave), str(found)
    assert any("in frame" in line and "button-name" in line for line in found.grave), str(found)
    tab.faults.clear()


def test_layout_shifts_are_measured_like_web_vitals(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted())

    @app.page("/moving")
    def moving() -> HTMLResponse:
        return HTMLResponse("<!doctype html><html lang=en><title>M</title><p>-</p><div id=a></div><h1>Moving</h1>")

    tab = open_tab(viewport={"width": 800, "height": 600})
    tab.goto(f"{serve(app)}/moving")
    assert tab.layout_shift() == 0
    time.sleep(0.2)

    def push() -> None:
        tab.js("() => { const a = document.getElementById('a'); a.style.height = `${a.offsetHeight + 80}px`; }")
        time.sleep(0.1)

    push()
    one = tab.layout_shift()
    assert one > 0
    assert "H1" in note(tab.shifts)
    push()
    two = tab.layout_shift()
    assert two > one, "the same window"
    time.sleep(1.2)
    push()
    assert tab.layout_shift() == two, "another window with a smaller sum"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pages_of_the_framework_pass_axe(serve: Serve, open_tab: OpenTab, tmp_path: Path, scheme: str) -> None:
    words = [TEXT[:end] for end in range(4, len(TEXT), 4)]
    engine = scripted(TEXT, by_ask={"Slow": [*words[:20], HANG], "Home": words}, delay=0.03)
    url = serve(make_wiki(tmp_path, engine, edits="on"))
    tab = open_tab(color_scheme=scheme)
    found, look = looking(tab)
    tab.goto(f"{url}/wiki/Slow")
    until(lambda: tab.page.locator(".unsettled").count())
    look("during generation")
    tab.goto(f"{url}/wiki/Home")
    tab.finished()
    until(lambda: tab.page.locator("[data-editable]").count())
    look("written")
    assert tab.layout_shift() <= 0.05, note(tab.shifts)
    for path in (
        "/wiki/Home",
        "/_unwritten/edit?page=/wiki/Home",
        "/_unwritten/history?page=/wiki/Home",
        "/_unwritten/history?page=/nowhere",
        "/nowhere",
    ):
        tab.goto(url + path)
        look(path)
    tab.page.goto(f"{url}/_unwritten/edit?page=/wiki/Home")
    tab.page.fill("input[name=ask] >> nth=0", "Make it shorter")
    tab.page.click("text=Revise")
    tab.finished()
    tab.page.goto(f"{url}/_unwritten/history?page=/wiki/Home")
    look("a history of two versions")
    tab.page.goto(f"{url}/wiki/Home?version=1")
    look("an old version")
    assert found == {}, "\n".join(f"{name}: {text}" for name, text in found.items())


@pytest.fixture
def wiki(tmp_path: Path) -> Iterator[App]:
    """Return the demo encyclopedia with a scripted engine."""
    app = load_app(str(DEMOS / "wiki" / "app.py"))
    words: list[Step] = [" is a tower that holds a lamp above the sea. It is a [[Tower]].", HANG]
    asks = {"Kept": LEAD, "Quick facts about Kept": FACTS, "Two sections of the article on Kept": BODY}
    asks["drawing of Kept"] = (
        '<svg viewBox="0 0 40 30"><title>A tower</title><path d="M15 28 L18 5 H22 L25 28 Z"/></svg>'
    )
    engine = scripted(words, by_ask=dict(reversed(asks.items())), delay=0.02)
    app.override(engine, {"database": str(tmp_path / "wiki.db")})
    yield app
    app.override(None, {})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_encyclopedia_passes_axe(wiki: App, serve: Serve, open_tab: OpenTab, scheme: str) -> None:
    url = serve(wiki)
    tab = open_tab(color_scheme=scheme)
    found, look = looking(tab)
    tab.goto(f"{url}/wiki/Lighthouse")
    until(lambda: tab.page.locator(".unsettled").count())
    look("an article during generation")
    tab.goto(f"{url}/wiki/Kept")
    tab.finished()
    for path in (
        "/wiki/Kept",
        "/",
        "/search?q=tower",
        "/search?q=nothing+of+that+kind",
        "/written",
        "/_unwritten/history?page=/wiki/Kept",
        "/_unwritten/edit?page=/wiki/Kept",
    ):
        tab.goto(url + path)
        look(path)
    assert found == {}, "\n".join(f"{name}: {text}" for name, text in found.items())
