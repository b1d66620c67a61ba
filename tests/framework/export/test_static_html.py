"""Pages of a static site: rewritten links, removed scripts, disabled forms."""

from __future__ import annotations

import time

import pytest

from unwritten.core.localization import Localization
from unwritten.export.static_html import FORM_NOTE, is_signed, local_url, make_static, urls_of


def static(html: str, footer: str = "") -> str:
    """Rewrite a page with all links leading to ``x`` and all boxes empty."""
    return make_static(html, lambda tag, url: None if "/gone" in url else "x", lambda url: "<b>", footer)


def test_tags_without_changes_are_copied_exactly() -> None:
    html = (
        '<!doctype html>\n<svg viewBox="0 0 1 1"><linearGradient id=a /><path d="M0 0"/></svg>'
        "<p title='a &amp; b'>x &lt; y&#8212;z<br><b>z</b></p>"
    )
    assert make_static(html, lambda tag, url: url, lambda url: "") == html
    assert make_static("<body hx-boost='1'><script>1</script><noscript>x</noscript>y</body>", lambda t, a: a, str) == (
        "<body>y</body>"
    )


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<a class="c" href="/p">w</a>', '<a class="c" href="x">w</a>'),
        ('<a href="/gone">w <b>x</b></a>.', "."),
        (
            '<a href="https://example.org/p">w</a><a href="#n">w</a>',
            '<a href="https://example.org/p">w</a><a href="#n">w</a>',
        ),
        ('<a hx-get="/p" onclick="x">w</a>', "<a>w</a>"),
        ('<meta http-equiv="Refresh" content="0"><meta name="description">', '<meta name="description">'),
        ('<iframe sandbox src="/_unwritten/box?a=1"></iframe>', '<iframe sandbox srcdoc="&lt;b&gt;"></iframe>'),
        ('<form method="post" action="/_unwritten/rewrite"><button>w</button></form>.', "."),
        (
            '<form action="/s"><input><input type="hidden" name="n"></form>',
            f'<form><input disabled><input type="hidden" name="n"></form><p class="quiet">{FORM_NOTE}</p>',
        ),
        ('<base href="//evil.example/"><a href="/p" ping="/x">w</a>', '<a href="x">w</a>'),
        ('<a href="javascript:alert(1)">w</a><a href="\x01JaVa\nscript:x">w</a>', "<a>w</a><a>w</a>"),
        ('<a href="/.//evil.example">w</a><a href="/\\evil.example">w</a>', "<a>w</a><a>w</a>"),
        ('<a href="/x/../p#top">w</a>', '<a href="x">w</a>'),
        ('<img src="//evil.example/x.png">', "<img>"),
        ('<button formaction="javascript:1">w</button>', "<button disabled>w</button>"),
        (
            '<footer class="colophon"><div class="actions">w<div>w</div></div>.</footer><div class="actions">w</div>',
            '<footer class="colophon">.</footer><div class="actions">w</div>',
        ),
    ],
)
def test_elements_that_need_a_server_are_changed_or_removed(html: str, expected: str) -> None:
    assert static(html) == expected


@pytest.mark.parametrize("start", ["<!doctype html><html><head>", "<!doctype html>\n<html>", "<!doctype html>", ""])
@pytest.mark.parametrize(
    "rest", ["<title>w</title>", "<meta charset=utf-8>", "w", "<p>w", "<br/>w", "<script>1</script>w"]
)
def test_the_policy_comes_before_everything_that_it_limits(start: str, rest: str) -> None:
    html = make_static(start + rest, lambda tag, url: url, str, policy=True)
    before, _, after = html.partition('<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; ')
    assert before == start and after.partition('">')[2] == rest.removeprefix("<script>1</script>")
    assert "script-src" not in after


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("a < b <a <i>x</i><p title='<b>'>", "a &lt; b &lt;a <i>x</i><p title='<b>'>"),
        ("<!-- <p> --><p>w<!---->w<!x>w<?y>w<![CDATA[z]]>w<!-- w", "<p>wwwww"),
        ("<style>a > b { content: '<a href=/p>' }</style>w", "<style>a > b { content: '<a href=/p>' }</style>w"),
        ("<script/>1<a></script>w<script>2</scripty></SCRIPT >w", "ww"),
        ('<a href="javascript:1" href="https://example.org/">w</a>', "<a>w</a>"),
        ("<a href=/p>w</a><a HREF = '/p'>w</a><a href>w</a>", '<a href="x">w</a><a href="x">w</a><a href>w</a>'),
        ('<p title="w', '&lt;p title="w'),
    ],
)
def test_html_is_read_as_browsers_do(html: str, expected: str) -> None:
    assert static(html) == expected


@pytest.mark.parametrize(
    "fragment", ["<a ", '<a b="', "<a b='\"", "<!--", "<![", "</", "<a b=", "<", '<a" x="', "<script>"]
)
def test_tags_that_are_never_closed_take_linear_time(fragment: str) -> None:
    begun = time.process_time()
    assert urls_of("<p>" + fragment * (100_000 // len(fragment))) == []
    assert time.process_time() - begun < 2  # 0.1 on an idle machine; a quadratic parser takes a minute


def test_the_footer_is_at_the_end() -> None:
    assert static("<body>w</body></html>", "<p>f</p>") == "<body>w<p>f</p></body></html>"


def test_urls_are_read_without_their_signature() -> None:
    assert local_url("/wiki/A?b=1&_s=xyz#c") == ("/wiki/A?b=1", "c")
    assert local_url("/wiki/A?_s=xyz") == ("/wiki/A", "")
    assert is_signed("/wiki/A?_s=xyz") and not is_signed("/wiki/A_s=")
    for elsewhere in ("https://example.org/", "//example.org/", "#a", "mailto:a@b", "http://["):
        assert local_url(elsewhere) is None
    assert urls_of('<a href="/a?b&amp;c">x</a><img src="/i.png">') == ["/a?b&c", "/i.png"]


def test_the_note_below_forms_is_in_the_language_of_the_page() -> None:
    note = "Formulare funktionieren in der laufenden App, nicht in dieser Kopie."
    html = '<!doctype html><html lang="de-AT"><body><form></form></body></html>'
    assert note in make_static(html, lambda tag, url: url, lambda url: "", localization=Localization())
