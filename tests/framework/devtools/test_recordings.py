"""The frames of the pages written last."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from tests.support.apps import make_two, make_wiki

from unwritten.devtools.recordings import MOST_CHARACTERS, MOST_FRAMES, MOST_PAGES, RegionRecording
from unwritten.testing import Visitor, answers
from unwritten_engine import Frame, Prompt, Request
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import denoising_frames

pytestmark = pytest.mark.timeout(30)


def a_strip() -> RegionRecording:
    return RegionRecording("body", Request(Prompt("A tower.", opening="**Tower**")))


def test_every_frame_of_a_page_is_there_with_its_time(tmp_path: Path) -> None:
    engine = answers({"lead": denoising_frames("A tower with a lamp.", steps=5), "body": "It stands by the sea."})
    app = make_two(tmp_path, engine, debug=True)
    visitor = Visitor(app)
    visitor.visit("/")
    recording = app.devtools.recorder.get("/")
    assert recording is not None and recording.seconds is not None and recording.queued == 0
    lead = recording.strips["lead"]
    assert [moment.frame.step for moment in lead.moments] == [1, 2, 3, 4, 5, 5]
    assert lead.moments[0].frame.unsettled and not lead.moments[-1].frame.unsettled
    assert [m.seconds for m in lead.moments] == sorted(m.seconds for m in lead.moments)
    assert lead.first_words == lead.moments[0].seconds and recording.so_far >= lead.moments[-1].seconds
    assert lead.request.prompt.ask.startswith("Lead.")


def test_what_failed_is_there_with_its_reason(tmp_path: Path) -> None:
    engine = answers({"lead": GenerationFailed("The lamp broke."), "body": "It stands by the sea."})
    app = make_two(tmp_path, engine, debug=True)
    visitor = Visitor(app)
    visitor.visit("/")
    recording = app.devtools.recorder.get("/")
    assert recording is not None
    assert str(recording.strips["lead"].error) == "The lamp broke." and recording.strips["body"].error is None


def test_the_oldest_pages_are_forgotten(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, answers({"": "A tower."}), debug=True)
    visitor = Visitor(app)
    for number in range(MOST_PAGES + 1):
        visitor.visit(f"/wiki/Tower_{number}")
    assert app.devtools.recorder.get("/wiki/Tower_0") is None
    assert app.devtools.recorder.get("/wiki/Tower_1") is not None


def test_what_nobody_opened_is_forgotten_before_what_somebody_looks_at(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, answers({"": "A tower."}), debug=True)
    visitor = Visitor(app)
    for number in range(3):
        visitor.visit(f"/wiki/Tower_{number}")
    recorder = app.devtools.recorder
    known = recorder.get("/wiki/Tower_0")
    assert known is not None
    visitor.visit("/wiki/Tower_0")
    for number in range(MOST_PAGES + 5):  # as if they were written ahead
        job = copy.copy(known.job)
        job.key = f"/wiki/Ahead_{number}"
        recorder.begun(job)
    kept = [key for key in ("/wiki/Tower_0", "/wiki/Tower_1", "/wiki/Tower_2") if recorder.get(key)]
    assert kept == ["/wiki/Tower_0", "/wiki/Tower_1", "/wiki/Tower_2"]
    assert recorder.get("/wiki/Ahead_0") is None and recorder.get(f"/wiki/Ahead_{MOST_PAGES + 4}") is not None


def test_nothing_is_remembered_unless_the_app_is_developed(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, answers({"": "A tower."}))
    visitor = Visitor(app)
    visitor.visit("/wiki/Tower")
    assert app.devtools.recorder.get("/wiki/Tower") is None


def test_a_long_canvas_is_thinned_and_keeps_both_ends() -> None:
    strip = a_strip()
    for number in range(5000):
        strip.add(float(number), Frame(f"{number}"))
        assert strip.last == Frame(f"{number}") and len(strip.moments) <= MOST_FRAMES + 1
    assert strip.seen == 5000 and len(strip.moments) > MOST_FRAMES // 2
    assert strip.moments[0].frame.text == "0"
    gaps = {b.seconds - a.seconds for a, b in zip(strip.moments, strip.moments[1:-1], strict=False)}
    assert gaps == {16.0}, "evenly thinned"


def test_a_wide_canvas_is_thinned_too() -> None:
    strip = a_strip()
    for number in range(300):
        strip.add(float(number), Frame("x" * 20_000))
    assert sum(len(moment.frame.text) for moment in strip.moments) <= MOST_CHARACTERS + 20_000
    assert strip.moments[-1].seconds == 299


def test_an_opening_is_no_word_of_the_model() -> None:
    strip = a_strip()
    strip.add(0.1, Frame("**Tower**"))
    assert strip.first_words is None
    strip.add(0.2, Frame("**Tower** is"))
    assert strip.first_words == 0.2
