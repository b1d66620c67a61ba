"""The developer tools in a browser: the panel, the overlay, and reload in place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from starlette.responses import Response
from tests.browser.tabs import OpenTab, Serve, Tab, until
from tests.support.apps import make_app, make_two, make_wiki, templates
from tests.support.servers import OWNER_TOKEN, free_port

from unwritten import App
from unwritten_engine.scripted import HANG, denoising_frames, scripted

pytestmark = pytest.mark.browser


TEXT = "A lighthouse is a tower with a bright [[lamp]], and it stands by the sea for as long as the sea lets it."

FORM = """{% extends "layout.html" %}{% block head %}
<link rel="stylesheet" href="{{ static('look.css') }}">{% endblock %}
{% block main %}<h1>The old words</h1><form><input name="q"><textarea name="t"></textarea></form>
<details><summary>More</summary><p>Inside</p></details><div class="long">Long</div>{% endblock %}"""
LOOK = "h1 { color: rgb(1, 2, 3); } .long { height: 3000px; }"


def shown(tab: Tab, selector: str) -> bool:
    return bool(tab.js("(s) => !!document.querySelector(s)?.checkVisibility()", selector))


@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_button_covers_no_button_of_the_page(
    serve: Serve, open_tab: OpenTab, tmp_path: Path, language: str
) -> None:
    engine = scripted("All words.", by_ask={"Waiting": ["Some words.", HANG]})
    url = serve(make_wiki(tmp_path, engine, debug=True, language=language))
    tab = open_tab(viewport={"width": 1280, "height": 600})
    for title, button in (("Lighthouse", ".colophon .actions button"), ("Waiting", "[data-stop]")):
        tab.goto(f"{url}/wiki/{title}")
        tab.page.locator(button).wait_for()
        tab.page.locator(".devtools-button").wait_for()
        tab.js("() => scrollTo(0, document.body.scrollHeight)")
        inner, outer = (tab.page.locator(found).bounding_box() for found in (button, ".devtools-button"))
        assert inner and outer and inner["y"] + inner["height"] <= outer["y"], (title, inner, outer)
    assert tab.js("() => getComputedStyle(document.querySelector('.devtools-button')).direction") == "ltr"


def test_the_panel_shows_every_frame_of_a_canvas(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(denoising_frames(TEXT, steps=12), delay=0.01), debug=True))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.finished()
    assert not shown(tab, ".devtools-panel")
    tab.page.keyboard.press("Backquote")
    until(lambda: shown(tab, ".devtools-stage"))
    assert tab.js("() => document.activeElement.textContent") == "Developer tools", "the focus is in the panel"
    stage = tab.page.locator(".devtools-stage")
    until(lambda: stage.inner_text() == tab.text("body"))
    assert stage.locator(".unsettled").count() == 0
    scrubber = tab.page.get_by_label("Frame", exact=True)
    assert scrubber.get_attribute("max") == "12"
    scrubber.focus()
    tab.page.keyboard.press("Home")
    until(lambda: stage.locator(".unsettled").count() > 5)
    assert "step 1 of at most 12" in tab.page.locator(".devtools-scrubber output").inner_text()
    noise = stage.inner_text()
    assert noise != tab.text("body") and stage.locator("a").count() == 0
    tab.page.keyboard.press("ArrowRight")
    until(lambda: stage.inner_text() != noise)
    assert tab.js("() => document.activeElement.type") == "range", "the scrubber keeps the focus"
    tab.page.get_by_role("button", name="Play").click()
    until(lambda: "settled" in tab.page.locator(".devtools-scrubber output").inner_text().split("·")[1])
    tab.page.get_by_text("Prompt", exact=True).click()
    expect(tab.page.get_by_text("An encyclopedia article about Lighthouse.", exact=True)).to_be_visible()
    expect(tab.page.locator(".devtools-trace")).to_contain_text("SELECT p.key")
    tab.page.keyboard.press("Escape")
    until(lambda: not shown(tab, ".devtools-panel"))
    expect(tab.page.locator(".devtools-button")).to_be_focused()


def test_the_panel_follows_a_running_job(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted([*denoising_frames(TEXT, steps=3)[:2], HANG]), debug=True))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.page.get_by_role("button", name="Developer").click()
    until(lambda: "step 2 of at most 3" in tab.page.locator(".devtools-body").inner_text())
    assert tab.page.locator(".devtools-stage .unsettled").count() > 0
    tab.page.get_by_role("button", name="Stop").click()
    until(lambda: "state\nstopped" in tab.page.locator(".devtools-body").inner_text())


def test_the_shortcut_is_a_plain_character_in_text_fields(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    tab.goto(serve(with_form(tmp_path)) + "/")
    tab.page.locator("textarea").focus()
    tab.page.keyboard.press("Backquote")
    expect(tab.page.locator("textarea")).to_have_value("`")
    assert not shown(tab, ".devtools-panel")


def form(home: Path) -> Path:
    (home / "static").mkdir(exist_ok=True)
    (home / "static" / "look.css").write_text(LOOK)
    return templates(home, form=FORM)


def with_form(home: Path) -> App:
    app = make_app(home, scripted("x"), folder=form(home), debug=True)

    @app.page("/")
    def front() -> Response:
        return app.render("form.html")

    return app


def fill(tab: Tab) -> None:
    """Fill in the form, open the details, scroll, and focus a field."""
    tab.page.fill("[name=q]", "half a qu")
    tab.page.fill("[name=t]", "half a text")
    tab.page.get_by_text("More").click()
    tab.page.focus("[name=q]")
    tab.js("() => { scrollTo(0, 700); window.same = true; }")


def assert_kept(tab: Tab) -> None:
    assert tab.page.input_value("[name=q]") == "half a qu" and tab.page.input_value("[name=t]") == "half a text"
    assert tab.js("() => [document.querySelector('details').open, document.activeElement.name, scrollY]") == [
        True,
        "q",
        700,
    ]
    assert tab.js("() => window.same"), "the document was not reloaded"


def test_a_changed_template_is_shown_in_place(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = with_form(tmp_path)
    tab = open_tab()
    tab.goto(serve(app) + "/")
    tab.ready()
    fill(tab)
    templates(tmp_path, form=FORM.replace("The old words", "The new words"))
    app.devtools.refresh_soon()
    until(lambda: tab.page.locator("h1").inner_text() == "The new words")
    assert_kept(tab)
    assert tab.page.locator(".devtools-button").count() == 1


def test_a_changed_style_sheet_is_shown_in_place(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = with_form(tmp_path)
    tab = open_tab()
    tab.goto(serve(app) + "/")
    fill(tab)
    colour = "() => getComputedStyle(document.querySelector('h1')).color"
    assert tab.js(colour) == "rgb(1, 2, 3)"
    (tmp_path / "static" / "look.css").write_text(LOOK.replace("1, 2, 3", "4, 5, 6"))
    app.devtools.refresh_soon()
    until(lambda: tab.js(colour) == "rgb(4, 5, 6)")
    assert_kept(tab)
    until(lambda: tab.page.locator("link[href*='look.css']").count() == 1)


BLOCKS = """{% extends "layout.html" %}{% block main %}
{% block lead %}{{ lead }}{% endblock %}
{% block body %}
{{ body }}{{ 1 / (body.text|length - 16) }}
{% endblock %}{% endblock %}"""


def test_an_error_in_a_block_is_shown_in_the_overlay(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(
        by_ask={"Lead": "A tower.", "Body": ["It stands", 1.0, "It stands by the", 0.4, "It stands by the sea."]}
    )
    app = make_two(tmp_path, engine, BLOCKS, debug=True)
    tab = open_tab()
    tab.goto(serve(app) + "/")
    until(lambda: shown(tab, ".devtools-overlay"))
    overlay = tab.page.locator(".devtools-overlay")
    assert "ZeroDivisionError" in overlay.inner_text() and "two.html, line 4" in overlay.inner_text()
    assert "1 / (body.text|length - 16)" in overlay.locator("[aria-current]").inner_text()
    assert "drawing.py" not in overlay.inner_text() and tab.text("lead") == "A tower."
    tab.page.keyboard.press("Escape")
    until(lambda: not shown(tab, ".devtools-overlay"))
    until(lambda: any(event["state"] == "failed" for event in tab.events("page")))  # the job has ended
    templates(tmp_path, two=BLOCKS.replace("{{ 1 / (body.text|length - 16) }}", ""))
    app.devtools.refresh_soon()
    until(lambda: "by the sea." in tab.text("body"))
    assert not shown(tab, ".devtools-overlay")


def test_the_page_stays_under_the_overlay_of_an_error(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = with_form(tmp_path)
    tab = open_tab()
    tab.goto(serve(app) + "/")
    fill(tab)
    templates(tmp_path, form=FORM.replace("The old words", "{{ 1 / 0 }}"))
    app.devtools.refresh_soon()
    until(lambda: shown(tab, ".devtools-overlay"))
    expect(tab.page.locator(".devtools-overlay")).to_contain_text("form.html, line 3")
    assert_kept(tab)
    templates(tmp_path, form=FORM.replace("The old words", "The new words"))
    app.devtools.refresh_soon()
    until(lambda: tab.page.locator("h1").inner_text() == "The new words")
    assert not shown(tab, ".devtools-overlay")
    assert_kept(tab)


APP = """
from unwritten import App
from unwritten_engine import scripted

app = App("Small", folder=__file__, engine=scripted("Words."))

@app.page("/")
def front():
    return app.render("form.html", title="The old title")
"""


@pytest.fixture
def author(home: Path) -> Iterator[str]:
    """Run ``unwritten run app.py`` in the folder of an app, and return its URL."""
    form(home)
    (home / "app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "unwritten", "run", "app.py", "--port", str(port)]
    with (
        (home.parent / "log").open("w") as log,
        subprocess.Popen(
            command, env={**os.environ, "UNWRITTEN_OWNER_TOKEN": OWNER_TOKEN}, stdout=log, stderr=log
        ) as run,
    ):
        try:
            until(lambda: "Ctrl-C stops" in (home.parent / "log").read_text(), 30)
            yield f"http://127.0.0.1:{port}"
        finally:
            run.terminate()
            run.wait(15)


def test_a_restarted_app_is_shown_in_place(author: str, home: Path, open_tab: OpenTab) -> None:
    log = home.parent / "log"
    tab = open_tab()
    tab.quiet = True  # the socket closes with the server
    tab.goto(f"{author}/?_owner={OWNER_TOKEN}")
    until(lambda: tab.events("open"))
    fill(tab)
    (home / "app.py").write_text(APP.replace("old title", "new title"))
    until(lambda: tab.page.title() == "The new title · Small", 30)
    assert_kept(tab)
    assert "app.py changed: restarting." in log.read_text()
    templates(home, form=FORM.replace("The old words", "The new words"))
    until(lambda: tab.page.locator("h1").inner_text() == "The new words")
    assert_kept(tab)
    assert "form.html changed: updating open pages." in log.read_text()
    assert log.read_text().count("changed: restarting") == 1


def test_an_app_that_cannot_start_is_shown_in_the_overlay(author: str, home: Path, open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.quiet = True
    tab.goto(f"{author}/?_owner={OWNER_TOKEN}")
    until(lambda: tab.events("open"))
    fill(tab)
    (home / "app.py").write_text(APP.replace('title="The old title"', "title=nothing +"))
    until(lambda: shown(tab, ".devtools-overlay"), 30)
    overlay = tab.page.locator(".devtools-overlay").inner_text()
    assert "SyntaxError" in overlay and "app.py, line 9" in overlay and "title=nothing +" in overlay
    assert_kept(tab)
    other = open_tab(beside=tab)
    other.quiet = True
    other.goto(f"{author}/")
    expect(other.page.locator("h1")).to_have_text("The app cannot start")
    (home / "app.py").write_text(APP.replace("The old title", "The new title"))
    until(lambda: tab.page.title() == "The new title · Small", 30)
    assert not shown(tab, ".devtools-overlay")
    assert_kept(tab)
    until(lambda: other.page.title() == "The new title · Small", 30)
