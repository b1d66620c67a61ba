"""What listeners are told of a page that is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.apps import browser, follow, make_wiki, write

from unwritten.generation.page_job import JobObserver, PageJob
from unwritten.generation.region_job import RegionJob
from unwritten_engine import scripted

pytestmark = pytest.mark.timeout(30)


class Diary(JobObserver):
    def __init__(self) -> None:
        self.entries: list[str] = []

    def begun(self, job: PageJob) -> None:
        self.entries.append(f"begun {generation.key}")

    def framed(self, job: PageJob, region_job: RegionJob) -> None:
        self.entries.append(f"frame {writing.name}{' last' if writing.frame.done else ''}")

    def ended(self, job: PageJob) -> None:
        self.entries.append(f"ended {generation.state} {generation.kept is not None}")


def test_a_listener_hears_of_the_beginning_every_frame_and_the_end(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A tower with a lamp."))
    diary = Diary()
    with browser(app) as client:
        app.site.jobs.observers.append(diary)
        write(client, "/wiki/Lighthouse")
    assert diary.entries[0] == "begun /wiki/Lighthouse"
    assert diary.entries[-2:] == ["frame body last", "ended written True"]
    assert set(diary.entries[1:-2]) <= {"frame body"}


def test_what_a_listener_raises_harms_no_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(JobObserver):
        def framed(self, job: PageJob, region_job: RegionJob) -> None:
            raise ZeroDivisionError

    app = make_wiki(tmp_path, scripted("A tower with a lamp."))
    diary = Diary()
    with browser(app) as client:
        app.site.jobs.observers += [Broken(), diary]
        client.get("/wiki/Lighthouse")
        assert follow(client, "/wiki/Lighthouse")[-1]["state"] == "written"
    assert diary.entries[-1] == "ended written True"
    assert "Broken raised" in caplog.text
