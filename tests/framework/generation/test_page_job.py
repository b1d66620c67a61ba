"""Observers of a job."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.apps import browser, follow, make_wiki, write

from unwritten.generation.page_job import JobObserver, PageJob
from unwritten.generation.region_job import RegionJob
from unwritten_engine import scripted


class Recorder(JobObserver):
    def __init__(self) -> None:
        self.entries: list[str] = []

    def on_start(self, job: PageJob) -> None:
        self.entries.append(f"started {job.key}")

    def on_frame(self, job: PageJob, region_job: RegionJob) -> None:
        self.entries.append(f"frame {region_job.name}{' last' if region_job.frame.done else ''}")

    def on_end(self, job: PageJob) -> None:
        self.entries.append(f"ended {job.state} {job.stored is not None}")


def test_observers_are_notified_of_start_frames_and_end(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A tower with a lamp."))
    recorder = Recorder()
    with browser(app) as client:
        app.site.jobs.observe(recorder)
        write(client, "/wiki/Lighthouse")
    assert recorder.entries[0] == "started /wiki/Lighthouse"
    assert recorder.entries[-2:] == ["frame body last", "ended written True"]
    assert set(recorder.entries[1:-2]) <= {"frame body"}


def test_an_observer_that_raises_does_not_stop_the_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(JobObserver):
        def on_frame(self, job: PageJob, region_job: RegionJob) -> None:
            raise ZeroDivisionError

    app = make_wiki(tmp_path, scripted("A tower with a lamp."))
    recorder = Recorder()
    with browser(app) as client:
        app.site.jobs.observe(Broken(), recorder)
        client.get("/wiki/Lighthouse")
        assert follow(client, "/wiki/Lighthouse")[-1]["state"] == "written"
    assert recorder.entries[-1] == "ended written True"
    assert "the observer Broken failed" in caplog.text
