"""A stranger's first minute in the encyclopedia, on the embedded model; and the first click on a model that drafts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.browser.tabs import Tab, note, until
from tests.support.apps import served

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten_engine import Engine, open_engine

pytestmark = pytest.mark.browser

WIKI = Path(__file__).resolve().parents[2] / "demos" / "wiki" / "app.py"
SLOW = 300  # seconds that a page may take where others share the machine


def wiki(home: Path, engine: Engine) -> App:
    app = load_app(str(WIKI))
    app.override(engine, {"database": str(home / "wiki.db"), "prefetch": "off"})
    return app


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[str]:
    """The encyclopedia on the embedded model."""
    with served(wiki(tmp_path, open_engine("embedded"))) as address:
        yield f"http://{address}"


def settle(tab: Tab) -> None:
    """Wait until the page that is shown is written."""
    until(lambda: tab.page.locator("[data-colophon]:has([data-editable])").count() == 1, SLOW)


def calm(tab: Tab, kind: str) -> None:
    """Nobody is kept out, nothing has jumped, and nothing sticks out."""
    time.sleep(1.5)  # the room that was not needed is given back slowly
    shift = tab.layout_shift()
    print(f"{kind}: layout shift {shift:.4f}; axe: {tab.axe()}")
    assert tab.axe().grave == [], kind
    assert shift <= 0.05, note(tab.shifts)
    assert tab.js("() => document.documentElement.scrollWidth <= innerWidth"), f"{kind}: nothing sticks out"


@pytest.mark.model
@pytest.mark.parametrize("width", [375, 1280])
def test_a_first_minute(embedded: str, open_tab: Callable[..., Tab], width: int) -> None:
    tab = open_tab(viewport={"width": width, "height": 800})
    tab.goto(embedded)
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
        "the facts have their fields, but for those that only repeat the title"
    )
    tab.page.get_by_role("link", name="Other meanings of Lighthouse").click()
    until(lambda: tab.page.locator("#region-meanings").count() == 1, SLOW)
    settle(tab)
    calm(tab, "meanings")
    assert tab.page.locator(".meanings a.unwritten").count() == 4
    for path, kind in (("/categories", "categories"), ("/graph", "graph"), ("/written", "contents")):
        tab.goto(embedded + path)
        tab.ready()
        calm(tab, kind)
    assert tab.page.locator("main a", has_text="Lighthouse").count() >= 1


def test_the_first_click_on_a_model_that_drafts(tmp_path: Path, open_tab: Callable[..., Tab]) -> None:
    with served(wiki(tmp_path, open_engine("diffusion", model="random"))) as address:
        tab = open_tab()
        tab.goto(f"http://{address}")
        tab.ready()
        tab.page.get_by_role("link", name="Tea").click()
        until(lambda: tab.page.locator(".region .unsettled").count() > 0 or tab.events("written"), SLOW)
        settle(tab)
        assert {event["region"] for event in tab.events("frame")} >= {"lead", "facts", "body"}
