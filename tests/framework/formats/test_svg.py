"""Drawings while they are drawn: from any prefix of a text to one whole and safe element."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.apps import a_linker, browser, make_app, tables, text_frame, write
from tests.support.drawings import HOSTILE, KETTLE, drawing_faults

from unwritten import Canvas
from unwritten.core.errors import PageFailed
from unwritten.formats.base import RegionContext
from unwritten.formats.registry import FORMATS
from unwritten.formats.svg import complete_prefix
from unwritten.routing.prompts import build_prompt
from unwritten_engine import Frame, scripted
from unwritten_engine.scripted import denoising_frames


def draw(text: str, spans: tuple[tuple[int, int], ...] = (), *, done: bool = False) -> str:
    drawer = FORMATS["svg"].create_formatter(RegionContext(a_linker(), "art", "A kettle"))
    return str(drawer.format(text_frame(text, spans, done=done)).html)


def test_every_prefix_is_one_whole_element_that_only_grows() -> None:
    shapes = 0
    for end in range(len(KETTLE) + 1):
        html = draw(KETTLE[:end])
        assert drawing_faults(html) == []
        found = len(re.findall(r"<(?:path|circle|polyline|use|text) ", html))
        assert found >= shapes
        shapes = found
    assert shapes == 5


def test_half_a_tag_waits_and_half_a_path_is_drawn_as_far_as_it_is_whole() -> None:
    assert complete_prefix('<svg><rect x="1" y="2', stroke_partial=True) == "<svg>"
    assert complete_prefix('<svg><path d="M1 2 L3 4 L55', stroke_partial=True) == (
        '<svg><path d="M1 2 L3 4 " fill="none" stroke="currentColor"/>'
    )
    assert complete_prefix('<svg><path stroke="red" d="M1 2L3 4L5 6L7', stroke_partial=True) == (
        '<svg><path stroke="red" d="M1 2L3 4L5 6" fill="none"/>'
    )
    assert complete_prefix('<svg><path d="M1 2 L3', stroke_partial=True) == "<svg>"
    assert complete_prefix('<svg><path d="M1 2 L3 4" fill="red" st', stroke_partial=True) == (
        '<svg><path d="M1 2 L3 4" fill="red" stroke="currentColor"/>'
    )
    assert complete_prefix('<svg><polygon points="1,2 3,4 5,6', stroke_partial=False) == '<svg><polygon points="1 2 3 4"/>'
    assert complete_prefix("<svg><text>a &am", stroke_partial=True) == "<svg><text>a "
    assert complete_prefix("<svg><rect/></svg>", stroke_partial=True) == "<svg><rect/></svg>"


def test_what_was_drawn_before_changes_nothing() -> None:
    drawer = FORMATS["svg"].create_formatter(RegionContext(a_linker(), "art", "A kettle"))
    for end in [*range(0, len(KETTLE), 7), len(KETTLE), 200]:
        assert str(drawer.format(text_frame(KETTLE[:end])).html) == draw(KETTLE[:end])


def test_fences_and_words_around_are_left_out() -> None:
    bare = draw(KETTLE, done=True)
    for text in (
        f"```svg\n{KETTLE}\n```",
        f"Here it is:\n\n{KETTLE}\n\nI hope you like it.",
        f"<?xml version='1.0'?>{KETTLE}",
    ):
        assert draw(text, done=True) == bare
        assert draw(text[: text.index("<svg") + 3]) == ""


@pytest.mark.parametrize("text", ["A kettle is on the stove.", "", "<p>x</p>", "<svgx>", "```svg\n```"])
def test_a_text_without_a_drawing_fails_with_words(text: str) -> None:
    assert draw(text) == ""
    with pytest.raises(PageFailed, match="The model wrote words where a drawing belongs"):
        draw(text, done=True)


@pytest.mark.parametrize(
    "text", ["<svg></svg>", "<svg><title>A kettle, and then words", "<svg><defs><rect/></defs></svg>"]
)
def test_a_drawing_of_nothing_fails_with_words(text: str) -> None:
    assert "<svg" in draw(text)
    with pytest.raises(PageFailed, match="drew nothing"):
        draw(text, done=True)


def test_a_drawing_that_was_cut_off_is_taken_as_far_as_it_came() -> None:
    html = draw(KETTLE[: KETTLE.index("<polyline") + 20], done=True)
    assert "<circle" in html and "<polyline" not in html and drawing_faults(html) == []


def test_shapes_that_may_still_change_look_unsettled() -> None:
    start = KETTLE.index("cx=")
    html = draw(KETTLE, ((start, start + 2),))
    assert html.count("unsettled") == 1 and '<circle class="unsettled" cx="60"' in html
    words = KETTLE.index("time")
    assert '<tspan class="unsettled" font-weight="bold">' in draw(KETTLE, ((words, words + 4),))
    assert draw(KETTLE, ((0, len(KETTLE)),)).replace(' class="unsettled"', "") == draw(KETTLE)
    assert "unsettled" not in draw(KETTLE.replace("<g ", "<g class='unsettled x' "))


def test_a_model_that_begins_again_is_forgiven() -> None:
    bare = draw(KETTLE, done=True)
    assert draw(f'<svg viewBox="0 0 1 1">\n<title>{KETTLE}', done=True) == bare
    assert draw(f'<svg viewBox="0 0 1 1">\n<title>Here it is:\n```svg\n{KETTLE}```', done=True) == bare
    assert draw("<svg viewBox='0 0 9 9'><rect/><svg x='1'><circle/></svg></svg>", done=True).count("<svg") == 2


def test_a_diffused_draft_is_safe_in_every_step() -> None:
    drawer = FORMATS["svg"].create_formatter(RegionContext(a_linker(), "art", "A kettle"))
    for frame in denoising_frames(KETTLE + HOSTILE[0], canvases=2, steps=6):
        assert drawing_faults(str(drawer.format(Frame(frame.text, frame.unsettled)).html)) == []


def test_the_prompt_begins_the_drawing_and_ends_it() -> None:
    prompt = build_prompt(world="", canvas=Canvas("A drawing.", "svg"), subject="Kettle")
    assert prompt.opening.startswith("<svg viewBox=")
    assert all(
        example.answer.startswith(prompt.opening) and example.answer.endswith("</svg>") for example in prompt.examples
    )
    assert all(draw(example.answer, done=True) for example in prompt.examples)
    assert "currentColor" in prompt.system


def test_a_page_with_a_drawing_is_kept_and_found_by_its_words(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted([KETTLE[:200], KETTLE]))

    @app.page("/wiki/{title}")
    def page(title: str) -> Canvas:
        return Canvas(f"A line drawing of {title}.", "svg")

    with browser(app) as client:
        frames = [message["html"] for message in write(client, "/wiki/Kettle") if message["type"] == "frame"]
        page_ = client.get("/wiki/Kettle").text
        assert frames[-1] in page_ and 'aria-labelledby="g-body..title g-body..desc"' in page_
        assert [hit.key for hit in app.store.search("steam")] == ["/wiki/Kettle"]
        assert all(drawing_faults(html, "body") == [] for html in frames if html.startswith("<svg"))
    assert tables(tmp_path / "pages.db")["links"] == []


def test_words_in_place_of_a_drawing_are_told_to_the_reader(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("I would rather write."))

    @app.page("/wiki/{title}")
    def page(title: str) -> Canvas:
        return Canvas(f"A line drawing of {title}.", "svg", opening="Well: ")

    with browser(app) as client:
        last = write(client, "/wiki/Kettle")[-1]
        assert (last["state"], last["message"][:52]) == (
            "failed",
            "The model wrote words where a drawing belongs. Try a",
        )
