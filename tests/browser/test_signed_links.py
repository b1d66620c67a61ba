"""Signed links in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab, Serve, until

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten_engine import Request, scripted

pytestmark = pytest.mark.browser


FACTS = (
    '{"kind":"tower","found_in":"harbours","first_known":"long ago","known_for":["light","stairs"],'
    '"mistaken_for":"a mill","categories":["Journeys","Time"]}'
)


def article(request: Request) -> str:
    """Return facts, or a text with links."""
    if request.schema is not None:
        return FACTS
    return request.prompt.opening + " is known for its [[Lamp]] and its [[Great Auk|auk]]."


def wiki(home: Path) -> App:
    """Return the demo wiki with signed links."""
    app = load_app("demos/wiki/app.py")
    app.override(
        scripted(article, delay=0.02),
        {"signed_links": "on", "prefetch": "off", "markup": "off", "database": str(home / "wiki.db")},
    )
    return app


def test_signatures_never_appear_in_the_address_bar(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = wiki(tmp_path)
    url = serve(app)
    tab = open_tab()
    tab.goto(url)
    tab.ready()
    # htmx preloads the link on mousedown.
    tab.page.get_by_role("link", name="Lighthouse").click()
    tab.page.wait_for_selector("h1:has-text('Lighthouse')")
    expect(tab.page).to_have_url(f"{url}/wiki/Lighthouse")
    tab.finished()
    until(lambda: tab.page.locator("#region-body a.unwritten").count() == 2)
    lamp = tab.page.locator("#region-body a.unwritten", has_text="Lamp")
    assert "?_s=" in str(lamp.get_attribute("href"))
    asked = len(tab.requests)
    lamp.hover()
    tab.page.mouse.down()
    tab.page.wait_for_timeout(200)
    assert any("/wiki/Lamp?_s=" in line for line in tab.requests[asked:]), "pressing the button starts the request"
    expect(tab.page).to_have_url(f"{url}/wiki/Lighthouse")
    tab.page.mouse.up()
    tab.page.wait_for_selector("h1:has-text('Lamp')")
    expect(tab.page).to_have_url(f"{url}/wiki/Lamp")
    assert sum("/wiki/Lamp?_s=" in line for line in tab.requests[asked:]) == 1, "the preloaded page is the one shown"
    tab.page.go_back()
    tab.page.wait_for_selector("h1:has-text('Lighthouse')")
    expect(tab.page).to_have_url(f"{url}/wiki/Lighthouse")
    tab.page.go_forward()
    tab.page.wait_for_selector("h1:has-text('Lamp')")
    expect(tab.page).to_have_url(f"{url}/wiki/Lamp")
    # The URL of a written page needs no signature.
    until(lambda: app.store.exists(["/wiki/Lamp"]))
    other = open_tab()
    other.goto(f"{url}/wiki/Lamp")
    assert "is known for its" in other.text("lead")


def test_a_typed_url_shows_a_button_to_write_the_page(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = wiki(tmp_path)
    url = serve(app)
    tab = open_tab()
    tab.goto(f"{url}/wiki/Great_Auk")
    expect(tab.page.locator("main")).to_contain_text("This page has not been written yet.")
    tab.ready()
    tab.page.screenshot(path=tmp_path / "typed.png", full_page=True)
    length = tab.js("() => history.length")
    tab.page.get_by_role("button", name="Write this page").click()
    tab.page.wait_for_selector("#region-lead")
    expect(tab.page).to_have_url(f"{url}/wiki/Great_Auk")
    assert tab.js("() => history.length") == length
    tab.finished()
    expect(tab.page.locator("#region-lead")).to_contain_text("is known for its")


def test_the_search_box_works_with_and_without_javascript(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = wiki(tmp_path)
    url = serve(app)
    for script, subject in ((True, "Tea"), (False, "Sea")):
        tab = open_tab(java_script_enabled=script)
        tab.page.goto(url)
        if script:
            tab.ready()
        tab.page.get_by_role("searchbox").fill(subject)
        tab.page.get_by_role("button", name="Write article").click()
        tab.page.wait_for_selector(f"h1:has-text('{subject}')")
        until(lambda tab=tab: "is known for its" in tab.text("lead"))  # type: ignore[misc]
        expect(tab.page).to_have_url(f"{url}/wiki/{subject}" + ("" if script else "?plain=1"))
