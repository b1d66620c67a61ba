"""Pages in a browser during and after generation."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab, Serve, until
from tests.support.apps import make_wiki

from unwritten import App, Canvas, Page
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import HANG, Step, denoising_frames, scripted

pytestmark = pytest.mark.browser


TEXT = (
    "A **lighthouse** is a [[Tower]] with a [[Lamp|bright lamp]]. It stands by the sea.\n\n## History\n\n"
    "The first one burned wood, and the second burned [[Coal]].\n\n- stone\n- light\n"
)


def test_a_click_shows_the_shell_then_frames_then_the_finished_page(
    serve: Serve, open_tab: OpenTab, tmp_path: Path
) -> None:
    home = "Go to [[Lighthouse]]."
    words: list[Step] = [0.5, *(TEXT[:end] for end in range(4, len(TEXT), 4)), TEXT]
    engine = scripted(words, by_ask={"Home": home}, delay=0.02)
    url = serve(make_wiki(tmp_path, engine))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Home")
    tab.finished()
    tab.ready()
    link = tab.page.locator("#region-body a", has_text="Lighthouse")
    assert link.get_attribute("class") == "unwritten"
    link.click()

    tab.page.wait_for_selector("h1:has-text('Lighthouse')")
    assert tab.page.get_attribute("#region-body", "aria-busy") == "true"
    assert tab.page.locator(".skeleton").count() == 1
    expect(tab.page).to_have_url(f"{url}/wiki/Lighthouse")
    until(lambda: "A lighthouse is" in tab.text("body"))
    tab.page.wait_for_selector(".unsettled")
    until(lambda: tab.page.get_attribute("#region-body", "data-state") == "written")
    until(lambda: "just now" in tab.page.inner_text("[data-colophon]"))

    assert "The first one burned wood" in tab.text("body")
    expect(tab.page.locator("#region-body")).to_have_attribute("aria-busy", "false")
    expect(tab.page.locator(".unsettled")).to_have_count(0)
    frames = [event["frame"] for event in tab.events("frame") if event["page"] == "/wiki/Lighthouse"]
    assert len(frames) > 5
    assert frames == sorted(set(frames))
    assert tab.page.title() == "Lighthouse · Fake Wiki"
    assert tab.loads("/wiki/Lighthouse") == 1
    assert len(tab.events("open")) == 1, "one socket for both pages"


def test_links_work_in_an_unfinished_page(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(TEXT, by_ask={"Lighthouse": ["A [[Tower]] ", "A [[Tower]] with a ", HANG]}, delay=0.05)
    url = serve(make_wiki(tmp_path, engine))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.page.click("#region-body a:has-text('Tower')")
    tab.page.wait_for_selector("h1:has-text('Tower')")
    until(lambda: tab.page.get_attribute("#region-body", "data-state") == "written")
    tab.page.go_back()
    tab.page.wait_for_selector("h1:has-text('Lighthouse')")
    until(lambda: "with a" in tab.text("body"))
    assert len([r for r in engine.requests if "Lighthouse" in r.prompt.ask]) == 1, "the job continued in the background"


def test_frames_do_not_replace_a_pressed_link(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    # The word under the pointer turns from one link into another between mousedown and mouseup.
    words = [f"[[Tower {number}]] stands" for number in range(200)]
    url = serve(make_wiki(tmp_path, scripted(TEXT, by_ask={"Lighthouse": words}, delay=0.05)))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    box = tab.page.locator("#region-body a").bounding_box()
    assert box is not None
    tab.page.mouse.move(box["x"] + 10, box["y"] + 10)
    tab.page.mouse.down()
    pressed = tab.page.locator("#region-body a").inner_text()
    time.sleep(0.5)
    assert tab.page.locator("#region-body a").inner_text() == pressed
    tab.page.mouse.up()
    tab.page.wait_for_selector(f"h1:text-is('{pressed}')")


def test_back_and_reload_show_the_stored_page(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(TEXT)
    url = serve(make_wiki(tmp_path, engine))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.finished()
    tab.ready()
    written = tab.html("body")
    tab.page.click("#region-body a:has-text('Tower')")
    tab.page.wait_for_selector("h1:has-text('Tower')")
    until(lambda: tab.page.get_attribute("#region-body", "data-state") == "written")
    tab.page.go_back()
    tab.page.wait_for_selector("h1:has-text('Lighthouse')")
    # Meanwhile the link's target has been written.
    again = written.replace('href="/wiki/Tower" class="unwritten"', 'href="/wiki/Tower" class="written"')
    until(lambda: tab.html("body") == again)
    tab.page.reload()
    expect(tab.page.locator("[data-colophon]")).to_contain_text("Written on")
    assert tab.html("body") == again
    assert len(engine.requests) == 2


def test_two_tabs_share_one_job(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(TEXT, delay=0.05)
    url = serve(make_wiki(tmp_path, engine))
    one, two = open_tab(), open_tab()
    one.goto(f"{url}/wiki/Lighthouse")
    until(lambda: "A lighthouse" in one.text("body"))
    two.goto(f"{url}/wiki/Lighthouse")
    assert "A lighthouse" in two.text("body"), "a second tab shows the current frame at once"
    one.finished()
    two.finished()
    assert one.html("body") == two.html("body")
    assert len(engine.requests) == 1


def test_outdated_frames_are_ignored(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(
        make_wiki(tmp_path, scripted([*(" ".join(map(str, range(n))) for n in range(1, 40)), HANG], delay=0.02))
    )
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    until(lambda: len(tab.events("frame")) > 3)
    tab.js("() => { document.querySelector('#region-body').dataset.frame = 9e15; notes.events.length = 0; }")
    time.sleep(0.4)
    assert tab.events("frame") == []


def test_the_stop_button_stops_the_job(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(["A tower ", "A tower by ", HANG])
    url = serve(make_wiki(tmp_path, engine))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    stop = tab.page.get_by_role("button", name="Stop")
    until(lambda: "A tower by" in tab.text("body") and stop.is_visible())
    stop.focus()
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("aside[data-notice]")
    until(lambda: tab.events("page")[-1]["state"] == "stopped")
    expect(tab.page.locator("#region-body")).to_have_attribute("data-state", "stopped")
    expect(tab.page.locator("#region-body")).to_have_attribute("aria-busy", "false")
    expect(tab.page.locator("[data-stop]")).to_have_count(0)
    until(lambda: engine.stopped == 1)  # the page is notified first
    tab.page.locator("aside[data-notice]").get_by_role("button", name="Try again").click()
    until(lambda: len(engine.requests) == 2)
    until(lambda: tab.page.locator("aside[data-notice]").count() == 0)  # the old text is shown until then
    until(lambda: "A tower by" in tab.text("body"))


def test_a_failure_is_shown_with_a_retry_button(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(["A tower ", 0.2, GenerationFailed("The lamp broke.")])))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.page.wait_for_selector("aside[data-notice]")
    assert "A tower" in tab.text("body")
    expect(tab.page.locator("#region-body")).to_have_attribute("data-state", "failed")
    expect(tab.page.locator("aside[data-notice] [name=page]")).to_have_value("/wiki/Lighthouse")
    expect(tab.page.locator("aside[data-notice]").get_by_role("button", name="Try again")).to_be_visible()


def test_a_page_can_be_regenerated(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(TEXT)
    url = serve(make_wiki(tmp_path, engine))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.finished()
    tab.ready()
    length = tab.js("() => history.length")
    tab.page.get_by_role("button", name="Regenerate").click()
    until(lambda: "Version 2 of 2" in tab.page.inner_text("[data-colophon]"))
    expect(tab.page).to_have_url(f"{url}/wiki/Lighthouse")
    assert tab.js("() => history.length") == length
    assert len(engine.requests) == 2
    tab.page.get_by_role("link", name="Previous version").click()
    expect(tab.page.locator("aside.old")).to_contain_text("version 1 of 2")


def test_canvases_are_written_at_the_same_time(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "two.html").write_text(
        '{% extends "layout.html" %}{% block main %}<h1>{{ page.title }}</h1>'
        "{% block left %}{{ left }}{% endblock %}{% block right %}<b>{{ right }}</b>{% endblock %}{% endblock %}"
    )
    engine = scripted(by_ask={"left": list(denoising_frames(TEXT, steps=8)), "right": "One two three."}, delay=0.05)
    app = App("Two", engine=engine, folder=tmp_path, database=str(tmp_path / "pages.db"))

    @app.page("/p/{title}")
    def two(title: str) -> Page:
        return Page("two.html", title=title, left=Canvas("left"), right=Canvas("right", format="text"))

    tab = open_tab()
    tab.goto(f"{serve(app)}/p/X")
    tab.finished()
    assert {event["region"] for event in tab.events("written")} == {"left", "right"}
    expect(tab.page.locator("#region-right b")).to_contain_text("One two three.")
    assert "The first one burned wood, and the second burned Coal." in tab.text("left")


def test_a_written_page_opens_no_socket(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(TEXT), prefetch="off", edits="off"))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse?plain=1")
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.page.wait_for_load_state("load")
    time.sleep(0.2)
    assert tab.events("open") == []
