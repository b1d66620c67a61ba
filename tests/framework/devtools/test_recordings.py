"""Recorded frames of recent pages."""

from __future__ import annotations

import copy
from pathlib import Path

from tests.support.apps import make_two, make_wiki

from unwritten.devtools.recordings import MAX_CHARACTERS, MAX_FRAMES, MAX_PAGES, RegionRecording
from unwritten.testing import Visitor, answers
from unwritten_engine import Frame, Prompt, Request
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import denoising_frames


def make_recording() -> RegionRecording:
    return RegionRecording("body", Request(Prompt("A tower.", opening="**Tower**")))


def test_every_frame_is_recorded_with_its_time(tmp_path: Path) -> None:
    engine = answers({"lead": denoising_frames("A tower with a lamp.", steps=5), "body": "It stands by the sea."})
    app = make_two(tmp_path, engine, debug=True)
    visitor = Visitor(app)
    visitor.visit("/")
    recording = app.devtools.recorder.get("/")
    assert recording is not None and recording.seconds is not None and recording.queued_seconds == 0
    lead = recording.regions["lead"]
    assert [recorded.frame.step for recorded in lead.frames] == [1, 2, 3, 4, 5, 5]
    assert lead.frames[0].frame.unsettled and not lead.frames[-1].frame.unsettled
    assert [r.seconds for r in lead.frames] == sorted(r.seconds for r in lead.frames)
    assert lead.first_words == lead.frames[0].seconds and recording.elapsed >= lead.frames[-1].seconds
    assert lead.request.prompt.ask.startswith("Lead.")


def test_errors_are_recorded(tmp_path: Path) -> None:
    engine = answers({"lead": GenerationFailed("The lamp broke."), "body": "It stands by the sea."})
    app = make_two(tmp_path, engine, debug=True)
    visitor = Visitor(app)
    visitor.visit("/")
    recording = app.devtools.recorder.get("/")
    assert recording is not None
    assert str(recording.regions["lead"].error) == "The lamp broke." and recording.regions["body"].error is None


def test_the_oldest_recordings_are_removed(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, answers({"": "A tower."}), debug=True)
    visitor = Visitor(app)
    for number in range(MAX_PAGES + 1):
        visitor.visit(f"/wiki/Tower_{number}")
    assert app.devtools.recorder.get("/wiki/Tower_0") is None
    assert app.devtools.recorder.get("/wiki/Tower_1") is not None


def test_unopened_prefetches_are_removed_first(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, answers({"": "A tower."}), debug=True)
    visitor = Visitor(app)
    for number in range(3):
        visitor.visit(f"/wiki/Tower_{number}")
    recorder = app.devtools.recorder
    known = recorder.get("/wiki/Tower_0")
    assert known is not None
    visitor.visit("/wiki/Tower_0")
    for number in range(MAX_PAGES + 5):  # as if they were prefetched
        job = copy.copy(known.job)
        job.key = f"/wiki/Prefetched_{number}"
        recorder.on_start(job)
    kept = [key for key in ("/wiki/Tower_0", "/wiki/Tower_1", "/wiki/Tower_2") if recorder.get(key)]
    assert kept == ["/wiki/Tower_0", "/wiki/Tower_1", "/wiki/Tower_2"]
    assert recorder.get("/wiki/Prefetched_0") is None and recorder.get(f"/wiki/Prefetched_{MAX_PAGES + 4}") is not None


def test_nothing_is_recorded_without_developer_tools(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, answers({"": "A tower."}))
    visitor = Visitor(app)
    visitor.visit("/wiki/Tower")
    assert app.devtools.recorder.get("/wiki/Tower") is None


def test_a_long_recording_is_thinned_and_keeps_both_ends() -> None:
    recording = make_recording()
    for number in range(5000):
        recording.add(float(number), Frame(f"{number}"))
        assert recording.last == Frame(f"{number}") and len(recording.frames) <= MAX_FRAMES + 1
    assert recording.num_frames == 5000 and len(recording.frames) > MAX_FRAMES // 2
    assert recording.frames[0].frame.text == "0"
    gaps = {b.seconds - a.seconds for a, b in zip(recording.frames, recording.frames[1:-1], strict=False)}
    assert gaps == {16.0}, "evenly thinned"


def test_a_large_recording_is_thinned() -> None:
    recording = make_recording()
    for number in range(300):
        recording.add(float(number), Frame("x" * 20_000))
    assert sum(len(recorded.frame.text) for recorded in recording.frames) <= MAX_CHARACTERS + 20_000
    assert recording.frames[-1].seconds == 299


def test_the_opening_does_not_count_as_first_words() -> None:
    recording = make_recording()
    recording.add(0.1, Frame("**Tower**"))
    assert recording.first_words is None
    recording.add(0.2, Frame("**Tower** is"))
    assert recording.first_words == 0.2
