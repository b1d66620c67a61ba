"""Accessibility: keyboard, screen readers, reduced motion, contrast and a stable layout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab, Serve, note, until
from tests.support.apps import make_wiki

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten_engine.scripted import scripted

pytestmark = pytest.mark.browser


LEAD = (
    " is a tower that holds a lamp above the reach of the sea, so that a [[Ship|ship]] at night may know where the "
    "[[Coast]] begins. The oldest that still burns stands at [[Hook Head]], where monks kept the first fire."
)
FACTS = (
    '{"kind":"Coastal building","found_in":"Headlands and reefs","first_known":"About 280 BC",'
    '"known_for":["Guiding ships","Solitude"],"mistaken_for":"A star that sits too low",'
    '"categories":["Houses and buildings","Journeys"]}'
)
BODY = (
    "History\n\nThe first towers burned wood, and later coal, on open hearths. In the third century BC the "
    "[[Pharos of Alexandria]] rose to more than a hundred metres.\n\n## The keepers\n\nA keeper wound the clockwork "
    "every four hours, and trimmed the wick at midnight. Many kept [[Bees]]:\n\n- the weather at noon,\n- the ships."
)
WIKI = Path(__file__).resolve().parents[2] / "demos" / "wiki" / "app.py"


@pytest.fixture
def wiki(tmp_path: Path) -> Iterator[App]:
    """Return the demo encyclopedia with a scripted engine."""
    app = load_app(str(WIKI))
    engine = scripted(LEAD, by_ask={"Quick facts": FACTS, "Two sections": BODY}, delay=0.03)
    app.override(engine, {"database": str(tmp_path / "wiki.db"), "markup": "off"})
    yield app
    app.override(None, {})


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_the_layout_does_not_jump(wiki: App, serve: Serve, open_tab: OpenTab, width: int) -> None:
    url = serve(wiki)
    tab = open_tab(viewport={"width": width, "height": 780})
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.finished()
    time.sleep(2)  # unused placeholder height is removed slowly
    shift = tab.layout_shift()
    print(f"layout shift at {width} px: {shift:.4f}")
    assert shift <= 0.05, note(tab.shifts)
    assert tab.js("() => document.documentElement.scrollWidth <= innerWidth"), "no horizontal overflow"


@pytest.mark.parametrize("path", ["/", "/search?q=moss", "/written", "/_unwritten/history", "/nowhere"])
def test_every_page_fits_a_small_phone_and_has_one_heading(
    wiki: App, serve: Serve, open_tab: OpenTab, path: str
) -> None:
    url = serve(wiki)
    tab = open_tab(viewport={"width": 320, "height": 640})
    tab.goto(url + path)
    assert tab.js("() => document.documentElement.scrollWidth <= innerWidth")
    assert tab.page.locator("h1").count() == 1
    assert tab.page.locator("main").count() == 1


def test_an_article_can_be_reached_by_keyboard(wiki: App, serve: Serve, open_tab: OpenTab) -> None:
    url = serve(wiki)
    tab = open_tab()
    tab.goto(f"{url}/")
    tab.ready()
    press = tab.page.keyboard.press
    press("Tab")
    expect(tab.page.locator(":focus")).to_have_class("skip")
    press("Enter")
    press("Tab")
    expect(tab.page.locator(":focus")).to_have_attribute("name", "q")
    tab.page.keyboard.type("moss of the north")
    press("Enter")
    tab.page.wait_for_selector("h1:has-text('Moss of the north')")
    until(lambda: tab.page.locator("#region-lead a").count())
    expect(tab.page.locator("h1")).to_be_focused()
    for _ in range(20):
        press("Tab")
        if tab.js("() => document.activeElement.textContent") == "ship":
            break
    press("Enter")
    tab.page.wait_for_selector("h1:has-text('Ship')")
    expect(tab.page.locator("h1")).to_be_focused()


def test_a_screen_reader_announces_start_and_end_only(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted("A tower with a [[Lamp]].", delay=0.1)))
    tab = open_tab()
    tab.page.add_init_script(
        """addEventListener('DOMContentLoaded', () => {
             window.heard = [];
             const status = document.querySelector('[role=status]');
             const hear = () => status.textContent && heard.push(status.textContent);
             hear();
             new MutationObserver(hear).observe(status, { childList: true, characterData: true, subtree: true });
           })"""
    )
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.finished()
    until(lambda: len(tab.js("() => heard")) >= 2)
    assert tab.js("() => heard") == ["Writing Lighthouse …", "Ready: Lighthouse"]
    assert tab.page.locator("[role=status]").count() == 1
    assert tab.page.locator("[aria-live]").count() == 0
    tab.ready()
    tab.js("() => { document.querySelector('[role=status]').mine = true; }")
    tab.page.click("#region-body a")
    until(lambda: tab.js("() => heard.at(-1)") == "Ready: Lamp")
    assert tab.js("() => document.querySelector('[role=status]').mine"), "the status element is kept"


def test_reduced_motion_disables_animations(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    words = "A tower with a lamp, and no more than that."
    url = serve(make_wiki(tmp_path, scripted([0.5, words])))
    still = open_tab(reduced_motion="reduce")
    still.goto(f"{url}/wiki/Lighthouse")
    assert still.js("() => document.getAnimations().length") == 0
    still.finished()
    assert still.js("() => document.getAnimations().length") == 0
    moving = open_tab()
    moving.goto(f"{url}/wiki/Tower")
    until(lambda: moving.js("() => document.getAnimations().length > 0"))


def test_unwritten_links_differ_by_more_than_colour(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted("See [[Here]] and [[There]].", by_ask={"Here": "Here it is."})))
    for key in ("Here", "Home"):
        tab = open_tab()
        tab.goto(f"{url}/wiki/{key}")
        tab.finished()
    styles = tab.js(
        "() => [...document.querySelectorAll('#region-body a')]"
        ".map((a) => [a.className, getComputedStyle(a).textDecorationStyle])"
    )
    assert styles == [["written", "solid"], ["unwritten", "dotted"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(wiki: App, serve: Serve, open_tab: OpenTab, scheme: str) -> None:
    tab = open_tab(color_scheme=scheme)
    tab.goto(serve(wiki))
    ratios = tab.js(
        """() => {
          const probe = document.body.appendChild(document.createElement('i'));
          const canvas = new OffscreenCanvas(1, 1).getContext('2d');
          const light = (token) => {
            probe.style.color = `var(--${token})`;
            canvas.fillStyle = getComputedStyle(probe).color;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
              .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const paper = light('paper');
          return Object.fromEntries(['ink', 'soft', 'written', 'unwritten'].map((token) => {
            const [a, b] = [light(token), paper].sort((x, y) => y - x);
            return [token, (a + 0.05) / (b + 0.05)];
          }));
        }"""
    )
    assert min(ratios.values()) >= 4.5, note(ratios)
