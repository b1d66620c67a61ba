"""A boosted link to a page in another language takes over its language, direction and the texts of the scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.browser.tabs import OpenTab, Serve, until
from tests.support.apps import make_app

from unwritten import Canvas, Page
from unwritten_engine.scripted import scripted

pytestmark = pytest.mark.browser

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
        until(lambda lang=lang: tab.page.evaluate("() => document.documentElement.lang") == lang)
        assert tab.page.evaluate("() => document.documentElement.dir") == direction
        until(lambda text=text: tab.page.evaluate(TRY_AGAIN) == text)
        until(lambda history=history: tab.page.locator(".actions", has_text=history).count())
    assert tab.page.evaluate("() => window.stays")
