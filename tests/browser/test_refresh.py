"""Pages that are generated again when they are old, and variants of pages, in a real browser."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect
from starlette.requests import Request as HTTPRequest
from tests.browser.tabs import OpenTab, Serve
from tests.support.apps import in_turn, let_age, make_app
from tests.support.servers import wait_for

from unwritten import Visit
from unwritten_engine import Request, scripted
from unwritten_engine.scripted import Script

pytestmark = pytest.mark.browser


def test_an_open_tab_shows_the_next_version_when_it_is_complete(
    tmp_path: Path, serve: Serve, open_tab: OpenTab
) -> None:
    app = make_app(tmp_path, scripted(in_turn("It rains.", ["It", 0.2, "It sh", 0.2, "It shines. See [[Bergen]]."])))

    @app.page("/weather/{city}", fresh=timedelta(days=1))
    def weather(city: str) -> str:
        return f"The weather in {city}."

    address = serve(app)
    first, second = open_tab(), open_tab()
    first.page.goto(f"{address}/weather/Oslo")
    body = first.page.locator("#region-body")
    expect(body).to_have_text("It rains.")
    expect(first.page.locator(".as-of time")).to_be_visible()
    first.page.evaluate(
        """() => {
            window.seen = [];
            new MutationObserver(() => seen.push(document.querySelector("#region-body").textContent.trim()))
                .observe(document.querySelector("#region-body"), {childList: true, subtree: true, characterData: true});
        }"""
    )
    let_age(app, timedelta(days=2))
    second.page.goto(f"{address}/weather/Oslo")
    expect(body).to_have_text("It shines. See Bergen.")
    assert set(first.page.evaluate("seen")) == {"It shines. See Bergen."}
    expect(second.page.locator("#region-body")).to_have_text("It shines. See Bergen.")
    expect(first.page.locator("[data-colophon]")).to_contain_text("Version 2 of 2")
    expect(first.page.locator("[data-colophon]")).to_contain_text("Refreshed")
    expect(first.page.locator("#region-body a")).to_have_attribute("href", "/weather/Bergen")


def test_each_language_has_a_page_under_one_url(tmp_path: Path, serve: Serve, open_tab: OpenTab) -> None:

    def answer(request: Request) -> Script:
        return ["A", 0.2, f"A text: {request.prompt.ask} See [[Salt]]."]

    engine = scripted(answer)
    app = make_app(tmp_path, engine, prefetch="on", edits="on")

    def language(request: HTTPRequest) -> str | None:
        wanted = request.cookies.get("language")
        return wanted if wanted in {"de", "fr"} else None

    @app.page("/wiki/{title}", vary=language)
    def article(title: str, visit: Visit) -> str:
        return f"Article on {title} in {visit.vary or 'en'}."

    address = serve(app)
    german, french, german_again = open_tab(), open_tab(), open_tab()
    for tab, value in ((german, "de"), (french, "fr"), (german_again, "de")):
        words = f"in {value}"
        tab.page.context.add_cookies([{"name": "language", "value": value, "url": address}])
        tab.page.goto(f"{address}/wiki/Tea")
        expect(tab.page.locator("#region-body")).to_contain_text(f"{words}. See Salt.")
        expect(tab.page.locator("#region-body")).to_have_attribute("data-state", "written")
    wait_for(lambda: len(engine.requests) == 4)  # Tea and Salt in two languages
    for tab, words in ((german, "in de"), (french, "in fr")):
        link = tab.page.locator("#region-body a.written")
        expect(link).to_have_attribute("href", "/wiki/Salt")
        link.click()
        expect(tab.page.locator("#region-body")).to_contain_text(f"Article on Salt {words}.")
        assert tab.page.url == f"{address}/wiki/Salt"
    german.page.get_by_text("Regenerate").click()
    expect(german.page.locator("[data-colophon]")).to_contain_text("Version 2 of 2")
    assert german.page.url == f"{address}/wiki/Salt"
    german.page.get_by_role("link", name="Previous version").click()
    expect(german.page.locator(".notice.old")).to_contain_text("version 1 of 2")
    german.page.get_by_role("link", name="History").click()
    expect(german.page.locator("ol.versions > li")).to_have_count(2)
    expect(french.page.locator("[data-colophon]")).not_to_contain_text("Version 2")
