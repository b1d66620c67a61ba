"""Formats of authors: declared in one line, cleaned like everything that a model had a hand in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape
from tests.support.apps import a_linker, browser, faults, make_app, tables, text_frame, write
from tests.support.hostile import VECTORS, cut, hostile_texts, modest, spans_in

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


def draw(format: Format, text: str, spans: tuple[tuple[int, int], ...] = (), *, done: bool = True) -> str:
    return str(format.create_formatter(RegionContext(a_linker())).format(text_frame(text, spans, done=done)).html)


def test_what_the_function_returns_is_drawn_with_links_and_its_classes() -> None:
    assert draw(POEM, "Grey [[Tower]],\n<b>sea</b>") == (
        '<p class="verse">Grey <a href="/wiki/Tower" class="written">Tower</a>,</p>'
        '<p class="verse">&lt;b&gt;sea&lt;/b&gt;</p>'
    )


@pytest.mark.parametrize("raw", [str, Markup], ids=["a string", "declared safe"])
def test_what_the_function_returns_is_cleaned_whatever_it_says_of_itself(raw: Any) -> None:
    careless = Format("careless", render=lambda text: raw(text))
    assert draw(careless, "<p class=region>a<script>alert(1)</script></p>") == "<p>a</p>"
    for vector in VECTORS:
        assert faults(draw(careless, vector)) == [], vector


@modest
@given(hostile_texts, st.data())
def test_any_prefix_of_anything_is_safe_and_balanced(text: str, data: st.DataObject) -> None:
    prefix = cut(data, text)
    assert faults(draw(Format("careless", render=str), prefix, spans_in(data, prefix), done=False)) == []


def test_a_listed_class_stays_off_links() -> None:
    careless = Format("careless", render=str, css_classes=["unwritten", "verse"])
    html = draw(careless, '<a class="verse" href="/wiki/Tower">x</a><b class="verse other">y</b>')
    assert html == '<a href="/wiki/Tower" class="written">x</a><b class="verse">y</b>'


def test_unsettled_words_look_unsettled_where_marks_do_no_harm() -> None:
    assert draw(POEM, "Grey sea", ((5, 8),), done=False) == (
        '<p class="verse">Grey <span class="unsettled">sea</span></p>'
    )
    counting = Format("counting", render=lambda text: f"<p>{len(text)} {escape(text)}</p>")
    assert draw(counting, "Grey sea", ((5, 8),), done=False) == "<p>8 Grey sea</p>"


def test_a_draft_that_cannot_be_drawn_leaves_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    def picky(text: str) -> str:
        if not text.endswith("."):
            raise ValueError("no end")
        return f"<p>{text}</p>"

    drawer = Format("picky", render=picky).create_formatter(RegionContext(a_linker()))
    assert drawer.format(text_frame("One.")).html == "<p>One.</p>"
    assert drawer.format(text_frame("One. Tw")).html == "<p>One.</p>"
    assert drawer.format(text_frame("One. Two.")).html == "<p>One. Two.</p>"
    drawer.format(text_frame("x"))
    assert [record.message for record in caplog.records] == [
        "The format 'picky' could not draw the text: ValueError: no end. A format must draw any beginning of a text."
    ]
    with pytest.raises(PageFailed, match="The format 'picky' could not draw the text: ValueError: no end"):
        drawer.format(text_frame("x", done=True))


def test_a_function_may_refuse_a_finished_text_in_its_own_words() -> None:
    def strict(text: str) -> str:
        raise PageFailed("A haiku has three lines.")

    drawer = Format("haiku", render=strict).create_formatter(RegionContext(a_linker()))
    assert drawer.format(text_frame("One")).html == ""
    with pytest.raises(PageFailed, match="three lines"):
        drawer.format(text_frame("One", done=True))


def test_a_function_that_returns_no_html_is_told() -> None:
    with pytest.raises(PageFailed, match="draw returned list, and not HTML as a string"):
        draw(Format("listed", render=lambda text: [text]), "x")  # type: ignore[arg-type, return-value]


def test_the_manner_the_examples_and_the_opening_reach_the_prompt() -> None:
    prompt = build_prompt(world="A calm book.", canvas=Canvas("A poem about rain.", POEM), subject="Rain")
    assert prompt.system == "A calm book. Every text is a poem of four lines."
    assert prompt.examples == (Example("A poem about salt.", "White."),)
    opened = Format("opened", render=str, opening="O ")
    assert build_prompt(world="", canvas=Canvas("An ode.", opened), subject="").opening == "O "


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "Poem", "draw": str}, "short name in lower-case letters"),
        ({"name": "", "draw": str}, "short name in lower-case letters"),
        ({"name": "poem"}, "takes draw=…"),
        ({"name": "poem", "draw": "verses"}, "takes draw=…"),
        ({"name": "poem", "draw": str, "drawer": lambda place: None}, "takes draw=…"),
        ({"name": "poem", "draw": str, "classes": "verse"}, r"Format\(classes=…\) takes a list"),
        ({"name": "poem", "draw": str, "examples": "verse"}, r"Format\(examples=…\) takes a list"),
    ],
)
def test_mistakes_are_told_where_they_are_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadPage, match=message):
        Format(**given)


def test_names_that_collide_are_refused() -> None:
    with pytest.raises(BadPage, match="There is a format 'html' already: give yours a name of its own"):
        Canvas("Words.", Format("html", render=str))
    with pytest.raises(BadPage, match="two formats with the name 'poem'"):
        Page(one=Canvas("One.", POEM), two=Canvas("Two.", Format("poem", render=str)))
    Page(one=Canvas("One.", POEM), two=Canvas("Two.", POEM))


def test_a_page_in_an_own_format_is_kept_and_written_anew_in_another(tmp_path: Path) -> None:
    formats = [POEM]
    app = make_app(tmp_path, scripted("Grey [[Tower]],\nwhite sea."))

    @app.page("/wiki/{title}")
    def poem(title: str) -> Canvas:
        return Canvas(f"A poem about {title}.", formats[-1])

    with browser(app) as client:
        frames = [m for m in write(client, "/wiki/Rain") if m["type"] == "frame"]
        assert '<p class="verse">white sea.</p>' in frames[-1]["html"]
        assert '<p class="verse">white sea.</p>' in client.get("/wiki/Rain").text
        formats.append(Format("ode", render=lambda text: f"<h2>{escape(text)}</h2>"))
        assert "<h2>Grey" in client.get("/wiki/Rain?plain=1").text
        assert "<h2>Grey" in client.get("/wiki/Rain").text
    kept = tables(tmp_path / "pages.db")
    assert [row["format"] for row in kept["canvases"]] == ["poem", "ode"]
    assert [row["target"] for row in kept["links"]] == ["/wiki/Tower"]
    assert "white sea." in kept["search"][0]["text"]
