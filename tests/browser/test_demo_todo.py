"""The to-do demo in a browser: a first session with the embedded model, voice input, and no JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from tests.browser.tabs import OpenTab, Tab, note, until
from tests.support.servers import served

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten_engine import Engine, open_engine
from unwritten_engine.scripted import scripted

pytestmark = pytest.mark.browser

TODO = Path(__file__).resolve().parents[2] / "demos" / "todo" / "app.py"
WISH = "a list for the garden with due dates, and who does it"
GARDEN = (
    '{"name":"Garden jobs","items":['
    + ",".join(f'{{"to do for garden":"Job number {n}","days":{n - 1},"who":"Ann"}}' for n in range(7))
    + '],"purpose":"All that the garden needs"}'
)

# A fake of the browser's speech recognition: interim words, then the final ones, or an error.
LISTENS = """
window.webkitSpeechRecognition = class {
  start() {
    window.listened = (window.listened || 0) + 1;
    const say = (words, final) => {
      const result = Object.assign([{ transcript: words }], { isFinal: final });
      this.onresult({ results: [result], resultIndex: 0 });
    };
    if (window.fails) setTimeout(() => { this.onerror({ error: window.fails }); this.onend(); }, 20);
    else {
      setTimeout(() => say("a list for the", false), 20);
      setTimeout(() => say("a list for the garden", true), 150);
    }
    this.stop = () => this.onend();
    window.hears = this;
  }
};
delete window.SpeechRecognition;
"""


FIRST = """() => {
  const words = document.querySelector(".making .what");
  return words?.innerText.includes("Job") ? words.getBoundingClientRect().top : 0;
}"""
"""Returns the position of the first item when it has text, else 0."""


def app_of(folder: Path, engine: Engine) -> App:
    """Return the demo with an opened engine. Opening one takes longer than the start timeout of the server."""
    app = load_app(str(TODO))
    app.override(engine, {"database": str(folder / "todo.db")})
    return app


@pytest.fixture
def scripted_todo(tmp_path: Path) -> Iterator[str]:
    """Serve the demo with a scripted engine."""
    choices = '{"choices":["Shed","Pond","Path"]}'
    app = app_of(
        tmp_path,
        scripted(by_ask={"Three choices": choices, "garden": [GARDEN[:60], GARDEN[:150], 1.5, GARDEN]}, delay=0.1),
    )
    with served(app) as address:
        yield f"http://{address}"
    app.override(None, {})


@pytest.fixture
def embedded_todo(tmp_path: Path) -> Iterator[str]:
    """Serve the demo with the embedded model."""
    app = app_of(tmp_path, open_engine("embedded"))
    with served(app) as address:
        yield f"http://{address}"
    app.override(None, {})


def is_made(tab: Tab, seconds: float = 20) -> None:
    until(lambda: tab.js("() => !!document.querySelector('#add')"), seconds)


def ticked(tab: Tab) -> None:
    until(lambda: tab.js("() => !!document.querySelector('.items .done')"))


def message(tab: Tab) -> Locator:
    return tab.page.locator(".list-message")


def order(tab: Tab, words: str, answer: str) -> None:
    tab.page.fill("#order", words)
    tab.page.click("button:text('Change list')")
    until(lambda: answer in tab.page.inner_text("main"), 60)


@pytest.mark.model
def test_a_first_session(embedded_todo: str, open_tab: OpenTab) -> None:
    tab, other = open_tab(viewport={"width": 1000, "height": 800}), open_tab()
    tab.goto(embedded_todo)
    found = tab.axe()
    assert not found.grave, str(found)
    tab.page.fill("#wish", WISH)
    tab.page.click("button:text('Create list')")
    until(lambda: tab.js("() => !!document.querySelector('.making')"))
    is_made(tab, 120)
    assert tab.page.url.endswith("/list/garden")
    count = tab.page.locator(".items > li").count()
    assert 1 <= count <= 5
    other.goto(f"{embedded_todo}/list/garden")
    tab.page.click(".tick button >> nth=0")
    for one in (tab, other):
        ticked(one)
    tab.page.click("#add summary")
    tab.page.fill("#add input[name=what]", "Plant a pear")
    tab.page.click("button:text('Add')")
    until(lambda: "Plant a pear" in other.text("sheet"))
    tab.page.click("button:text('Undo')")
    expect(message(tab)).to_contain_text("Undone: added")
    order(tab, "add a priority", "Added Priority (High, Medium, Low).")
    order(tab, "remove the due date", "would delete data")
    tab.page.click("button:text('Cancel')")
    expect(message(tab)).to_contain_text("Nothing was changed.")
    found = tab.axe()
    assert not found.grave, str(found)
    assert tab.layout_shift() <= 0.05, note(tab.shifts)


def test_a_finished_list_becomes_interactive_in_place(scripted_todo: str, open_tab: OpenTab) -> None:
    tab = open_tab(viewport={"width": 1000, "height": 800})
    tab.goto(f"{scripted_todo}/list/garden_with_due_dates_and_who")
    top = 0.0
    while not top:
        top = tab.js(FIRST)
    is_made(tab)
    assert tab.loads("/list/garden_with_due_dates_and_who") == 1, "the page was not loaded again"
    assert abs(tab.js("() => document.querySelector('.what').getBoundingClientRect().top") - top) <= 2
    assert tab.layout_shift() <= 0.05, note(tab.shifts)
    order(tab, "split by corner", "Added Corner (Shed, Pond, Path).")
    tab.page.keyboard.press("Escape")
    tab.js("() => document.querySelector('.tick button').focus()")
    tab.page.keyboard.press("Space")
    until(lambda: tab.js("() => document.activeElement.getAttribute('aria-checked') === 'true'"))


@pytest.mark.parametrize("width", [320, 2560])
def test_the_list_fits_any_width(scripted_todo: str, open_tab: OpenTab, width: int) -> None:
    tab = open_tab(viewport={"width": width, "height": 800})
    tab.goto(f"{scripted_todo}/list/garden_with_due_dates_and_who")
    is_made(tab)
    tab.page.click(".more summary >> nth=1")
    expect(tab.page.locator(".more").nth(1)).to_have_attribute("open", "")
    assert tab.js("() => document.documentElement.scrollWidth") <= width
    found = tab.axe()
    assert not found.grave, str(found)


def test_the_microphone_asks_for_consent_first(scripted_todo: str, open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.page.add_init_script(LISTENS)
    tab.goto(scripted_todo)
    tab.page.click(".microphone")
    expect(tab.page.locator(".asking")).to_contain_text("sends the recording to its vendor")
    assert not tab.js("() => window.listened"), "it does not listen before consent"
    tab.page.click("button:text('Use the microphone')")
    until(lambda: tab.page.input_value("#wish") == "a list for the")
    expect(tab.page.locator(".microphone")).to_have_attribute("aria-pressed", "true")
    until(lambda: tab.page.input_value("#wish") == "a list for the garden")
    tab.page.click(".microphone")
    until(lambda: "Check the text" in tab.page.inner_text("[data-voice-words]"))
    tab.js("() => { window.fails = 'not-allowed'; }")
    tab.page.click(".microphone")
    until(lambda: "microphone is blocked" in tab.page.inner_text("[data-voice-words]"))
    assert tab.page.input_value("#wish") == "a list for the garden", "the recognized text is kept"
    assert tab.js("() => window.listened") == 2, "consent is requested once"


def test_a_browser_without_voice_input_shows_a_message(scripted_todo: str, open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.page.add_init_script("delete window.SpeechRecognition; delete window.webkitSpeechRecognition;")
    tab.goto(scripted_todo)
    until(lambda: "does not support voice input" in tab.page.inner_text("[data-voice-words]"))
    assert not tab.page.is_visible(".microphone")


def test_it_works_without_javascript(scripted_todo: str, open_tab: OpenTab) -> None:
    tab = open_tab(java_script_enabled=False)
    tab.page.goto(scripted_todo)
    tab.page.fill("#wish", WISH)
    tab.page.click("button:text('Create list')")
    tab.page.wait_for_url("**/list/garden?plain=1")  # the load event follows the end of the stream
    tab.page.goto(f"{scripted_todo}/list/garden")
    tab.page.click(".tick button >> nth=0")
    expect(message(tab)).to_contain_text("Done: “Job number 0”.")
    tab.page.click("button:text('Undo')")
    expect(message(tab)).to_contain_text("Undone")


def test_a_list_shows_drafts_of_a_diffusion_model(tmp_path: Path, open_tab: OpenTab) -> None:
    app = app_of(tmp_path, open_engine("diffusion", model="random"))
    with served(app) as address:
        tab = open_tab()
        tab.goto(f"http://{address}")
        tab.page.fill("#wish", WISH)
        tab.page.click("button:text('Create list')")
        until(lambda: tab.js("() => !!document.querySelector('.making .unsettled')"), 60)
        until(lambda: tab.js("() => !!document.querySelector('#add, .list-message')"), 60)
    app.override(None, {})
