"""The allow-list for drawings. The judge in support/drawings.py reads the result apart from us."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.drawings import HOSTILE, KETTLE, drawing_faults
from tests.support.hostile import VECTORS, cut, modest

from unwritten.formats.svg import whole
from unwritten.showing.sanitize_svg import Drawing


def clean(inside: str, opening: str = '<svg viewBox="0 0 9 9">') -> str:
    return re.sub(r"^.*?</title>|</svg>$", "", str(Drawing(f"{opening}{inside}</svg>", "art", "A thing").html))


def opening(text: str, ask: str = "A thing") -> str:
    return str(Drawing(text, "art", ask).html).partition(">")[0] + ">"


def test_a_good_drawing_passes_with_its_ids_in_its_region() -> None:
    html = str(Drawing(KETTLE, "art", "A kettle").html)
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
    assert Drawing(KETTLE, "art", "").shapes == 5


def test_two_regions_never_share_an_id() -> None:
    ids = [set(re.findall(r' id="([^"]*)"', Drawing(KETTLE, name, "").html)) for name in ("art", "art-2", "a")]
    assert all(ids) and not ids[0] & ids[1] and not ids[0] & ids[2]
    one, two = ('<svg><rect id="b-c"/></svg>', "a"), ('<svg><rect id="c"/></svg>', "a-b")
    assert Drawing(*one, "").html != Drawing(*two, "").html


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
def test_the_outermost_element_has_a_box_and_no_size(given: str, box: str) -> None:
    tag = opening(f"{given}<rect/></svg>")
    assert f' viewBox="{box}"' in tag
    assert " width=" not in tag and " height=" not in tag


def test_the_text_alternative_is_the_models_or_the_ask() -> None:
    assert ">A thing</title>" in Drawing("<svg><rect/></svg>", "art", "A  thing\n").html
    assert ">A &lt;b&gt;</title>" in Drawing("<svg><title>A &lt;b&gt;</title></svg>", "art", "A thing").html
    assert ">A thing</title>" in Drawing("<svg><title> </title></svg>", "art", "A thing").html
    assert ">A drawing</title>" in Drawing("<svg><rect/></svg>", "art", "").html


def test_what_the_model_says_of_the_role_does_not_count() -> None:
    tag = opening('<svg role="presentation" aria-hidden="true" aria-labelledby="x" class="y" id="z" display="none">')
    assert tag == (
        '<svg class="drawing" role="img" aria-labelledby="g-art..title" viewBox="0 0 300 150" fill="currentColor">'
    )


def test_a_style_becomes_the_attributes_that_are_known() -> None:
    assert clean('<rect fill="red" style="fill: blue; stroke-width:2; position:fixed; stroke:url(//e)"/>') == (
        '<rect fill="blue" stroke-width="2"></rect>'
    )


def test_black_is_ink_and_white_is_paper() -> None:
    assert clean('<rect fill="#000" stroke="white"/>') == '<rect fill="currentColor" stroke="var(--paper)"></rect>'
    assert clean('<rect fill="#FFF" stroke="rgb(0, 0, 0)"/>') == (
        '<rect fill="var(--paper)" stroke="currentColor"></rect>'
    )
    assert clean('<rect fill="tomato"/>') == '<rect fill="tomato"></rect>'


def test_only_the_first_drawing_counts_and_nothing_after_it() -> None:
    html = Drawing("<svg><rect/></svg><svg><circle/></svg><p>x</p>", "art", "").html
    assert "<rect>" in html and "<circle>" not in html and "<p>" not in html


def test_words_stand_only_where_words_belong() -> None:
    assert clean("x<g>y<text>z</text></g>") == "<g><text>z</text></g>"
    assert clean("<text>a < b &amp; c</text>") == "<text>a &lt; b &amp; c</text>"


def test_a_use_within_something_that_can_be_used_is_gone() -> None:
    """Ten uses in each of ten groups would be ten thousand million elements."""
    nested = '<g id="a"><rect/></g><g id="b"><use href="#a"/><use href="#a"/></g><use href="#b"/>'
    assert clean(nested).count("<use ") == 1
    assert clean('<g id="a"><rect/></g>' + '<use href="#a"/>' * 200).count("<use ") == 64
    assert "url(" not in clean('<pattern id="p"><rect fill="url(#p)"/></pattern>')


def test_a_drawing_without_end_is_bounded() -> None:
    assert clean("<rect/>" * 5000).count("<rect>") == 3000
    assert drawing_faults(str(Drawing("<svg>" + "<g>" * 400 + "<rect/>", "art", "").html)) == []


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
def test_a_text_without_end_takes_no_time_without_end(opening: str, part: str) -> None:
    begun = time.monotonic()
    text = opening.replace("{}", part * (60_000 // len(part)))
    assert drawing_faults(str(Drawing(whole(text, pen=True), "art", "A thing").html)) == []
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_vector_gets_through_at_any_length(number: int) -> None:
    vector = HOSTILE[number]
    for end in range(0, len(vector) + 1, 1 if len(vector) < 120 else 3):
        for text in (f'<svg viewBox="0 0 9 9"><rect/>{vector[:end]}', f"<svg {vector[:end]}"):
            assert drawing_faults(str(Drawing(text, "art", "A thing").html)) == [], text


def test_no_vector_for_html_gets_through() -> None:
    for vector in VECTORS:
        for text in (f"<svg>{vector}</svg>", f"<svg><text>{vector}</text><rect/></svg>", f"<svg><title>{vector}"):
            assert drawing_faults(str(Drawing(text, "art", vector).html)) == [], vector


@modest
@given(
    st.lists(st.sampled_from([*HOSTILE, KETTLE, "<g>", "</g>", "<text>", "<title>", "'", '"', "<!--"]), max_size=5),
    st.data(),
)
def test_any_prefix_of_anything_is_safe_and_balanced(parts: list[str], data: st.DataObject) -> None:
    text = cut(data, "".join(parts))
    assert drawing_faults(str(Drawing("<svg>" + text, "art", text).html)) == []
