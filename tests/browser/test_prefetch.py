"""Prefetching in a browser: links are marked as written, and open complete pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab, Serve, Tab, note, until
from tests.support.apps import make_wiki

from unwritten_engine import Priority, scripted
from unwritten_engine.scripted import HANG, Script, ScriptedEngine

pytestmark = pytest.mark.browser

HUB = "/wiki/Hub"
LINKS = "A hub leads to [[A]], [[B]], [[C]], [[D]] and [[E]].\n"

SAVES = "Object.defineProperty(navigator, 'connection', { value: { saveData: true } });"
HIDE = """() => {
    Object.defineProperty(document, "hidden", { configurable: true, value: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def wiki_engine(others: Script) -> ScriptedEngine:
    return scripted(lambda request: LINKS if "Hub" in request.prompt.ask else others)


def asked(engine: ScriptedEngine) -> str:
    """Return the letters of the pages that the engine generated after the hub, in order."""
    return "".join(request.prompt.ask.rstrip(".")[-1] for request in engine.requests[1:])


def colours(tab: Tab) -> str:
    """Return the first letter of the class of each link: w for written, u for unwritten."""
    return str(tab.js("() => [...document.querySelectorAll('#region-body a')].map((a) => a.className[0]).join('')"))


def test_prefetched_links_are_marked_and_open_complete_pages(tmp_path: Path, serve: Serve, open_tab: OpenTab) -> None:
    engine = wiki_engine("Behind it lies [[F]].\n")
    url = serve(make_wiki(tmp_path, engine, prefetch="auto"))
    tab = open_tab()
    tab.goto(url + HUB)
    tab.finished()
    until(lambda: colours(tab) == "wwwuu")
    assert asked(engine) == "ABC"
    assert {request.priority for request in engine.requests[1:]} == {Priority.PREFETCH}
    tab.js("() => { notes.shifts = []; }")
    tab.page.hover("a:text-is('E')")
    until(lambda: colours(tab) == "wwwuw")
    assert asked(engine) == "ABCE"
    assert tab.layout_shift() == 0, note(tab.shifts)
    tab.ready()
    tab.page.click("a:text-is('A')")
    until(lambda: tab.js("() => document.querySelector('h1').textContent") == "A")
    assert tab.js("() => document.querySelectorAll('[data-state=waiting], [data-state=writing]').length") == 0
    expect(tab.page.locator("[data-colophon]")).to_contain_text("Written in advance")
    expect(tab.page.locator("[data-colophon]")).to_contain_text("before your visit")
    assert tab.loads("/wiki/A") == 1 and "A" not in asked(engine)[1:]
    until(lambda: asked(engine) == "ABCEF")  # the links of an opened page are prefetched


def test_a_hidden_tab_cancels_its_prefetches(tmp_path: Path, serve: Serve, open_tab: OpenTab) -> None:
    engine = wiki_engine(["One", HANG])
    tab = open_tab()
    tab.goto(serve(make_wiki(tmp_path, engine, prefetch="auto")) + HUB)
    until(lambda: engine.running == 2)
    tab.js(HIDE)
    until(lambda: engine.running == 0)
    assert asked(engine) == "AB" and engine.stopped == 2


def test_a_client_that_saves_data_gets_no_prefetches(tmp_path: Path, serve: Serve, open_tab: OpenTab) -> None:
    engine = wiki_engine("Words.")
    url = serve(make_wiki(tmp_path, engine, prefetch="auto"))
    first, second = open_tab(), open_tab()
    second.page.add_init_script(SAVES)
    first.goto(url + HUB)
    first.finished()
    until(lambda: asked(engine) == "ABC")
    second.goto(url + HUB)
    second.page.hover("a:text-is('D')")
    second.page.wait_for_timeout(600)
    assert asked(engine) == "ABC"
