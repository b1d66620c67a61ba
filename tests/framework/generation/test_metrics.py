"""Counters of jobs, pages and refusals."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from tests.support.apps import LIVE, browser, follow, make_wiki, until_over, watch, write

from unwritten.generation.metrics import Histogram
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG


def counts(client: TestClient) -> dict[str, float]:
    """Return all samples of ``/metrics``, by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name.removeprefix("unwritten_") + "".join(f" {v}" for v in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_jobs_and_stored_pages_are_counted(tmp_path: Path) -> None:
    engine = scripted(["A", "A b."], by_ask={"Slow": ["A", HANG]})
    app = make_wiki(tmp_path, engine, signed_links="on")
    with browser(app) as client:
        for name in ("One", "Two"):
            client.get(app.link(f"/wiki/{name}"))
            follow(client, f"/wiki/{name}")
        for _ in range(3):
            client.get("/wiki/One")
        client.get(app.link("/wiki/Slow"))
        client.get("/wiki/Typed")
        client.get("/wiki/Typed?_s=x")
        with client.websocket_connect(LIVE) as ws:
            watch(ws, "/wiki/Slow")
            ws.receive_json()
            now = counts(client)
            assert (now["sockets"], now["pages_running"], now["queue_length"]) == (1, 1, 0)
            ws.send_json({"type": "stop", "page": "/wiki/Slow"})
            until_over(ws)
        now = counts(client)
    assert now["pages_begun_total click"] == 3
    assert (now["pages_ended_total click written"], now["pages_ended_total click stopped"]) == (2, 1)
    assert now["first_frame_seconds_count click"] == 3
    assert now["written_seconds_count click"] == 2
    assert now["written_seconds_bucket +Inf click"] == 2
    assert 0 < now["written_seconds_sum click"] < 10
    assert now["tokens_total"] > 0
    assert now["kept_pages_served_total"] == 3
    assert (now["refused_total unsigned"], now["refused_total signature"]) == (1, 1)


def test_refusals_are_counted_by_reason(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(["A", HANG]), jobs=1, queue_limit=0, visitor_pages=1)
    app.allow_prompt(lambda asked: asked.title != "Bomb")
    with browser(app) as client:
        for name in ("Bomb", "One", "Two"):
            client.get(f"/wiki/{name}")
        now = counts(client)
    assert (now["refused_total denied"], now["refused_total busy"], now["refused_total host"]) == (1, 1, 0)


def test_refusals_for_a_budget_are_counted_by_budget(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."), visitor_pages=1)) as client:
        write(client, "/wiki/One")
        client.get("/wiki/Two")
        assert counts(client)["refused_total visitor_pages"] == 1


def test_metrics_are_served_to_the_owner_or_to_all_with_the_setting(tmp_path: Path) -> None:
    for setting, status in ((False, 403), (True, 200)):
        app = make_wiki(tmp_path, scripted("Words."), metrics=setting)
        with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
            assert client.get("/metrics").status_code == status
            token = {"authorization": f"Bearer {app.owner.token}"}
            assert client.get("/metrics", headers=token).status_code == 200
    assert setting


def test_visitors_get_a_403(tmp_path: Path) -> None:
    with TestClient(make_wiki(tmp_path, scripted("Words.")), base_url="http://192.0.2.1") as client:
        answer = client.get("/metrics")
    assert answer.status_code == 403
    assert answer.text == (
        "Metrics are served to the owner only: send the header 'Authorization: Bearer TOKEN' with the token of "
        "UNWRITTEN_OWNER_TOKEN, or start the app with --metrics to serve them to all clients.\n"
    )


def test_without_the_library_metrics_are_a_501(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "prometheus_client" else find(name))
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 501
    assert answer.text == 'Metrics need a library. Install it: pip install "unwritten[metrics]"\n'


def test_a_histogram_counts_durations_by_bucket() -> None:
    histogram = Histogram()
    for seconds in (0.05, 0.06, 1.0, 500.0):
        histogram.observe(seconds)
    rows = dict(histogram.cumulative())
    assert (rows["0.05"], rows["0.1"], rows["0.5"], rows["1.0"], rows["180.0"], rows["+Inf"]) == (1, 2, 2, 3, 3, 4)
    assert round(histogram.sum, 2) == 501.11
