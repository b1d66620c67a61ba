"""Apps while they are written and when they are finished; what is served into their frame is in web/test_boxes.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.support.apps import a_linker, browser, faults, make_app, tables, text_frame, write
from tests.support.hostile import VECTORS

from unwritten import Canvas
from unwritten.asking.prompts import build_prompt
from unwritten.errors import PageFailed
from unwritten.formats import FORMATS, Drawer, Place
from unwritten.formats.boxed import document_of, words_of
from unwritten_engine import Frame, Usage, scripted

LAPS = "<!doctype html>\n<html><title>Laps &amp; more</title><p>Laps <b>so</b> far</p><script>let x = 1</script></html>"


def drawer() -> Drawer:
    return FORMATS["app"].at(Place(a_linker("/app/Here"), "art", 'A "counter"'))


def test_the_source_is_shown_as_text_until_it_is_finished() -> None:
    html = str(drawer().draw(text_frame(LAPS[:39])).html)
    assert html == (
        '<p class="quiet">An app is being written: 2 lines so far.</p>'
        '<pre class="source"><code>&lt;!doctype html&gt;\n&lt;html&gt;&lt;title&gt;Laps &amp;amp;</code></pre>'
    )
    many = "\n".join(f"line {number}" for number in range(100))
    html = str(drawer().draw(text_frame(many, ((len(many) - 2, len(many)),))).html)
    assert "100 lines so far" in html and "line 85" not in html and "line 86\n" in html
    assert 'line <span class="unsettled">99</span></code>' in html
    assert "one line so far" in drawer().draw(text_frame("x")).html and "0 lines" in drawer().draw(text_frame("")).html


def test_no_source_does_anything_while_it_is_shown() -> None:
    for vector in VECTORS:
        for end in range(0, len(vector) + 1, 3):
            html = str(drawer().draw(text_frame(vector[:end], ((0, end),) if end else ())).html)
            assert faults(html.replace(' class="quiet"', "").replace(' class="source"', "")) == []


def test_a_finished_app_is_a_frame_named_by_its_title() -> None:
    drawn = drawer().draw(text_frame(LAPS, done=True))
    assert str(drawn.html).startswith('<iframe class="box" title="Laps &amp; more" sandbox="allow-scripts" ')
    assert 'src="/_unwritten/box?page=%2Fapp%2FHere&amp;region=art&amp;text=' in drawn.html
    assert drawn.words == "Laps & more Laps so far"
    untitled = drawer().draw(text_frame("<!doctype html><p>x</p>", done=True)).html
    assert 'title="A &#34;counter&#34;"' in untitled


@pytest.mark.parametrize(
    "text",
    [
        LAPS,
        f"```html\n{LAPS}\n```",
        f"Here is your app:\n{LAPS}\nIt counts laps.",
        f"<!doctype html>\n```html\n{LAPS}\n```",
        f"<!doctype html>\nSure!\n{LAPS}",
    ],
)
def test_a_document_is_found_among_words_and_fences(text: str) -> None:
    assert document_of(text) == LAPS


def test_a_document_may_lack_its_beginning_or_speak_of_another() -> None:
    assert document_of("<p>Hm.</p>\n<div>x</div>\n<script>1</script>") == "<div>x</div>\n<script>1</script>"
    nested = "<!doctype html><script>const other = '<!doctype html><p>x'</script>"
    assert document_of(nested) == nested


@pytest.mark.parametrize(
    "text", ["", "I would rather not.", "<!doctype html>", "<!doctype html>\nA counter is useful."]
)
def test_a_text_without_a_document_fails_with_words(text: str) -> None:
    with pytest.raises(PageFailed, match="The model wrote words where an app belongs"):
        drawer().draw(text_frame(text, done=True))


def test_half_a_program_is_no_app() -> None:
    cut = Usage(9, 9, 0, 9, 1, 0.1, 0.0, "length", 0)
    with pytest.raises(PageFailed, match="longer than its canvas has room for, and half a program does not run"):
        drawer().draw(Frame(LAPS[:-10], usage=cut))
    drawer().draw(Frame(LAPS, usage=cut))
    drawer().draw(text_frame(LAPS[: -len("</html>")], done=True))  # ended by its stop


def test_words_are_those_that_people_read() -> None:
    assert words_of("<style>p { x }</style><p>a<b>b</b> &lt;c&gt;</p><SCRIPT>d</SCRIPT ><!-- e -->f") == "a b <c> f"


@pytest.mark.parametrize("part", ["<script>", "<!doctype html>", "<!--", "<", "<p>", "<title>", "&", "<style>x", "```"])
def test_a_text_without_end_takes_no_time_without_end(part: str) -> None:
    text = "<!doctype html><p>" + part * (200_000 // len(part))
    begun = time.monotonic()
    words_of(document_of(text))
    drawer().draw(text_frame(text))
    assert time.monotonic() - begun < 5


def test_the_prompt_says_what_an_app_is() -> None:
    prompt = build_prompt(world="", canvas=Canvas("A counter.", "app"), subject="Laps")
    assert "box.save(state)" in prompt.system and "no network" in prompt.system
    assert prompt.opening == "<!doctype html>\n"
    assert len(prompt.examples) == 2
    for example in prompt.examples:
        assert example.answer.startswith(prompt.opening) and example.answer.endswith("</html>")
        assert drawer().draw(text_frame(example.answer, done=True)).words


def test_an_app_is_kept_and_found_by_its_words(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(LAPS))

    @app.page("/app/{title}")
    def page(title: str) -> Canvas:
        return Canvas(f"A counter for {title}.", "app", tokens=2000)

    with browser(app) as client:
        write(client, "/app/Tea")
        assert [hit.key for hit in app.store.search("laps")] == ["/app/Tea"]
        assert app.store.search("script") == [] and app.store.search("doctype") == []
    assert tables(tmp_path / "pages.db")["links"] == []
