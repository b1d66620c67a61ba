"""The SVG sanitizer. ``drawing_faults`` parses the result independently."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import VECTORS, few_examples, prefix_of
from tests.support.svg_checks import HOSTILE, KETTLE, drawing_faults

from unwritten.formats.sanitize_svg import SVGSanitizer
from unwritten.formats.svg import complete_prefix


def clean(inside: str, opening: str = '<svg viewBox="0 0 9 9">') -> str:
    return re.sub(r"^.*?</title>|</svg>$", "", str(SVGSanitizer(f"{opening}{inside}</svg>", "art", "A thing").html))


def opening(text: str, ask: str = "A thing") -> str:
    return str(SVGSanitizer(text, "art", ask).html).partition(">")[0] + ">"


def test_a_valid_drawing_passes_with_prefixed_ids() -> None:
    html = str(SVGSanitizer(KETTLE, "art", "A kettle").html)
    assert drawing_faults(html) == []
    assert html.startswith(
        '<svg class="drawing" role="img" aria-labelledby="g-art..title g-art..desc" viewBox="0 0 120 80" '
        'fill="currentColor"><title id="g-art..title">A kettle &amp; steam</title>'
        '<desc id="g-art..desc">It boils.</desc>'
    )
    assert '<linearGradient id="g-art.warm"><stop offset="0" stop-color="red">' in html
    assert 'fill="url(#g-art.warm)"' in html
    assert '<use href="#g-art.pot" x="10">' in html
    assert 'Tea <tspan font-weight="bold">time</tspan>' in html
    assert SVGSanitizer(KETTLE, "art", "").element_count == 5


def test_two_regions_never_share_an_id() -> None:
    ids = [set(re.findall(r' id="([^"]*)"', SVGSanitizer(KETTLE, name, "").html)) for name in ("art", "art-2", "a")]
    assert all(ids) and not ids[0] & ids[1] and not ids[0] & ids[2]
    one, two = ('<svg><rect id="b-c"/></svg>', "a"), ('<svg><rect id="c"/></svg>', "a-b")
    assert SVGSanitizer(*one, "").html != SVGSanitizer(*two, "").html


@pytest.mark.parametrize(
    ("given", "box"),
    [
        ("<svg viewBox='0 0 12 8' width=120 height=80>", "0 0 12 8"),
        ("<svg viewbox='0, 0, 12, 8'>", "0 0 12 8"),
        ("<svg width='120px' height='80.5'>", "0 0 120 80.5"),
        ("<svg width='100%' height='80'>", "0 0 300 150"),
        ("<svg viewBox='0 0 0 8' width=10 height=10>", "0 0 10 10"),
        ("<svg viewBox='0 0 12'>", "0 0 300 150"),
        ("<svg>", "0 0 300 150"),
    ],
)
def test_the_outermost_element_has_a_view_box_and_no_size(given: str, box: str) -> None:
    tag = opening(f"{given}<rect/></svg>")
    assert f' viewBox="{box}"' in tag
    assert " width=" not in tag and " height=" not in tag


def test_the_text_alternative_is_the_drawings_title_or_the_prompt() -> None:
    assert ">A thing</title>" in SVGSanitizer("<svg><rect/></svg>", "art", "A  thing\n").html
    assert ">A &lt;b&gt;</title>" in SVGSanitizer("<svg><title>A &lt;b&gt;</title></svg>", "art", "A thing").html
    assert ">A thing</title>" in SVGSanitizer("<svg><title> </title></svg>", "art", "A thing").html
    assert ">A drawing</title>" in SVGSanitizer("<svg><rect/></svg>", "art", "").html


def test_generated_roles_are_removed() -> None:
    tag = opening('<svg role="presentation" aria-hidden="true" aria-labelledby="x" class="y" id="z" display="none">')
    assert tag == (
        '<svg class="drawing" role="img" aria-labelledby="g-art..title" viewBox="0 0 300 150" fill="currentColor">'
    )


def test_a_style_becomes_allowed_attributes() -> None:
    assert clean('<rect fill="red" style="fill: blue; stroke-width:2; position:fixed; stroke:url(//e)"/>') == (
        '<rect fill="blue" stroke-width="2"></rect>'
    )


def test_black_and_white_become_the_pages_colours() -> None:
    assert clean('<rect fill="#000" stroke="white"/>') == '<rect fill="currentColor" stroke="var(--paper)"></rect>'
    assert clean('<rect fill="#FFF" stroke="rgb(0, 0, 0)"/>') == (
        '<rect fill="var(--paper)" stroke="currentColor"></rect>'
    )
    assert clean('<rect fill="tomato"/>') == '<rect fill="tomato"></rect>'


def test_everything_after_the_first_drawing_is_removed() -> None:
    html = SVGSanitizer("<svg><rect/></svg><svg><circle/></svg><p>x</p>", "art", "").html
    assert "<rect>" in html and "<circle>" not in html and "<p>" not in html


def test_text_is_kept_in_text_elements_only() -> None:
    assert clean("x<g>y<text>z</text></g>") == "<g><text>z</text></g>"
    assert clean("<text>a < b &amp; c</text>") == "<text>a &lt; b &amp; c</text>"


def test_a_use_inside_an_element_that_can_be_used_is_removed() -> None:
    """Ten levels of ten uses each would create 10,000,000,000 elements."""
    nested = '<g id="a"><rect/></g><g id="b"><use href="#a"/><use href="#a"/></g><use href="#b"/>'
    assert clean(nested).count("<use ") == 1
    assert clean('<g id="a"><rect/></g>' + '<use href="#a"/>' * 200).count("<use ") == 64
    assert "url(" not in clean('<pattern id="p"><rect fill="url(#p)"/></pattern>')


def test_the_size_of_a_drawing_is_limited() -> None:
    assert clean("<rect/>" * 5000).count("<rect>") == 3000
    assert drawing_faults(str(SVGSanitizer("<svg>" + "<g>" * 400 + "<rect/>", "art", "").html)) == []


@pytest.mark.parametrize(
    "opening",
    [
        "<svg viewBox='{}'>",
        "<svg width='1{}'>",
        "<svg><rect fill='url(#a){}!'/>",
        "<svg><rect fill='url({}'/>",
        "<svg><rect style='{}'/>",
        "<svg {}>",
        "<svg><path d='{}",
        "<svg>{}",
    ],
)
@pytest.mark.parametrize("part", ["1", " ", "fill:red;", "a=b ", "<style>", "<title>", "<text>", "M1 2 "])
def test_long_texts_take_linear_time(opening: str, part: str) -> None:
    begun = time.thread_time()
    text = opening.replace("{}", part * (60_000 // len(part)))
    assert drawing_faults(str(SVGSanitizer(complete_prefix(text, stroke_partial=True), "art", "A thing").html)) == []
    assert time.thread_time() - begun < 5


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_prefix_of_an_attack_vector_passes(number: int) -> None:
    vector = HOSTILE[number]
    for end in range(0, len(vector) + 1, 1 if len(vector) < 120 else 3):
        for text in (f'<svg viewBox="0 0 9 9"><rect/>{vector[:end]}', f"<svg {vector[:end]}"):
            assert drawing_faults(str(SVGSanitizer(text, "art", "A thing").html)) == [], text


def test_no_html_attack_vector_passes() -> None:
    for vector in VECTORS:
        for text in (f"<svg>{vector}</svg>", f"<svg><text>{vector}</text><rect/></svg>", f"<svg><title>{vector}"):
            assert drawing_faults(str(SVGSanitizer(text, "art", vector).html)) == [], vector


@few_examples
@given(
    st.lists(st.sampled_from([*HOSTILE, KETTLE, "<g>", "</g>", "<text>", "<title>", "'", '"', "<!--"]), max_size=5),
    st.data(),
)
def test_any_prefix_of_any_text_is_safe_and_balanced(parts: list[str], data: st.DataObject) -> None:
    text = prefix_of(data, "".join(parts))
    assert drawing_faults(str(SVGSanitizer("<svg>" + text, "art", text).html)) == []
