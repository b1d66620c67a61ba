"""The format "svg": any prefix of a text becomes one complete and safe element."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.apps import a_linker, browser, make_app, tables, text_frame, write
from tests.support.svg_checks import HOSTILE, KETTLE, drawing_faults

from unwritten import Canvas
from unwritten.core.errors import PageFailed
from unwritten.formats.base import RegionContext
from unwritten.formats.registry import FORMATS
from unwritten.formats.svg import complete_prefix
from unwritten.routing.prompts import build_prompt
from unwritten_engine import Frame, scripted
from unwritten_engine.scripted import denoising_frames


def render(text: str, spans: tuple[tuple[int, int], ...] = (), *, done: bool = False) -> str:
    formatter = FORMATS["svg"].create_formatter(RegionContext(a_linker(), "art", "A kettle"))
    return str(formatter.format(text_frame(text, spans, done=done)).html)


def test_every_prefix_is_one_complete_element_that_only_grows() -> None:
    shapes = 0
    for end in range(len(KETTLE) + 1):
        html = render(KETTLE[:end])
        assert drawing_faults(html) == []
        found = len(re.findall(r"<(?:path|circle|polyline|use|text) ", html))
        assert found >= shapes
        shapes = found
    assert shapes == 5


def test_an_incomplete_tag_is_removed_and_an_incomplete_path_shortened() -> None:
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
    assert (
        complete_prefix('<svg><polygon points="1,2 3,4 5,6', stroke_partial=False) == '<svg><polygon points="1 2 3 4"/>'
    )
    assert complete_prefix("<svg><text>a &am", stroke_partial=True) == "<svg><text>a "
    assert complete_prefix("<svg><rect/></svg>", stroke_partial=True) == "<svg><rect/></svg>"


def test_the_cache_does_not_change_the_result() -> None:
    formatter = FORMATS["svg"].create_formatter(RegionContext(a_linker(), "art", "A kettle"))
    for end in [*range(0, len(KETTLE), 7), len(KETTLE), 200]:
        assert str(formatter.format(text_frame(KETTLE[:end])).html) == render(KETTLE[:end])


def test_fences_and_prose_are_ignored() -> None:
    expected = render(KETTLE, done=True)
    for text in (
        f"```svg\n{KETTLE}\n```",
        f"Here it is:\n\n{KETTLE}\n\nI hope you like it.",
        f"<?xml version='1.0'?>{KETTLE}",
    ):
        assert render(text, done=True) == expected
        assert render(text[: text.index("<svg") + 3]) == ""


@pytest.mark.parametrize("text", ["A kettle is on the stove.", "", "<p>x</p>", "<svgx>", "```svg\n```"])
def test_a_text_without_a_drawing_fails_with_a_message(text: str) -> None:
    assert render(text) == ""
    with pytest.raises(PageFailed, match="The model wrote text instead of a drawing"):
        render(text, done=True)


@pytest.mark.parametrize(
    "text", ["<svg></svg>", "<svg><title>A kettle, and then words", "<svg><defs><rect/></defs></svg>"]
)
def test_an_empty_drawing_fails_with_a_message(text: str) -> None:
    assert "<svg" in render(text)
    with pytest.raises(PageFailed, match="empty drawing"):
        render(text, done=True)


def test_a_cut_off_drawing_is_accepted() -> None:
    html = render(KETTLE[: KETTLE.index("<polyline") + 20], done=True)
    assert "<circle" in html and "<polyline" not in html and drawing_faults(html) == []


def test_unsettled_elements_have_a_class() -> None:
    start = KETTLE.index("cx=")
    html = render(KETTLE, ((start, start + 2),))
    assert html.count("unsettled") == 1 and '<circle class="unsettled" cx="60"' in html
    text = KETTLE.index("time")
    assert '<tspan class="unsettled" font-weight="bold">' in render(KETTLE, ((text, text + 4),))
    assert render(KETTLE, ((0, len(KETTLE)),)).replace(' class="unsettled"', "") == render(KETTLE)
    assert "unsettled" not in render(KETTLE.replace("<g ", "<g class='unsettled x' "))


def test_a_repeated_opening_is_skipped() -> None:
    expected = render(KETTLE, done=True)
    assert render(f'<svg viewBox="0 0 1 1">\n<title>{KETTLE}', done=True) == expected
    assert render(f'<svg viewBox="0 0 1 1">\n<title>Here it is:\n```svg\n{KETTLE}```', done=True) == expected
    assert render("<svg viewBox='0 0 9 9'><rect/><svg x='1'><circle/></svg></svg>", done=True).count("<svg") == 2


def test_every_step_of_a_diffusion_draft_is_safe() -> None:
    formatter = FORMATS["svg"].create_formatter(RegionContext(a_linker(), "art", "A kettle"))
    for frame in denoising_frames(KETTLE + HOSTILE[0], canvases=2, steps=6):
        assert drawing_faults(str(formatter.format(Frame(frame.text, frame.unsettled)).html)) == []


def test_the_prompt_has_opening_stop_and_examples() -> None:
    prompt = build_prompt(world="", canvas=Canvas("A drawing.", "svg"), subject="Kettle")
    assert prompt.opening.startswith("<svg viewBox=")
    assert all(
        example.answer.startswith(prompt.opening) and example.answer.endswith("</svg>") for example in prompt.examples
    )
    assert all(render(example.answer, done=True) for example in prompt.examples)
    assert "currentColor" in prompt.system


def test_a_page_with_a_drawing_is_stored_and_found_by_its_text(tmp_path: Path) -> None:
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


def test_text_instead_of_a_drawing_is_reported_to_the_visitor(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("I would rather write."))

    @app.page("/wiki/{title}")
    def page(title: str) -> Canvas:
        return Canvas(f"A line drawing of {title}.", "svg", opening="Well: ")

    with browser(app) as client:
        last = write(client, "/wiki/Kettle")[-1]
        assert (last["state"], last["message"][:48]) == (
            "failed",
            "The model wrote text instead of a drawing. Try a",
        )
