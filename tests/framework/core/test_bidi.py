"""Bidirectional control characters have no effect beyond the text that contains them."""

from __future__ import annotations

from markupsafe import Markup
from pydantic import BaseModel
from tests.support.apps import a_linker, text_frame

from unwritten.core.bidi import neutralize_json, neutralize_overrides, remove_controls
from unwritten.formats.base import RegionContext
from unwritten.formats.direction import BlockDirections
from unwritten.formats.links import find_anchors, html_to_text, title_from_key
from unwritten.formats.registry import FORMATS
from unwritten.routing.patterns import safe_title

CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class Facts(BaseModel):
    kind: str


def test_titles_links_and_search_results_have_no_controls() -> None:
    spoofed = f"exe.{CONTROLS}gpj"
    assert safe_title(spoofed) == remove_controls(spoofed) == title_from_key("/wiki/" + spoofed) == "exe.gpj"
    assert title_from_key("/wiki/exe.%E2%80%AEgpj") == "exe.gpj"
    html = f'<p>See <a href="/x">{spoofed}</a> and &#x202E;more.</p>'
    (link,) = find_anchors(html)
    assert (link.text, link.sentence) == ("exe.gpj", "See exe.gpj and more.")
    assert html_to_text(html).strip() == "See exe.gpj and more."
    assert remove_controls("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d🚀") == (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d🚀"
    )


def test_overrides_in_a_page_have_no_effect() -> None:
    for name, text in {
        "markdown": "One \u202etwo &#x202e;three [[\u202dA|\u202eB]].",
        "html": "<p>One \u202etwo &#8238;three</p>",
        "text": "One \u202etwo",
    }.items():
        formatted = FORMATS[name].create_formatter(RegionContext(a_linker())).format(text_frame(text, done=True))
        html = str(BlockDirections().add(formatted).html)
        assert "two" in html and not set("\u202a\u202b\u202c\u202d\u202e") & set(html)
    assert neutralize_overrides("a\u2067b\u2069") == "a\u2067b\u2069"


def test_values_have_no_controls_that_reach_beyond_them() -> None:
    for text in ('{"kind": "a\u202eb\u2067c"}', r'{"kind": "a\u202Eb\u2067c"}'):
        assert len(neutralize_json(text)) == len(text)
        formatter = FORMATS["typed"].create_formatter(RegionContext(a_linker(), schema=Facts))
        for done in (True, False):
            assert formatter.format(text_frame(text, done=done)).value.kind == "a\u2060b\u2060c"
    assert neutralize_json(r'{"kind": "a\\u202e"}') == r'{"kind": "a\\u202e"}'
    assert neutralize_json(r'{"kind": "a\\\u202e"}') == r'{"kind": "a\\\u2060"}'


def test_a_long_title_is_cut() -> None:
    assert len(safe_title("word " * 1000)) == 300
    assert Markup(safe_title("[[a]]  b\n")) == "a b"
