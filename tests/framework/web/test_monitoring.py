"""Health: whether the app can generate and store pages."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.support.apps import browser, make_wiki

from unwritten import App
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG

pytestmark = pytest.mark.timeout(30)


def test_health_shows_the_load_of_a_running_app(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(["A", HANG]), jobs=1)
    with browser(app) as client:
        client.get("/wiki/One")
        client.get("/wiki/Two")
        answer = client.get("/health")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.json()
    assert 0 <= told.pop("uptime_seconds") < 60
    assert told == {
        "status": "ok",
        "engine": "scripted",
        "model": "a script",
        "running": 1,
        "waiting": 1,
        "sockets": 0,
        "store": "writable",
    }


def test_a_locked_database_is_unhealthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.web.monitoring.WRITE_TIMEOUT", 0.1)
    monkeypatch.setattr("unwritten.web.monitoring._CACHE_SECONDS", 0.0)
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
    from starlette.testclient import TestClient

    (tmp_path / "pages.db").write_text("no database, and its path is nobody's business")
    app: App = make_wiki(tmp_path, scripted("Words."))
    answer = TestClient(app).get("/health")  # without the lifespan, which would fail
    assert answer.status_code == 503
    assert answer.json() == {"status": "failing", "reason": "The app cannot start. Its log has the reason."}
