"""Health: whether the app can generate and store pages."""

from __future__ import annotations

import errno
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.support.apps import browser, make_wiki, write
from tests.support.servers import wait_for

from unwritten import App
from unwritten.core.errors import StoreFull
from unwritten.storage.records import PageWrite, StoredPage
from unwritten_engine import scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import HANG


@pytest.fixture(autouse=True)
def fresh_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check at each request, whatever the disk of this machine has left."""
    monkeypatch.setattr("unwritten.web.monitoring._CACHE_SECONDS", -1.0)
    monkeypatch.setattr("unwritten.web.monitoring.LOW_DISK_BYTES", 0)


def test_health_shows_the_load_of_a_running_app(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(["A", HANG]), jobs=1)
    with browser(app) as client:
        client.get("/wiki/One")
        client.get("/wiki/Two")
        answer = client.get("/health")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.json()
    assert 0 <= told.pop("uptime_seconds") < 60
    assert 0 < told.pop("descriptors") < told.pop("max_descriptors")
    assert told.pop("resident_bytes") > 10_000_000 and told.pop("disk_free_bytes") > 0
    assert told == {
        "status": "ok",
        "problems": [],
        "engine": "scripted",
        "model": "a script",
        "running": 1,
        "waiting": 1,
        "sockets": 0,
        "connections": 0,
        "store": "writable",
        "broker": "none",
        "engine_failures_in_a_row": 0,
        "unsaved_pages": 0,
        "stalls": 0,
        "longest_stall_seconds": 0.0,
    }


def test_a_locked_database_is_unhealthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.web.monitoring.WRITE_TIMEOUT", 0.1)
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert client.get("/health").status_code == 200
        other = sqlite3.connect(tmp_path / "pages.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = client.get("/health")
        assert (answer.status_code, answer.json()["status"], answer.json()["store"]) == (503, "failing", "not writable")
        other.rollback()
        other.close()
        assert client.get("/health").status_code == 200


def test_the_health_of_an_app_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "pages.db").write_text("no database, and its path is nobody's business")
    app: App = make_wiki(tmp_path, scripted("Words."))
    answer = TestClient(app).get("/health")  # without the lifespan, which would fail
    assert answer.status_code == 503
    assert answer.json() == {"status": "failing", "reason": "The app cannot start. Its log has the reason."}


# -- problems -----------------------------------------------------------------------------------------------------


def problems(client: TestClient) -> tuple[int, str, list[str]]:
    """Return the HTTP status, the status and the problems of ``/health``."""
    answer = client.get("/health")
    told = answer.json()
    return answer.status_code, told["status"], told["problems"]


def test_a_full_disk_is_unhealthy_although_empty_transactions_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        """A temporary file on a full disk."""

        def __init__(self, dir: Path, buffering: int) -> None:
            assert dir == tmp_path and buffering == 0

        def __enter__(self) -> FullDisk:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert problems(client) == (200, "ok", [])
        monkeypatch.setattr("unwritten.web.monitoring.tempfile.TemporaryFile", FullDisk)
        assert problems(client) == (503, "failing", ["store"])
        answer = client.get("/health")
        assert answer.json()["store"] == "full"
        assert str(tmp_path) not in answer.text and "No space" not in answer.text


def test_little_space_and_few_descriptors_are_reported_before_they_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        monkeypatch.setattr("unwritten.web.monitoring.LOW_DISK_BYTES", 2**60)
        assert problems(client) == (200, "degraded", ["disk"])
        monkeypatch.setattr("unwritten.web.monitoring.max_descriptors", lambda: 5)
        assert problems(client) == (200, "degraded", ["disk", "descriptors"])


def test_an_engine_that_keeps_failing_is_reported_until_it_writes_a_page(tmp_path: Path) -> None:
    answers: dict[str, Any] = {f"Bad {n}": [GenerationFailed("http://10.0.0.7/v1 is away")] for n in range(3)}
    with browser(make_wiki(tmp_path, scripted(by_ask={**answers, "Good": "Words."}))) as client:
        for number in range(3):
            assert problems(client) == (200, "ok", [])
            write(client, f"/wiki/Bad_{number}")
        assert problems(client) == (200, "degraded", ["engine"])
        assert "10.0.0.7" not in client.get("/health").text
        write(client, "/wiki/Good")
        assert problems(client) == (200, "ok", [])


def test_a_stall_is_reported_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    with browser(app) as client:
        app.site.watchdog._count(0.5)
        assert problems(client) == (200, "degraded", ["event_loop"])
        assert client.get("/health").json()["longest_stall_seconds"] == 0.5
        monkeypatch.setattr("unwritten.web.monitoring.STALL_MEMORY", 0.0)
        assert problems(client) == (200, "ok", [])


def test_pages_that_wait_to_be_saved_are_reported_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue._STORE_RETRY_SECONDS", (0.05,))
    monkeypatch.setattr("unwritten.generation.unsaved_pages.MAX_BYTES", 1000)
    app = make_wiki(tmp_path, scripted(" ".join(f"word{n * n}" for n in range(100)), by_ask={"Short": "Few words."}))
    with browser(app) as client:
        save, is_full = app.site.store.save, True

        async def fail(page: PageWrite) -> StoredPage:
            if is_full:
                raise StoreFull("The disk is full.")
            return await save(page)

        monkeypatch.setattr(app.site.store, "save", fail)
        for number in range(3):
            write(client, f"/wiki/Short_{number}")
        wait_for(lambda: len(app.site.jobs.unsaved) == 3)
        assert problems(client) == (200, "degraded", ["unsaved_pages"])
        assert client.get("/wiki/Short_1").status_code == 200
        write(client, "/wiki/Long")
        wait_for(lambda: len(app.site.jobs.unsaved) == 4)
        assert client.get("/wiki/More").status_code == 503, "more than so many bytes do not wait"
        time.sleep(0.3)
        assert caplog.text.count("could not be stored") == 1, "attempts are not logged one by one"
        is_full = False
        wait_for(lambda: app.store.count() == 4 and not app.site.jobs.unsaved)
        assert app.site.jobs.unsaved.size == 0 and "No page waits to be saved" in caplog.text
        assert problems(client) == (200, "ok", [])
        assert client.get("/wiki/More").status_code == 200
