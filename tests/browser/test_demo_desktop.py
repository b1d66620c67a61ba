"""The demo desktop in a browser: its windows, and a first session with scripted text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Frame, Locator, expect
from tests.browser.tabs import OpenTab, Tab, note, until
from tests.support.servers import served

from unwritten.cli.loading import load_app
from unwritten.testing.scripted_engine import placeholder_text
from unwritten_engine import Engine, open_engine
from unwritten_engine.scripted import scripted

pytestmark = pytest.mark.browser

DESKTOP = Path(__file__).resolve().parents[2] / "demos" / "desktop" / "app.py"
UNFINISHED = '[data-region]:is([data-state="waiting"], [data-state="writing"])'
Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that serves the desktop with an engine and returns its URL."""
    stacks = []

    def begin(engine: Engine, **settings: Any) -> str:
        app = load_app(str(DESKTOP))
        app.override(engine, {"database": str(tmp_path / "desk.db"), "markup": "off", "prefetch": "off", **settings})
        context = served(app)
        stacks.append(context)
        return f"http://{context.__enter__()}"

    yield begin
    for context in stacks:
        context.__exit__(None, None, None)


def windows(tab: Tab) -> Locator:
    return tab.page.locator(".window:visible")


def front(tab: Tab) -> Locator:
    return tab.page.locator(".window[data-front]")


def handle(tab: Tab) -> Locator:
    """Return the title bar of the front window. Its text is the title of the page in the window."""
    return front(tab).locator(".handle")


def launch(tab: Tab, words: str, modifiers: Any = None) -> None:
    tab.page.locator("#dock .apps a", has_text=words).first.click(modifiers=modifiers)


def inside(tab: Tab) -> Frame:
    """Return the frame in the front window when it is loaded."""
    handle = front(tab).locator("iframe").element_handle()
    assert handle is not None
    frame = handle.content_frame()
    assert frame is not None
    until(lambda: frame.url != "about:blank" and frame.evaluate("document.readyState") == "complete")
    return frame


def box(tab: Tab) -> dict[str, float]:
    found = front(tab).bounding_box()
    assert found is not None
    return {side: round(found[side]) for side in ("x", "y", "width", "height")}


def on_desktop(open_tab: OpenTab, url: str, **options: Any) -> Tab:
    tab = open_tab(**{"viewport": {"width": 1280, "height": 800}, **options})
    tab.goto(url)
    until(lambda: tab.js("() => !!document.getElementById('clock').textContent"))
    return tab


def test_windows_are_moved_resized_laid_out_and_remembered(start: Start, open_tab: OpenTab) -> None:
    tab = on_desktop(open_tab, start(scripted(placeholder_text)))
    mouse, keys = tab.page.mouse, tab.page.keyboard
    launch(tab, "Files")
    expect(handle(tab)).to_have_text("Home")
    launch(tab, "Mail")
    expect(handle(tab)).to_have_text("Mail")
    expect(windows(tab)).to_have_count(2)
    expect(handle(tab)).to_be_focused()
    before = box(tab)
    mouse.move(before["x"] + 120, before["y"] + 14)
    mouse.down()
    mouse.move(before["x"] + 220, before["y"] + 74, steps=4)
    mouse.up()
    until(lambda: (box(tab)["x"] - before["x"], box(tab)["y"] - before["y"]) == (100, 60))
    moved = box(tab)
    mouse.move(moved["x"] + moved["width"] - 5, moved["y"] + moved["height"] - 5)
    mouse.down()
    mouse.move(moved["x"] + moved["width"] + 45, moved["y"] + moved["height"] - 35, steps=4)
    mouse.up()
    until(lambda: (box(tab)["width"], box(tab)["height"]) == (moved["width"] + 50, moved["height"] - 30))
    front(tab).locator(".handle").focus()
    keys.press("ArrowLeft")
    keys.press("Shift+ArrowDown")
    until(lambda: box(tab)["x"] == moved["x"] - 24 and box(tab)["height"] == moved["height"] - 6)
    keys.press("Enter")
    until(lambda: box(tab)["width"] == 1280)
    keys.press("Enter")
    keys.press("Alt+Shift+N")
    expect(handle(tab)).to_have_text("Home")
    inside(tab).locator("a", has_text="Bees").click()
    expect(handle(tab)).to_have_text("Bees")
    keys.press("Alt+Shift+T")
    until(lambda: box(tab)["y"] < 80 and 600 < box(tab)["width"] < 640)
    keys.press("Alt+Shift+M")
    expect(windows(tab)).to_have_count(1)
    tab.page.reload()
    expect(tab.page.locator(".window")).to_have_count(2)
    expect(windows(tab)).to_have_count(1)
    tab.page.locator("#shelf button", has_text="Bees").click()
    expect(handle(tab)).to_have_text("Bees")
    expect(windows(tab)).to_have_count(2)
    launch(tab, "Files")
    expect(windows(tab), "the dock activates the open window").to_have_count(2)
    keys.press("Alt+Shift+W")
    expect(windows(tab)).to_have_count(1)


def test_sizes_and_dates_of_files_are_not_shortened(start: Start, open_tab: OpenTab) -> None:
    tab = open_tab(viewport={"width": 360, "height": 800})
    tab.goto(f"{start(scripted(placeholder_text))}/files")
    cells = "[...document.querySelectorAll('.files td:not(.name)')]"
    tab.js(f"() => {cells}.filter((_, n) => n % 2).forEach((date) => {{ date.textContent = '30 September'; }})")
    assert tab.js(f"() => {cells}.length") == 10
    assert not tab.js(f"() => {cells}.filter((cell) => cell.scrollWidth > cell.clientWidth).map((c) => c.textContent)")


def test_each_window_has_its_own_history_and_stored_pages(start: Start, open_tab: OpenTab) -> None:
    tab = on_desktop(open_tab, start(scripted(placeholder_text)))
    launch(tab, "Browser")
    launch(tab, "Files")
    inside(tab).locator("a", has_text="Clocks").click()
    expect(handle(tab)).to_have_text("Clocks")
    until(lambda: not inside(tab).locator(UNFINISHED).count())
    listing = inside(tab).locator(".files").inner_text()
    front(tab).get_by_role("button", name="Back").click()
    expect(handle(tab)).to_have_text("Home")
    inside(tab).locator("a", has_text="Clocks").click()
    expect(handle(tab)).to_have_text("Clocks")
    expect(inside(tab).locator(".files")).to_have_text(listing, use_inner_text=True)
    expect(tab.page.locator("#shelf button", has_text="Browser"), "the other window is unchanged").to_have_count(1)


def test_simultaneous_jobs_do_not_move_the_focus(start: Start, open_tab: OpenTab) -> None:
    tab = on_desktop(open_tab, start(scripted(placeholder_text, delay=0.25)))
    launch(tab, "Files")
    inside(tab).locator("a", has_text="Bees").click()
    launch(tab, "Mail")
    launch(tab, "Notes")
    until(lambda: "Writing in 2 windows" in tab.page.inner_text("#busy"))
    inside(tab).get_by_role("button", name="New note").click()
    text = inside(tab).locator("textarea")
    text.click()
    tab.page.keyboard.type("Sugar for the bees", delay=30)
    until(lambda: tab.page.inner_text("#busy") == "", 40)
    assert text.input_value() == "Sugar for the bees", "finished jobs do not take the focus"
    assert tab.js("() => document.activeElement.tagName") == "IFRAME"
    tab.page.keyboard.press("Control+s")
    expect(handle(tab)).to_have_text(re.compile("Sugar for the bees|Empty note"))
    until(lambda: "Saved" in inside(tab).inner_text("main"))
    tab.page.reload()
    expect(tab.page.locator(".window")).to_have_count(3)
    until(lambda: inside(tab).locator("textarea").input_value() == "Sugar for the bees")


def test_more_than_twelve_windows_need_one_to_be_closed(start: Start, open_tab: OpenTab) -> None:
    url = start(scripted(placeholder_text))
    tab = on_desktop(open_tab, url)
    for _ in range(12):
        launch(tab, "Terminal", ["Shift"])
    expect(windows(tab)).to_have_count(12)
    for _ in range(38):
        tab.js(
            "() => document.querySelector('#dock a[href=\"/web\"]')"
            ".dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true, shiftKey: true}))"
        )
    dialog = tab.page.get_by_role("dialog", name="Browser")
    expect(dialog).to_contain_text("12 windows are already open")
    expect(windows(tab)).to_have_count(12)
    dialog.get_by_role("button", name="Close Terminal").first.click()
    expect(handle(tab)).to_have_text("Browser")
    expect(windows(tab)).to_have_count(12)
    stored = json.loads(tab.js("() => localStorage['unwritten-desktop']"))
    many = [*stored * 5, {"address": "//evil.example/", "place": stored[0]["place"]}, None, {"address": "javascript:1"}]
    tab.js(
        "(kept) => addEventListener('pagehide', () => localStorage.setItem('unwritten-desktop', kept))",
        json.dumps(many),
    )
    tab.page.reload()
    until(lambda: tab.page.locator(".window").count() > 0)
    assert tab.page.locator(".window").count() <= 12, "also after a reload with more in the storage"


def test_a_phone_shows_one_window_at_a_time(start: Start, open_tab: OpenTab) -> None:
    tab = on_desktop(
        open_tab, start(scripted(placeholder_text)), viewport={"width": 320, "height": 640}, has_touch=True
    )
    launch(tab, "Files")
    launch(tab, "Settings")
    expect(handle(tab)).to_have_text("Settings")
    expect(windows(tab)).to_have_count(1)
    until(lambda: box(tab)["width"] == 320)
    assert tab.js("() => document.documentElement.scrollWidth") == 320
    assert inside(tab).evaluate("document.documentElement.scrollWidth") == 320
    tab.page.locator("#shelf button", has_text="Home").tap()
    expect(handle(tab)).to_have_text("Home")


def test_settings_apply_to_all_open_windows(start: Start, open_tab: OpenTab) -> None:
    tab = on_desktop(open_tab, start(scripted(placeholder_text)))
    launch(tab, "Notes")
    launch(tab, "Settings")
    frame = inside(tab)
    frame.locator("input[name=scheme][value=dark]").check()
    frame.locator("input[name=machine]").fill("Otter")
    frame.get_by_role("button", name="Save").click()
    until(lambda: tab.page.inner_text("#machine") == "Otter")
    until(lambda: _dark(tab))


def _dark(tab: Tab) -> bool:
    script = (
        "() => [document, ...[...document.querySelectorAll('iframe')].map((frame) => frame.contentDocument)]"
        ".every((one) => one.documentElement.dataset.scheme === 'dark')"
    )
    return bool(tab.js(script))


def test_the_dock_links_to_pages_without_javascript(start: Start, open_tab: OpenTab) -> None:
    url = start(scripted(placeholder_text))
    tab = open_tab(java_script_enabled=False)
    tab.goto(url)
    launch(tab, "Files")
    tab.page.locator("main a", has_text="Bees").click()
    expect(tab.page.locator("tbody a").nth(2)).to_be_visible()
    tab.page.locator("a.brand").click()
    expect(tab.page.locator(".hint")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_their_layout_is_stable(start: Start, open_tab: OpenTab, scheme: str) -> None:
    url = start(scripted(placeholder_text, delay=0.05))
    tab = on_desktop(open_tab, url, color_scheme=scheme)
    for words in ("Files", "Mail", "Browser", "Notes", "Terminal", "Settings", "New app"):
        launch(tab, words)
        inside(tab)
    found = tab.axe()
    assert found.grave == [], str(found)
    assert tab.layout_shift() <= 0.05, note(tab.shifts)
    for path in (
        "/files/Bees",
        "/file/Bees/a.txt",
        "/picture/b.jpg",
        "/mail",
        "/mail/letter/Tea",
        "/web/a.example",
        "/search/tea",
    ):
        tab.goto(f"{url}{path}")
        until(lambda: not tab.page.locator(UNFINISHED).count(), 20)
        found = tab.axe()
        assert found.grave == [], f"{path}: {found}"
        assert tab.layout_shift() <= 0.05, f"{path} {note(tab.shifts)}"


def test_a_first_session(start: Start, open_tab: OpenTab) -> None:
    tab = on_desktop(open_tab, start(scripted(placeholder_text, delay=0.25)))
    launch(tab, "Files")
    inside(tab).locator("a", has_text="Bees").click()
    launch(tab, "New app")
    inside(tab).locator("textarea").fill("An app that tells me which plant to water")
    inside(tab).get_by_role("button", name="Create").click()
    until(lambda: "Writing in 2 windows" in tab.page.inner_text("#busy"), 60)
    until(lambda: tab.page.inner_text("#busy") == "", 240)
    assert 1 <= inside(tab).locator(".items li:not(.waiting)").count() <= 3  # duplicates are removed
    expect(tab.page.locator(".made a"), "the new app is in the dock").to_have_count(1)
    heading = inside(tab).locator(".screen h2").inner_text()
    inside(tab).locator(".buttons a").first.click()
    until(lambda: inside(tab).locator(".trail").count())
    until(lambda: tab.page.inner_text("#busy") == "", 240)
    front(tab).get_by_role("button", name="Back").click()
    expect(front(tab).frame_locator("iframe").locator(".screen h2")).to_have_text(heading)
    tab.page.locator("#shelf button", has_text="Bees").click()
    inside(tab).locator("tbody a").last.click()
    until(lambda: inside(tab).locator(".print").count())
    until(lambda: tab.page.inner_text("#busy") == "", 240)
    expect(inside(tab).locator("figcaption")).to_have_text(re.compile(r"\S"))
    assert tab.layout_shift() <= 0.05, note(tab.shifts)
    assert tab.axe().grave == []


def test_a_window_shows_drafts_of_a_diffusion_model(start: Start, open_tab: OpenTab) -> None:
    tab = on_desktop(open_tab, start(open_engine("diffusion", model="random")))
    launch(tab, "Files")
    inside(tab).evaluate(
        "() => { window.soft = 0; addEventListener('unwritten:frame', (e) => "
        "(soft += e.target.querySelectorAll('.unsettled').length)); }"
    )
    inside(tab).locator("a", has_text="Letters").click()
    expect(handle(tab)).to_have_text("Letters")
    until(lambda: not inside(tab).locator(UNFINISHED).count(), 60)
    assert inside(tab).evaluate("() => soft") > 0
    assert inside(tab).locator("tbody tr").count() >= 1
