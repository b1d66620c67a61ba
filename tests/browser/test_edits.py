"""Edits in a browser: live updates of open tabs, inline forms, and no JavaScript."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab, Serve, until
from tests.support.apps import make_two, templates

from unwritten import App, Canvas, Page
from unwritten_engine.scripted import Script, scripted

pytestmark = pytest.mark.browser


OLD = "A tall tower with a lamp. It stands by the sea. Nobody has counted its steps."
NEW: Script = [
    "A white tower.",
    1.5,
    "A white tower with a lamp.",
    1.5,
    "A white tower with a lamp. It stands by the sea.",
]


def two(home: Path) -> App:
    return make_two(home, scripted(by_ask={"once more": NEW, "Lead": OLD, "Body": "A body that stays."}))


def test_a_second_tab_sees_revisions_live(tmp_path: Path, serve: Serve, open_tab: OpenTab) -> None:
    url = serve(two(tmp_path))
    writer, reader = open_tab(), open_tab()
    for tab in (writer, reader):
        tab.goto(url)
        tab.page.wait_for_selector("[data-editable]")
        until(lambda tab=tab: tab.events("open"))  # type: ignore[misc]
    loads = reader.loads("/")
    writer.ready()
    writer.page.click("text=Edit")
    writer.page.fill("#ask-lead", "make it white")
    writer.page.click("section:has(#ask-lead) >> text=Keep parts unchanged")
    writer.page.check("label.keep:has-text('It stands by the sea.') input")
    writer.page.click("section:has(#ask-lead) >> text=Revise")
    until(lambda: "A white tower." in writer.text("lead"))
    until(lambda: "A white tower." in reader.text("lead"))
    expect(reader.page.locator("#region-lead")).to_have_attribute("data-state", "writing")
    for tab in (writer, reader):
        assert tab.text("body").strip() == "A body that stays."
        assert tab.page.get_attribute("#region-body", "data-state") == "written"
        until(lambda tab=tab: "Revised" in tab.page.inner_text("[data-colophon]"))  # type: ignore[misc]
        assert tab.text("lead").strip() == "A white tower with a lamp. It stands by the sea."
    writer.page.click("text=Edit")
    writer.page.fill("#text-body", "My own **body**.")
    writer.page.click("section:has(#text-body) >> text=Save")
    for tab in (writer, reader):
        until(lambda tab=tab: "My own body." in tab.text("body"))  # type: ignore[misc]
    until(lambda: "Edited by hand" in reader.page.inner_text("[data-colophon]"))
    assert reader.loads("/") == loads


def test_edits_and_history_work_without_javascript(tmp_path: Path, serve: Serve, open_tab: OpenTab) -> None:
    url = serve(two(tmp_path))
    tab = open_tab(java_script_enabled=False, viewport={"width": 375, "height": 700})
    page = tab.page
    tab.goto(url)
    page.click("text=Edit")
    page.fill("#ask-lead", "make it white")
    page.click("section:has(#ask-lead) >> text=Revise")
    page.wait_for_selector("text=Revised")
    expect(page.locator("#region-lead")).to_have_text("A white tower with a lamp. It stands by the sea.")
    page.click("text=Edit")
    page.fill("#text-lead", "Mine.")
    page.click("section:has(#text-lead) >> text=Save")
    expect(page.locator("#region-lead")).to_have_text("Mine.")
    page.click("text=History")
    page.check("[name=from][value='1']")
    page.check("[name=to][value='3']")
    page.click("text=Compare versions")
    expect(page.locator("del").first).to_contain_text("tall tower")
    expect(page.locator("ins").first).to_contain_text("Mine")
    page.click("li:has-text('Version 1') >> text=Restore")
    expect(page.locator("#region-lead")).to_have_text(OLD)
    expect(page.locator(".colophon")).to_contain_text("Restored from version 1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_edit_and_history_pages_fit_a_small_phone(tmp_path: Path, serve: Serve, open_tab: OpenTab, scheme: str) -> None:
    url = serve(two(tmp_path))
    tab = open_tab(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    tab.goto(url)
    tab.finished()
    for path in ("/_unwritten/edit?page=/", "/_unwritten/history?page=/"):
        tab.goto(url + path)
        assert tab.js("() => document.documentElement.scrollWidth <= innerWidth")
        assert tab.page.locator("h1").count() == tab.page.locator("main").count() == 1


LINKED = """{% extends "layout.html" %}{% block main %}
{% block lead %}{{ lead }}{% endblock %}{{ edit_link("lead") }}{% block body %}{{ body }}{% endblock %}{% endblock %}"""


def test_edit_forms_open_and_close_under_their_region(tmp_path: Path, serve: Serve, open_tab: OpenTab) -> None:
    app = App(
        "Linked",
        engine=scripted(by_ask={"Lead": OLD, "Body": "A body that stays."}),
        folder=templates(tmp_path, linked=LINKED),
    )
    app.configure({"database": str(tmp_path / "linked.db")})

    @app.page("/{title}")
    def one(title: str) -> Page:
        return Page("linked.html", lead=Canvas("Lead."), body=Canvas("Body."))

    url, tab = serve(app), open_tab()
    tab.goto(f"{url}/Tower")
    tab.finished()
    tab.ready()
    link = tab.page.locator("[data-edit-link]")
    link.click()
    tab.page.wait_for_selector(".inline-edit #text-lead")
    expect(tab.page.locator("#text-lead")).to_be_focused()
    expect(link).to_have_attribute("aria-expanded", "true")
    expect(tab.page).to_have_url(f"{url}/Tower")
    assert tab.axe().grave == []
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator(".inline-edit")).to_have_count(0)
    expect(link, "the focus returns to the link").to_be_focused()
    link.click()
    tab.page.fill(".inline-edit #text-lead", "My own words.")
    tab.page.click(".inline-edit >> text=Save")
    until(lambda: "My own words." in tab.text("lead"))
