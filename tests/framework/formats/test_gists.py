"""Gists: hidden notes of links. No visitor ever sees one, at any prefix of a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import few_examples

from unwritten.core.settings import load_settings
from unwritten.formats.base import RegionContext
from unwritten.formats.gists import (
    MAX_GIST,
    clean_gist,
    example_without_gists,
    find_gists,
    remove_gists,
    writes_gists,
)
from unwritten.formats.links import Linker, html_to_text
from unwritten.formats.registry import FORMATS
from unwritten_engine import About, Example, Frame
from unwritten_engine.engine import Abilities

TEXT = "See [[Tea]]{A hot drink.} and [[Salt|the salt]]."


def shown(text: str, *, done: bool = True) -> str:
    """Return a text without its notes."""
    return "".join(text[start:end] for start, end in find_gists(text, done=done).kept)


@pytest.mark.parametrize(
    ("text", "expected", "gists"),
    [
        (TEXT, "See [[Tea]] and [[Salt|the salt]].", {"Tea": "A hot drink."}),
        ("[[Salt|the salt]] {From {the} sea.}, it", "[[Salt|the salt]], it", {"Salt": "From the sea."}),
        ("[[Tea]] {Hot.}it", "[[Tea]] it", {"Tea": "Hot."}),
        ("[[Tea{Hot.}]] it", "[[Tea]] it", {"Tea": "Hot."}),
        ("[[Tea|a cup{Hot.}]] it", "[[Tea|a cup]] it", {"Tea": "Hot."}),
        ("[[Odo]](A lamp maker.) was", "[[Odo]] was", {"Odo": "A lamp maker."}),
        ("[[Odo]] (a lamp maker) was", "[[Odo]] (a lamp maker) was", {}),
        ("A [[Bell]] rings. {It sank.} So", "A [[Bell]] rings. So", {"Bell": "It sank."}),
        ("[[Bell]]{It sank. It rings.\nNext", "[[Bell]] It rings.\nNext", {"Bell": "It sank."}),
        ("[[Bell]]{It sank and\nNext", "[[Bell]]\nNext", {"Bell": "It sank and"}),
        ("[[Bell]]{It sank and", "[[Bell]]", {"Bell": "It sank and"}),
        ("[[Bell]]{} it", "[[Bell]] it", {}),
        ("[[Bell]]{A [[Tin]] **bell**.} it", "[[Bell]] it", {"Bell": "A Tin bell."}),
        ("[[A]]{One.} [[A]]{Two.}", "[[A]] [[A]]", {"A": "One."}),
        ("A set {x} and [[Tea]].\n{y}", "A set {x} and [[Tea]].\n{y}", {}),
        ("`[[a]]{b}` c", "`[[a]]{b}` c", {}),
        ("```sh\nif [[ x ]] { y }\n```\n[[A]]{b}", "```sh\nif [[ x ]] { y }\n```\n[[A]]", {"A": "b"}),
        ("x\n~~~\n[[ x ]] { y }", "x\n~~~\n[[ x ]] { y }", {}),
    ],
)
def test_notes_are_found_also_where_a_model_gets_the_form_half_right(
    text: str, expected: str, gists: dict[str, str]
) -> None:
    assert shown(text) == expected
    assert find_gists(text, done=True).by_title == gists
    before = ""
    for end in range(len(text) + 1):
        prefix = shown(text[:end], done=False)
        assert prefix.startswith(before.rstrip(" \t")), f"{before!r} became {prefix!r}"
        assert expected.startswith(prefix.rstrip(" \t"))
        before = prefix


@few_examples
@given(st.text(st.sampled_from("[]|{}()` \n.ab~"), max_size=60))
def test_shown_text_only_grows(text: str) -> None:
    before = ""
    for end in range(len(text) + 1):
        prefix = shown(text[:end], done=False)
        assert prefix.startswith(before.rstrip(" \t"))
        before = prefix
    assert shown(text).startswith(before.rstrip(" \t"))


def test_no_letter_of_a_note_is_ever_in_the_html() -> None:
    notes = "xyz" * 40
    text = (
        f"See [[Tea]]{{{notes}}}, [[Salt|the salt]] {{{notes}. {notes}}}\n\n* [[Bell]]{{{notes}\n* [[Odo{{{notes}}}]]"
    )
    formatter = FORMATS["markdown"].create_formatter(
        RegionContext(Linker("/", lambda title: f"/{title}", lambda keys: set()))
    )
    for end in range(len(text) + 1):
        frame, _ = remove_gists(Frame(text[:end]))
        html = str(formatter.format(frame).html)
        assert not set("xyz{}[]|") & set(html_to_text(html)), html
        assert "xyz" not in html


def test_spans_and_the_fixed_length_follow_the_text() -> None:
    frame = Frame(TEXT, unsettled=((20, 29), (35, 40)), fixed=20)
    without, gists = remove_gists(frame)
    assert gists == {"Tea": "A hot drink."}
    assert without.text[slice(*without.unsettled[-1])] == TEXT[35:40]
    assert without.text[: without.fixed] == "See [[Tea]]"


def test_a_note_is_one_short_line_without_markup() -> None:
    assert clean_gist("  A \u202e**tin** [[bell|b]]\t{x}") == "A tin b x"
    assert len(clean_gist("word " * 200)) <= MAX_GIST
    found = find_gists("[[A]]{" + "word " * 500, done=True)
    assert len(found.by_title["A"]) <= MAX_GIST


def test_a_very_long_unclosed_note_does_not_hide_the_rest_of_the_text() -> None:
    assert shown("[[A]]{" + "word " * 200, done=False).endswith("word")


def test_examples_lose_their_notes() -> None:
    assert example_without_gists(Example("x", "A [[b]]{c}.")) == Example("x", "A [[b]].")
    example = Example("x", "A {b}.")
    assert example_without_gists(example) is example


@pytest.mark.parametrize(
    ("abilities", "setting", "expected"),
    [
        (Abilities(instruct=True, markup=True), "auto", True),
        (Abilities(instruct=True), "auto", False),
        (Abilities(markup=True), "auto", False),
        (Abilities(instruct=True, markup=True, drafts=True), "auto", False),
        (Abilities(), "on", True),
        (Abilities(instruct=True, markup=True), "off", False),
    ],
)
def test_only_capable_engines_are_asked(abilities: Abilities, setting: str, expected: bool) -> None:
    about = About("x", "x", "x", "x", 0, 0, 256, 1, abilities)
    assert writes_gists(about, load_settings({"gists": setting})) is expected
