"""The direction of text follows the language of a page, and the first letter of each block of generated text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from tests.support.apps import browser, make_app, write
from tests.support.hostile import few_examples, hostile_texts

from unwritten import Canvas, Page
from unwritten.formats.direction import BlockDirections, text_direction
from unwritten.formats.sanitize_html import clean_rendered
from unwritten.formats.unsettled import FormattedFrame
from unwritten_engine import scripted

DIRECTION = re.compile(r' dir="\w*"')


@pytest.mark.parametrize("language", ["ar", "ar-EG", "AR", "he", "fa_IR", "ur", "az-Arab", "pa-Arab-PK", "yi", "ckb"])
def test_languages_from_right_to_left(language: str) -> None:
    assert text_direction(language) == "rtl"


@pytest.mark.parametrize("language", ["en", "de-AT", "ja", "az", "ar-Latn", "ur-Latn-PK", "", "-"])
def test_languages_from_left_to_right(language: str) -> None:
    assert text_direction(language) == "ltr"


@pytest.mark.parametrize(
    ("html", "directed"),
    [
        ("<p>a</p><h2>b</h2>", '<p dir="auto">a</p><h2 dir="auto">b</h2>'),
        ("<ul><li>a</li></ul>", '<ul dir="ltr"><li dir="auto">a</li></ul>'),
        ("<ol>\n<li>1 <b>(א)</b></li></ol>", '<ol dir="rtl">\n<li dir="auto">1 <b>(א)</b></li></ol>'),
        ("<ul><li>1</li></ul>a", '<ul><li dir="auto">1</li></ul>a'),
        ("<table><tr><td>ب", '<table dir="rtl"><tr><td dir="auto">ب'),
        ("<li>\n<p>a</p><p>b</p></li>", '<li dir="auto">\n<p>a</p><p dir="auto">b</p></li>'),
        ('<td class="x">a</td>', '<td class="x" dir="auto">a</td>'),
        ('<p dir="rtl">a</p>', '<p dir="rtl">a</p>'),
        ("<pre><code>a</code></pre><b>c</b><thead><link>", "<pre><code>a</code></pre><b>c</b><thead><link>"),
    ],
)
def test_blocks_have_the_direction_of_their_text(html: str, directed: str) -> None:
    assert BlockDirections().add(FormattedFrame(Markup(html))).html == directed


@few_examples
@given(hostile_texts, st.data())
def test_what_is_fixed_stays_fixed(text: str, data: st.DataObject) -> None:
    html = clean_rendered(text)
    ends = [0, *(at + 4 for at in range(len(html)) if html.startswith("</p>", at)), len(html)]
    fixed = data.draw(st.sampled_from(ends))
    directed = BlockDirections().add(FormattedFrame(html, fixed))
    assert DIRECTION.sub("", directed.html) == DIRECTION.sub("", html)
    assert DIRECTION.sub("", directed.html[: directed.fixed]) == DIRECTION.sub("", html[:fixed])


def test_a_page_has_the_direction_of_its_language(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("منارة.\n\nA tower."), language="ar")

    @app.page("/{title}")
    def page(title: str) -> Page:
        return Page(title=title, body=Canvas("Words."), lang="de" if title == "Turm" else "ar")

    with browser(app) as client:
        write(client, "/x")
        html = client.get("/x").text
        assert '<html lang="ar" dir="rtl">' in html
        assert '<h1 dir="auto">' in html and '<p dir="auto">منارة.</p>' in html
        assert '<html lang="ar" dir="rtl">' in client.get("/no/page").text
        assert '<html lang="de" dir="ltr">' in client.get("/Turm?plain=1").text
