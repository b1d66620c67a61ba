"""The format "app": drafts and finished apps. ``web/test_boxes.py`` tests what is served into the iframe."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.support.apps import a_linker, browser, make_app, tables, text_frame, write
from tests.support.hostile import VECTORS
from tests.support.html_checks import faults

from unwritten import Canvas
from unwritten.core.errors import PageFailed
from unwritten.formats.app import app_text, extract_document
from unwritten.formats.base import Formatter, RegionContext
from unwritten.formats.registry import FORMATS
from unwritten.routing.prompts import build_prompt
from unwritten_engine import Frame, Usage, scripted

LAPS = "<!doctype html>\n<html><title>Laps &amp; more</title><p>Laps <b>so</b> far</p><script>let x = 1</script></html>"


def make_formatter() -> Formatter:
    return FORMATS["app"].create_formatter(RegionContext(a_linker("/app/Here"), "art", 'A "counter"'))


def test_a_draft_shows_the_source_as_text() -> None:
    html = str(make_formatter().format(text_frame(LAPS[:39])).html)
    assert html == (
        '<pre class="source"><code>&lt;!doctype html&gt;\n&lt;html&gt;&lt;title&gt;Laps &amp;amp;</code></pre>'
    )
    many = "\n".join(f"line {number}" for number in range(100))
    html = str(make_formatter().format(text_frame(many, ((len(many) - 2, len(many)),))).html)
    assert "line 85" not in html and "line 86\n" in html
    assert 'line <span class="unsettled">99</span></code>' in html
    assert "<code>x</code>" in make_formatter().format(text_frame("x")).html


def test_the_source_of_a_draft_is_inert() -> None:
    for vector in VECTORS:
        for end in range(0, len(vector) + 1, 3):
            html = str(make_formatter().format(text_frame(vector[:end], ((0, end),) if end else ())).html)
            assert faults(html.replace(' class="quiet"', "").replace(' class="source"', "")) == []


def test_a_finished_app_is_an_iframe_with_the_documents_title() -> None:
    formatted = make_formatter().format(text_frame(LAPS, done=True))
    assert str(formatted.html).startswith('<iframe class="box" title="Laps &amp; more" sandbox="allow-scripts" ')
    assert 'src="/_unwritten/box?page=%2Fapp%2FHere&amp;region=art&amp;text=' in formatted.html
    assert formatted.search_text == "Laps & more Laps so far"
    untitled = make_formatter().format(text_frame("<!doctype html><p>x</p>", done=True)).html
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
def test_a_document_is_found_among_prose_and_fences(text: str) -> None:
    assert extract_document(text) == LAPS


def test_the_doctype_is_optional_and_strings_are_ignored() -> None:
    assert extract_document("<p>Hm.</p>\n<div>x</div>\n<script>1</script>") == "<div>x</div>\n<script>1</script>"
    nested = "<!doctype html><script>const other = '<!doctype html><p>x'</script>"
    assert extract_document(nested) == nested


@pytest.mark.parametrize(
    "text", ["", "I would rather not.", "<!doctype html>", "<!doctype html>\nA counter is useful."]
)
def test_a_text_without_a_document_fails_with_a_message(text: str) -> None:
    with pytest.raises(PageFailed, match="The model wrote text instead of an app"):
        make_formatter().format(text_frame(text, done=True))


def test_an_incomplete_app_fails() -> None:
    cut = Usage(9, 9, 0, 9, 1, 0.1, 0.0, "length", 0)
    with pytest.raises(PageFailed, match="did not fit into its canvas and is incomplete"):
        make_formatter().format(Frame(LAPS[:-10], usage=cut))
    make_formatter().format(Frame(LAPS, usage=cut))
    make_formatter().format(text_frame(LAPS[: -len("</html>")], done=True))  # ended by its stop


def test_app_text_is_the_visible_text() -> None:
    assert app_text("<style>p { x }</style><p>a<b>b</b> &lt;c&gt;</p><SCRIPT>d</SCRIPT ><!-- e -->f") == "a b <c> f"


@pytest.mark.parametrize("part", ["<script>", "<!doctype html>", "<!--", "<", "<p>", "<title>", "&", "<style>x", "```"])
def test_long_texts_take_linear_time(part: str) -> None:
    text = "<!doctype html><p>" + part * (200_000 // len(part))
    begun = time.thread_time()
    app_text(extract_document(text))
    make_formatter().format(text_frame(text))
    assert time.thread_time() - begun < 5


def test_the_prompt_has_instructions_and_examples() -> None:
    prompt = build_prompt(world="", canvas=Canvas("A counter.", "app"), subject="Laps")
    assert "box.save(state)" in prompt.system and "no network" in prompt.system
    assert prompt.opening == "<!doctype html>\n"
    assert len(prompt.examples) == 2
    for example in prompt.examples:
        assert example.answer.startswith(prompt.opening) and example.answer.endswith("</html>")
        assert make_formatter().format(text_frame(example.answer, done=True)).search_text


def test_an_app_is_stored_and_found_by_its_visible_text(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(LAPS))

    @app.page("/app/{title}")
    def page(title: str) -> Canvas:
        return Canvas(f"A counter for {title}.", "app", tokens=2000)

    with browser(app) as client:
        write(client, "/app/Tea")
        assert [hit.key for hit in app.store.search("laps")] == ["/app/Tea"]
        assert app.store.search("script") == [] and app.store.search("doctype") == []
    assert tables(tmp_path / "pages.db")["links"] == []
