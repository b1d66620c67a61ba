"""Formats of authors: their HTML is sanitized like all generated HTML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape
from tests.support.apps import a_linker, browser, make_app, tables, text_frame, write
from tests.support.hostile import VECTORS, few_examples, hostile_texts, prefix_of, spans_in
from tests.support.html_checks import faults

from unwritten import Canvas, Example, Page
from unwritten.core.errors import BadPage, PageFailed
from unwritten.formats.base import Format, RegionContext
from unwritten.routing.prompts import build_prompt
from unwritten_engine import scripted


def verses(text: str) -> str:
    return Markup("").join(Markup("<p class='verse'>{}</p>").format(line) for line in text.splitlines() if line.strip())


POEM = Format(
    "poem",
    render=verses,
    instructions="Every text is a poem of four lines.",
    examples=[Example("A poem about salt.", "White.")],
    css_classes=["verse"],
)


def render(format: Format, text: str, spans: tuple[tuple[int, int], ...] = (), *, done: bool = True) -> str:
    return str(format.create_formatter(RegionContext(a_linker())).format(text_frame(text, spans, done=done)).html)


def test_the_result_keeps_its_classes_and_gets_links() -> None:
    assert render(POEM, "Grey [[Tower]],\n<b>sea</b>") == (
        '<p class="verse">Grey <a href="/wiki/Tower" class="written">Tower</a>,</p>'
        '<p class="verse">&lt;b&gt;sea&lt;/b&gt;</p>'
    )


@pytest.mark.parametrize("raw", [str, Markup], ids=["a string", "declared safe"])
def test_the_result_is_sanitized_even_if_it_is_markup(raw: Any) -> None:
    careless = Format("careless", render=lambda text: raw(text))
    assert render(careless, "<p class=region>a<script>alert(1)</script></p>") == "<p>a</p>"
    for vector in VECTORS:
        assert faults(render(careless, vector)) == [], vector


@few_examples
@given(hostile_texts, st.data())
def test_any_prefix_of_any_text_is_safe_and_balanced(text: str, data: st.DataObject) -> None:
    prefix = prefix_of(data, text)
    assert faults(render(Format("careless", render=str), prefix, spans_in(data, prefix), done=False)) == []


def test_listed_classes_are_removed_from_links() -> None:
    careless = Format("careless", render=str, css_classes=["unwritten", "verse"])
    html = render(careless, '<a class="verse" href="/wiki/Tower">x</a><b class="verse other">y</b>')
    assert html == '<a href="/wiki/Tower" class="written">x</a><b class="verse">y</b>'


def test_unsettled_text_is_marked_if_marks_do_not_change_the_result() -> None:
    assert render(POEM, "Grey sea", ((5, 8),), done=False) == (
        '<p class="verse">Grey <span class="unsettled">sea</span></p>'
    )
    counting = Format("counting", render=lambda text: f"<p>{len(text)} {escape(text)}</p>")
    assert render(counting, "Grey sea", ((5, 8),), done=False) == "<p>8 Grey sea</p>"


def test_a_draft_that_cannot_be_rendered_keeps_the_previous_one(caplog: pytest.LogCaptureFixture) -> None:
    def picky(text: str) -> str:
        if not text.endswith("."):
            raise ValueError("no end")
        return f"<p>{text}</p>"

    formatter = Format("picky", render=picky).create_formatter(RegionContext(a_linker()))
    assert formatter.format(text_frame("One.")).html == "<p>One.</p>"
    assert formatter.format(text_frame("One. Tw")).html == "<p>One.</p>"
    assert formatter.format(text_frame("One. Two.")).html == "<p>One. Two.</p>"
    formatter.format(text_frame("x"))
    assert [record.message for record in caplog.records] == [
        "The format 'picky' could not render the text: ValueError: no end. "
        "A format must be able to render any prefix of a text."
    ]
    with pytest.raises(PageFailed, match="The format 'picky' could not render the text: ValueError: no end"):
        formatter.format(text_frame("x", done=True))


def test_a_function_may_reject_a_finished_text() -> None:
    def strict(text: str) -> str:
        raise PageFailed("A haiku has three lines.")

    formatter = Format("haiku", render=strict).create_formatter(RegionContext(a_linker()))
    assert formatter.format(text_frame("One")).html == ""
    with pytest.raises(PageFailed, match="three lines"):
        formatter.format(text_frame("One", done=True))


def test_a_function_that_returns_no_string_fails() -> None:
    with pytest.raises(PageFailed, match="render returned list, expected a string of HTML"):
        render(Format("listed", render=lambda text: [text]), "x")  # type: ignore[arg-type, return-value]


def test_instructions_examples_and_opening_reach_the_prompt() -> None:
    prompt = build_prompt(world="A calm book.", canvas=Canvas("A poem about rain.", POEM), subject="Rain")
    assert prompt.system == "A calm book. Every text is a poem of four lines."
    assert prompt.examples == (Example("A poem about salt.", "White."),)
    opened = Format("opened", render=str, opening="O ")
    assert build_prompt(world="", canvas=Canvas("An ode.", opened), subject="").opening == "O "


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "Poem", "render": str}, "short name in lower-case letters"),
        ({"name": "", "render": str}, "short name in lower-case letters"),
        ({"name": "poem"}, "exactly one of render=…"),
        ({"name": "poem", "render": "verses"}, "exactly one of render=…"),
        ({"name": "poem", "render": str, "formatter": lambda context: None}, "exactly one of render=…"),
        ({"name": "poem", "render": str, "css_classes": "verse"}, r"Format\(css_classes=…\) takes a list"),
        ({"name": "poem", "render": str, "examples": "verse"}, r"Format\(examples=…\) takes a list"),
    ],
)
def test_wrong_arguments_are_rejected_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadPage, match=message):
        Format(**given)


def test_duplicate_names_are_rejected() -> None:
    with pytest.raises(BadPage, match="'html' is the name of a built-in format: give yours another name"):
        Canvas("Words.", Format("html", render=str))
    with pytest.raises(BadPage, match="two formats with the name 'poem'"):
        Page(one=Canvas("One.", POEM), two=Canvas("Two.", Format("poem", render=str)))
    Page(one=Canvas("One.", POEM), two=Canvas("Two.", POEM))


def test_a_changed_custom_format_regenerates_the_page(tmp_path: Path) -> None:
    formats = [POEM]
    app = make_app(tmp_path, scripted("Grey [[Tower]],\nwhite sea."))

    @app.page("/wiki/{title}")
    def poem(title: str) -> Canvas:
        return Canvas(f"A poem about {title}.", formats[-1])

    with browser(app) as client:
        frames = [m for m in write(client, "/wiki/Rain") if m["type"] == "frame"]
        assert '<p class="verse" dir="auto">white sea.</p>' in frames[-1]["html"]
        assert '<p class="verse" dir="auto">white sea.</p>' in client.get("/wiki/Rain").text
        formats.append(Format("ode", render=lambda text: f"<h2>{escape(text)}</h2>"))
        assert '<h2 dir="auto">Grey' in client.get("/wiki/Rain?plain=1").text
        assert '<h2 dir="auto">Grey' in client.get("/wiki/Rain").text
    stored = tables(tmp_path / "pages.db")
    assert [row["format"] for row in stored["canvases"]] == ["poem", "ode"]
    assert [row["target"] for row in stored["links"]] == ["/wiki/Tower"]
    assert "white sea." in stored["search"][0]["text"]


def test_half_a_character_is_replaced() -> None:
    from_json = Format("json", render=lambda text: f"<p>{json.loads(text)}</p>")
    for done in (True, False):
        assert render(from_json, '"a\\ud800b"', done=done) == "<p>a\ufffdb</p>"
