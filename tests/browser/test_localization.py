"""A boosted link to a page in another language takes over its language, direction and the texts of the scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab, Serve, until
from tests.support.apps import make_app

from unwritten import Canvas, Page
from unwritten_engine.scripted import scripted

pytestmark = pytest.mark.browser

TEXT_ENDS = """() => [...document.querySelectorAll("th, td")].map((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return range.getBoundingClientRect().right;
})"""
"""Returns where the text of each cell ends, in pixels from the left."""
TRY_AGAIN = "() => unwritten.text('tryAgain')"


def test_boosted_links_change_the_language(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(["Text."]), language="de")

    @app.page("/{lang}")
    def page(lang: str) -> Page:
        return Page(title=lang, body=Canvas("Something."), lang=lang)

    tab = open_tab()
    url = serve(app)
    tab.goto(f"{url}/de")
    tab.finished()
    until(lambda: tab.page.evaluate("() => !!window.htmx"))
    tab.page.evaluate("() => { window.stays = true; }")
    languages = {"en": ("ltr", "Try again", "History"), "ar": ("rtl", "إعادة المحاولة", "السجل")}
    languages["de"] = ("ltr", "Erneut versuchen", "Verlauf")
    for lang, (direction, text, history) in languages.items():
        tab.page.evaluate("(url) => unwritten.navigate(url)", f"{url}/{lang}")
        expect(tab.page.locator("html")).to_have_attribute("lang", lang)
        expect(tab.page.locator("html")).to_have_attribute("dir", direction)
        tab.page.wait_for_function(f"(text) => ({TRY_AGAIN})() === text", arg=text)
        expect(tab.page.locator(".actions", has_text=history).first).to_be_visible()
    assert tab.page.evaluate("() => window.stays")


def test_an_arabic_page_aligns_cells_and_placeholders(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    table = "| سنة | ارتفاع |\n|---|---|\n| 1755 | 20 m |\n"
    app = make_app(tmp_path, scripted([table]), language="ar", edits="on")

    @app.page("/{name}")
    def page(name: str) -> Page:
        return Page(title=name, body=Canvas("A table."))

    tab = open_tab()
    url = serve(app)
    tab.goto(f"{url}/tower")
    tab.finished()
    ends = tab.js(TEXT_ENDS)
    assert len(ends) == 4 and abs(ends[0] - ends[2]) < 1 and abs(ends[1] - ends[3]) < 1, ends
    tab.goto(f"{url}/_unwritten/edit?page=/tower")
    field = tab.page.locator("#ask-body")
    expect(field).to_have_css("direction", "rtl")
    field.fill("Shorter")
    expect(field).to_have_css("direction", "ltr")
