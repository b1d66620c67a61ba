"""The HTML sanitizer against known attack vectors. ``faults`` parses the result independently."""

from __future__ import annotations

from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.apps import a_linker
from tests.support.hostile import ADDRESSES, VECTORS, few_examples, hostile_texts, prefix_of
from tests.support.html_checks import faults, text_of_html

from unwritten.formats.html_source import DROPPED_ELEMENTS
from unwritten.formats.sanitize_html import clean_html, clean_rendered


def clean(html: str) -> str:
    return str(clean_html(html, a_linker()))


def test_good_html_passes() -> None:
    html = "<h2>Light</h2><p>A <strong>tower</strong> by the <em>sea</em>.</p><ul><li>stone</li></ul>"
    assert clean(html) == html


def test_open_elements_are_closed_as_a_browser_would() -> None:
    assert clean("<p>A <b>tow") == "<p>A <b>tow</b></p>"
    assert clean("<ul><li>one<li>two") == "<ul><li>one</li><li>two</li></ul>"


def test_links_are_rewritten_or_lose_their_address() -> None:
    assert clean('<a href="Tower">t</a>') == '<a href="/wiki/Tower" class="written">t</a>'
    assert clean('<a href="/wiki/Sea">s</a>') == '<a href="/wiki/Sea" class="unwritten">s</a>'
    for elsewhere in ("https://evil.example/x", "//evil.example/x", "mailto:a@b.c", "/\\evil.example", "\\\\evil"):
        assert clean(f'<a href="{elsewhere}">x</a>') == "<a>x</a>"


def test_ids_and_references_to_them_get_a_prefix() -> None:
    assert clean('<h2 id="main">x</h2>') == '<h2 id="g-main">x</h2>'
    assert clean('<a href="#main">x</a>') == '<a href="#g-main">x</a>'
    assert faults(clean('<a href="#&quot; onclick=x">x</a>')) == []


def test_invalid_addresses_are_removed() -> None:
    for broken in ("//[", "http://[::", "//\u2100.com", "/\u2100[x"):
        assert faults(clean(f'<a href="{broken}">x</a>')) == []


def test_an_attribute_that_looks_like_an_address_does_not_hide_one() -> None:
    # The text of one attribute may look like another attribute.
    html = '<a title="a href=" lang=" b" href="//evil.example/x">q</a>'
    assert clean(html) == '<a title="a href=" lang=" b">q</a>'
    html = '<a lang="x href=" title="y" href="Tower">q</a>'
    assert clean(html) == '<a lang="x href=" title="y" href="/wiki/Tower" class="written">q</a>'


def test_elements_without_visible_text_are_removed_with_their_content() -> None:
    for name in ("script", "style", "template", "svg", "math", "iframe", "textarea", "noscript", "hx-partial"):
        assert "inside" not in clean(f"a<{name}>inside</{name}>b")


@pytest.mark.parametrize("name", sorted(DROPPED_ELEMENTS - {"embed"}))
def test_an_element_that_is_only_mentioned_hides_nothing(name: str) -> None:
    more = "<p>More <b>text</b>.</p>"
    for text in (f"<p>The <{name}> tag.</p>{more}", f"<p>The <{name}> tag.</p><p>It ends with </{name}>.</p>{more}"):
        html = clean(text)
        assert f"<p>The &lt;{name}&gt; tag.</p>" in html and html.endswith(more), html
        shown = ""
        for end in range(len(text)):
            prefix = text_of_html(str(clean_html(text[:end], a_linker(), growing=True)))
            assert prefix.startswith(shown)
            shown = prefix


@pytest.mark.parametrize(
    ("html", "cleaned"),
    [
        ("<p>A <!-- starts</p><p>more</p>", "<p>A &lt;!-- starts</p><p>more</p>"),
        ("<p>A <![CDATA[ section</p><p>more</p>", "<p>A &lt;![CDATA[ section</p><p>more</p>"),
        ("<p>A <?php tag</p><p>more</p>", "<p>A &lt;?php tag</p><p>more</p>"),
        ("<p>A <?php echo $a->b ?> tag</p>", "<p>A  tag</p>"),
        ("<p>A <!doctype tag</p><p>more</p>", "<p>A &lt;!doctype tag</p><p>more</p>"),
        ("<p>A <!doctype html> tag</p>", "<p>A  tag</p>"),
        ("<p>If a <b and c</p><p>more</p>", "<p>If a &lt;b and c</p><p>more</p>"),
        ('<p><a href="/x>one</a> <b title="y">two</b></p>', '<p>&lt;a href="/x&gt;one <b title="y">two</b></p>'),
        ("<p>Use <select><p>more</p>", "<p>Use &lt;select&gt;</p><p>more</p>"),
        ("a <!-- comment --> b<!--> c", "a  b c"),
        ("a<svg/>b<svg viewBox='0 0 1 1'><svg></svg><p>x</p></svg>c", "abc"),
        ("<p>a</p><script>document.write('</p>');</script><p>b</p>", "<p>a</p><p>b</p>"),
        ("<p>a</p><script>let x = {", "<p>a</p>"),
        ("<p>a</p><svg viewBox='0 0 1 1'><path d='", "<p>a</p>"),
        ("x<title>y</title>z", "xz"),
        ("<p>x</p><a href=", "<p>x</p>"),
    ],
)
def test_nothing_hides_what_follows_it(html: str, cleaned: str) -> None:
    assert clean(html) == cleaned


@pytest.mark.parametrize("element", ["<script>alert(1)</script>", "<style>p { top: 0 }</style>", "<!-- secret -->"])
def test_the_source_of_a_removed_element_is_never_shown(element: str) -> None:
    text = f"<p>Before</p>{element}<p>After</p>"
    for end in range(len(text)):
        html = str(clean_html(text[:end], a_linker(), growing=True))
        assert not set(html) & set("&({"), html
        assert "secret" not in html


def test_elements_are_nested_to_a_limited_depth() -> None:
    html = clean("<ul><li>" * 1000 + "words")
    assert html.count("<ul>") == 100 and "words" in html and faults(html) == []
    many = "<ul><li>a</li></ul>" * 1000
    assert clean(many) == many


def test_no_attack_vector_passes() -> None:
    for vector in VECTORS:
        assert faults(clean(vector)) == [], vector
        assert faults(clean(f"<p>before {vector} after")) == [], vector


def test_the_second_pass_is_safe_without_the_first() -> None:
    for vector in VECTORS:
        # It leaves relative addresses alone: those in it are ours.
        assert [fault for fault in faults(str(clean_rendered(vector))) if "leads elsewhere" not in fault] == [], vector


def test_the_second_pass_removes_all_schemes() -> None:
    for address in ADDRESSES:
        cleaned = str(clean_rendered(f'<a href="{address}">x</a>'))
        assert "script:" not in "".join(unescape(cleaned).split()).lower(), address
        assert "data:" not in cleaned, address


@few_examples
@given(hostile_texts, st.data())
def test_any_prefix_of_any_text_is_safe_and_balanced(text: str, data: st.DataObject) -> None:
    assert faults(clean(prefix_of(data, text))) == []
