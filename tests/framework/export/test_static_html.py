"""A page as the server sends it, made to stand alone."""

from __future__ import annotations

import pytest

from unwritten.export.static_html import ASLEEP, addresses_of, is_offered, local, make_static


def alone(html: str, foot: str = "") -> str:
    """A page whose links all lead to x, and whose boxes are empty."""
    return make_static(html, lambda tag, address: None if "/gone" in address else "x", lambda address: "<b>", foot)


def test_what_needs_no_change_is_copied_letter_by_letter() -> None:
    html = (
        '<!doctype html>\n<svg viewBox="0 0 1 1"><linearGradient id=a /><path d="M0 0"/></svg>'
        "<p title='a &amp; b'>x &lt; y&#8212;z<br><b>z</b></p>"
    )
    assert make_static(html, lambda tag, address: address, lambda address: "") == html
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
            f'<form><input disabled><input type="hidden" name="n"></form><p class="quiet asleep">{ASLEEP}</p>',
        ),
        (
            '<footer class="colophon"><div class="actions">w<div>w</div></div>.</footer><div class="actions">w</div>',
            '<footer class="colophon">.</footer><div class="actions">w</div>',
        ),
    ],
)
def test_what_needs_a_server_is_changed_or_left_out(html: str, expected: str) -> None:
    assert alone(html) == expected


def test_the_foot_stands_at_the_end() -> None:
    assert alone("<body>w</body></html>", "<p>f</p>") == "<body>w<p>f</p></body></html>"


def test_addresses_are_read_without_their_signature() -> None:
    assert local("/wiki/A?b=1&_s=xyz#c") == ("/wiki/A?b=1", "c")
    assert local("/wiki/A?_s=xyz") == ("/wiki/A", "")
    assert is_offered("/wiki/A?_s=xyz") and not is_offered("/wiki/A_s=")
    for elsewhere in ("https://example.org/", "//example.org/", "#a", "mailto:a@b", "http://["):
        assert local(elsewhere) is None
    assert addresses_of('<a href="/a?b&amp;c">x</a><img src="/i.png">') == ["/a?b&c", "/i.png"]
