"""The demo encyclopedia in a browser: a first session, and drafts of a diffusion model."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.browser.tabs import OpenTab, Tab, note, until
from tests.support.servers import served

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten.testing.scripted_engine import placeholder_text
from unwritten_engine import Engine, open_engine, scripted

pytestmark = pytest.mark.browser

WIKI = Path(__file__).resolve().parents[2] / "demos" / "wiki" / "app.py"
SLOW = 300  # time limit of a page in seconds, for busy machines


def wiki(home: Path, engine: Engine) -> App:
    app = load_app(str(WIKI))
    app.override(engine, {"database": str(home / "wiki.db"), "prefetch": "off"})
    return app


def settle(tab: Tab) -> None:
    """Wait until the current page is written."""
    until(lambda: tab.page.locator("[data-colophon]:has([data-editable])").count() == 1, SLOW)


def calm(tab: Tab, kind: str) -> None:
    """Assert that the page is accessible, has a stable layout and does not overflow."""
    time.sleep(1.5)  # unused placeholder height is removed slowly
    shift = tab.layout_shift()
    print(f"{kind}: layout shift {shift:.4f}; axe: {tab.axe()}")
    assert tab.axe().grave == [], kind
    assert shift <= 0.05, note(tab.shifts)
    assert tab.js("() => document.documentElement.scrollWidth <= innerWidth"), f"{kind}: no horizontal overflow"


@pytest.mark.model
def test_a_first_session_with_the_embedded_model(tmp_path: Path, open_tab: OpenTab) -> None:
    with served(wiki(tmp_path, open_engine("embedded"))) as address:
        first_session(f"http://{address}", open_tab(viewport={"width": 375, "height": 800}))


def test_a_first_session_on_a_wide_screen(tmp_path: Path, open_tab: OpenTab) -> None:
    with served(wiki(tmp_path, scripted(placeholder_text, delay=0.02))) as address:
        first_session(f"http://{address}", open_tab(viewport={"width": 1280, "height": 800}))


def first_session(url: str, tab: Tab) -> None:
    tab.goto(url)
    tab.ready()
    calm(tab, "front page")
    began = time.monotonic()
    tab.page.get_by_role("link", name="Lighthouse").click()
    until(lambda: tab.page.locator("#region-body").count() == 1 and len(tab.text("body")) > 60, SLOW)
    words = time.monotonic() - began
    settle(tab)
    print(f"click to words {words:.1f} s, to the whole article {time.monotonic() - began:.1f} s")
    calm(tab, "article")
    assert tab.page.locator("#region-facts dt").count() >= 3, (
        "all facts are shown, except those that only repeat the title"
    )
    tab.page.get_by_role("link", name="Other meanings of Lighthouse").click()
    until(lambda: tab.page.locator("#region-meanings").count() == 1, SLOW)
    settle(tab)
    calm(tab, "meanings")
    assert tab.page.locator(".meanings a.unwritten").count() == 4
    for path, kind in (("/categories", "categories"), ("/graph", "graph"), ("/written", "contents")):
        tab.goto(url + path)
        tab.ready()
        calm(tab, kind)
    assert tab.page.locator("main a", has_text="Lighthouse").count() >= 1


def test_an_article_shows_drafts_of_a_diffusion_model(tmp_path: Path, open_tab: OpenTab) -> None:
    with served(wiki(tmp_path, open_engine("diffusion", model="random"))) as address:
        tab = open_tab()
        tab.goto(f"http://{address}")
        tab.ready()
        tab.page.get_by_role("link", name="Tea").click()
        until(lambda: tab.page.locator(".region .unsettled").count() > 0 or tab.events("written"), SLOW)
        settle(tab)
        assert {event["region"] for event in tab.events("frame")} >= {"lead", "facts", "body"}
