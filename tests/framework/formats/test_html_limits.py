"""Generated HTML is bounded before it is parsed: its length, elements, depth, attributes and reopened tags."""

from __future__ import annotations

import logging

import pytest
from tests.support.apps import a_linker, text_frame
from tests.support.html_checks import faults

from unwritten.formats.base import Format, RegionContext
from unwritten.formats.html_limits import MAX_ELEMENTS, MAX_LENGTH, limit_markup
from unwritten.formats.links import MAX_LINKS, find_anchors
from unwritten.formats.registry import FORMATS
from unwritten.formats.sanitize_html import clean_html

OWN = Format("own", render=str)


def numbered(fragment: str, size: int = 55_000) -> str:
    return "".join(fragment.replace("{n}", str(n)) for n in range(size // len(fragment)))


BOMBS = [
    "<p><b id={n}>", "<p><b id={n}><i id={n}>", "<p><i class=0><p><u lang={n}>", "<b><i><u><s id={n}><p>",
    "<dd><b id={n}>", "<h1><b id={n}></h1>", "<b id={n}><table><td></b></table>", "<table><b id={n}>", "<li><dt>x",
    "<a href=/{n}><div>", "<p><nobr id={n}>", "<svg><p><b id={n}>", "<b id={n}><div></b>", "<div></ul>", "<span>",
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_parser_does_not_multiply_its_input(bomb: str) -> None:
    text = numbered(bomb)
    for format in (FORMATS["html"], FORMATS["markdown"], OWN):
        html = str(format.create_formatter(RegionContext(a_linker())).format(text_frame(text, done=True)).html)
        assert len(html) < 10 * len(text) + 100_000 and faults(html[:20_000]) is not None
    drawing = f'<svg viewBox="0 0 9 9"><rect width="3"/>{text}'
    html = str(FORMATS["svg"].create_formatter(RegionContext(a_linker())).format(text_frame(drawing, done=True)).html)
    assert len(html) < 10 * len(text)


def test_what_is_cut_is_marked_and_logged_once_it_is_finished(caplog: pytest.LogCaptureFixture) -> None:
    text = numbered("<i>{n}</i> ", 200_000)[: MAX_LENGTH - 10]
    with caplog.at_level(logging.WARNING, "unwritten"):
        draft = str(clean_html(text, a_linker(), growing=True))
        assert caplog.records == []
        final = str(clean_html(text, a_linker()))
    assert draft == final and final.endswith("…") and final.count("<i>") == MAX_ELEMENTS
    assert [record.getMessage() for record in caplog.records] == [
        f"Generated HTML was cut after {text.index(f'<i>{MAX_ELEMENTS}<')} of {len(text)} characters: "
        "it is too long or too complex."
    ]


def test_long_text_is_cut() -> None:
    assert len(limit_markup("a" * (MAX_LENGTH + 1))) == MAX_LENGTH + 1
    assert limit_markup("a" * MAX_LENGTH) == "a" * MAX_LENGTH


def test_an_element_with_many_attributes_loses_them() -> None:
    many = "".join(f" a{n}={n}" for n in range(200))
    assert str(clean_html(f"<p title=x{many}>one</p><p title=y>two</p>" + "<br>" * 70, a_linker())).startswith(
        '<p>one</p><p title="y">two</p>'
    )


def test_ordinary_html_is_not_changed() -> None:
    table = "<table>" + "".join(f"<tr><td><b>{n}</b><td><i>x</i></tr>" for n in range(1900)) + "</table>"
    sloppy = "<ul>" + "".join(f"<li><b>Item {n}<p>More of it" for n in range(500)) + "</ul>"
    nested = "<div>" * 50 + "<p>deep" + "</div>" * 50
    assert [limit_markup(html) == html for html in (table, sloppy, nested)] == [True] * 3


def test_the_number_of_links_is_limited() -> None:
    text = numbered("[[Page {n}]] <a href=/wiki/{n}>y</a> ", 150_000)
    html = str(FORMATS["html"].create_formatter(RegionContext(a_linker())).format(text_frame(text, done=True)).html)
    assert html.count("href=") <= 2 * MAX_LINKS and "[[Page 2001]]" in html
    assert len(find_anchors(html)) <= MAX_LINKS
    (link,) = find_anchors(f'<a href="/wiki/A">{"long " * 1000}</a>')
    assert len(link.text) <= 300 and len(link.sentence) <= 1000
