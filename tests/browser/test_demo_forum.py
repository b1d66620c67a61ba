"""The demo forum in a browser: a first session with scripted text, and drafts of a diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab, Tab, note, until
from tests.support.servers import served

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten.testing.scripted_engine import placeholder_text
from unwritten_engine import Engine, open_engine, scripted

pytestmark = pytest.mark.browser

FORUM = Path(__file__).resolve().parents[2] / "demos" / "forum"
PATIENCE = 300
"""Time limit in seconds, for busy machines."""

Forum = Callable[[Engine], str]


@pytest.fixture
def forum(tmp_path: Path) -> Iterator[Forum]:
    """Return a function that serves the forum with an engine and returns its URL."""
    app: App = load_app(str(FORUM))
    running = []

    def start(engine: Engine) -> str:
        app.override(engine, {"database": str(tmp_path / "forum.db"), "prefetch": "off"})
        running.append(served(app))
        return f"http://{running[0].__enter__()}"

    yield start
    for server in running:
        server.__exit__(None, None, None)
    app.override(None, {})


def generating(tab: Tab) -> bool:
    return bool(tab.js("() => !!document.querySelector('[data-state=waiting], [data-state=writing]')"))


def says(tab: Tab, region: str, words: str = "") -> bool:
    """Return True if the region exists, is not empty and contains the words."""
    if not tab.page.locator(f"#region-{region}").count():
        return False
    return words in tab.text(region) and bool(tab.text(region).strip())


def good(tab: Tab) -> None:
    """Assert what holds for every page."""
    assert tab.axe().grave == [], note([str(line) for line in tab.axe().grave])
    assert tab.layout_shift() <= 0.05, note(tab.shifts)


def test_a_first_session(forum: Forum, open_tab: OpenTab) -> None:
    url = forum(scripted(placeholder_text, delay=0.02))
    tab, other = open_tab(viewport={"width": 1200, "height": 900}), open_tab(viewport={"width": 375, "height": 800})
    tab.goto(url)
    tab.ready()
    good(tab)
    tab.page.get_by_role("link", name="Kettles").click()
    until(lambda: tab.page.locator(".threads .thread-title a").count() >= 6 and not generating(tab), PATIENCE)
    good(tab)

    tab.page.locator(".threads .thread-title a").first.click()
    until(lambda: tab.page.locator("#post-c4").count() == 1 and not generating(tab), PATIENCE)
    assert all(tab.text(f"posts-c{number}").strip() for number in range(5))
    good(tab)
    other.goto(tab.page.url)
    other.ready()
    until(lambda: "Replies" in other.page.inner_text("main"))

    tab.page.locator("[data-vote=c0]").click()
    until(lambda: tab.page.locator("[data-vote=c0][aria-pressed=true]").count() == 1)
    count = tab.page.locator("[data-vote=c0]").inner_text()
    until(lambda: other.page.locator("[data-vote=c0]").inner_text() == count)
    expect(other.page.locator("[data-vote=c0][aria-pressed=true]"), "the vote of another visitor").to_have_count(0)

    tab.page.locator("#post-c1 [data-answer]").click()
    expect(tab.page.locator("#reply select")).to_have_value("c1")
    expect(tab.page.locator("#reply [name=text]")).to_be_focused()
    tab.page.keyboard.type("Is it still warm?")
    tab.page.fill("#reply [name=name]", "Rae")
    tab.page.get_by_role("button", name="Reply").click()
    for each in (tab, other):
        until(partial(says, each, "tree", "Is it still warm?"))
        until(partial(says, each, "posts-a1-0"), PATIENCE)
    until(lambda: not generating(tab) and not generating(other), PATIENCE)
    until(lambda: tab.text("posts-a1-0") == other.text("posts-a1-0") != "")
    good(other)

    name = tab.page.locator("#post-c1 .author").inner_text()
    tab.page.locator("#post-c1 .author").click()
    until(lambda: tab.page.inner_text("h1") == name and not generating(tab), PATIENCE)
    assert tab.page.locator("section a.written").count() >= 1, "the thread is listed"
    good(tab)
    assert tab.page.input_value("#jump") == "", "the search field is empty"


def test_boards_show_drafts_of_a_diffusion_model(forum: Forum, open_tab: OpenTab) -> None:
    url = forum(open_engine("diffusion", model="random"))
    tab = open_tab(viewport={"width": 1200, "height": 900})
    tab.goto(url)
    tab.ready()
    tab.page.get_by_role("link", name="Allotments").click()
    until(lambda: tab.page.locator("[data-region^=starters] .unsettled").count() > 0, PATIENCE)
    until(lambda: tab.page.locator(".threads").count() == 1 and not generating(tab), PATIENCE)
    assert tab.page.locator(".threads .thread-title").count() == 6
