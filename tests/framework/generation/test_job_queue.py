"""The job queue: one job per page, who may subscribe, and what happens when a job ends."""

from __future__ import annotations

import asyncio
import http.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.apps import (
    LIGHTHOUSE,
    LIVE,
    browser,
    follow,
    in_turn,
    make_two,
    make_wiki,
    tables,
    until,
    until_over,
    watch,
    write,
)
from tests.support.html_checks import inner
from tests.support.servers import PATIENCE, served, wait_for

from unwritten_engine import scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import CUT, HANG

KEY = "/wiki/Lighthouse"


def test_a_page_is_generated_once_and_then_served_from_the_store(tmp_path: Path) -> None:
    engine = scripted(LIGHTHOUSE)
    with browser(make_wiki(tmp_path, engine)) as client:
        assert write(client, KEY)[-1]["state"] == "written"
        assert "bright lamp" in client.get(KEY).text
    assert len(engine.requests) == 1


def test_many_visitors_of_one_page_share_one_job(tmp_path: Path) -> None:
    engine = scripted(LIGHTHOUSE, delay=0.01)
    with browser(make_wiki(tmp_path, engine)) as client, ThreadPoolExecutor(16) as crowd:
        answers = list(crowd.map(lambda i: client.get(KEY + ("?plain=1" if i % 2 else "")), range(100)))
        assert {answer.status_code for answer in answers} == {200}
        follow(client, KEY)
    assert len(engine.requests) == 1
    for answer in answers[1::2]:
        assert "light</li>" in answer.text and answer.text.rstrip().endswith("</html>")
    assert len(tables(tmp_path / "pages.db")["versions"]) == 1


def test_all_regions_are_generated_at_the_same_time(tmp_path: Path) -> None:
    engine = scripted(["A", HANG])
    with browser(make_two(tmp_path, engine)) as client:
        client.get("/")
        wait_for(lambda: engine.running == 2)
    assert engine.stopped == 2


def test_a_late_subscriber_gets_the_current_frame_and_then_the_rest(tmp_path: Path) -> None:
    engine = scripted(["One two three four", 0.3, "One two three four five."])
    with browser(make_wiki(tmp_path, engine)) as client:
        client.get(KEY)
        wait_for(lambda: "three" in client.get(KEY).text)
        frames = [m for m in follow(client, KEY) if m["type"] == "frame"]
        assert "One two three" in frames[0]["html"]
        assert "five" in frames[-1]["html"] and frames[-1]["state"] == "written"
    assert len(engine.requests) == 1


def test_a_page_is_finished_although_its_first_visitor_has_left(tmp_path: Path) -> None:
    engine = scripted(LIGHTHOUSE, delay=0.01)
    with browser(make_wiki(tmp_path, engine)) as client:
        client.get(KEY)
        with client.websocket_connect(LIVE) as ws:
            watch(ws, KEY)
            until(ws, type="frame")
        wait_for(lambda: client.app.store.count() == 1)  # type: ignore[attr-defined]
    assert engine.stopped == 0


def test_a_job_without_subscribers_is_cancelled_after_the_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue.GRACE_PERIOD", 0.2)
    engine = scripted(["A", HANG])
    with browser(make_wiki(tmp_path, engine)) as client:
        client.get(KEY)
        with client.websocket_connect(LIVE) as ws:
            watch(ws, KEY)
            until(ws, type="frame")
            wait_for(lambda: engine.running == 1)
            with pytest.raises(AssertionError, match="not met within"):
                wait_for(lambda: engine.stopped, 0.4)  # there is a subscriber
        wait_for(lambda: engine.stopped == 1)
        assert follow(client, KEY)[-1]["state"] == "stopped"


def test_a_new_subscriber_within_the_grace_period_keeps_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue.GRACE_PERIOD", 0.3)
    engine = scripted(["A", 0.5, "A b."])
    with browser(make_wiki(tmp_path, engine)) as client:
        client.get(KEY)
        for _ in range(3):
            with client.websocket_connect(LIVE) as ws:
                watch(ws, KEY)
                until(ws, type="frame")
        assert follow(client, KEY)[-1]["state"] == "written"
    assert len(engine.requests) == 1


def test_a_visitor_can_stop_a_job_and_start_it_again(tmp_path: Path) -> None:
    engine = scripted(["A light", HANG])
    with browser(make_wiki(tmp_path, engine)) as client:
        client.get(KEY)
        with client.websocket_connect(LIVE) as ws:
            watch(ws, KEY)
            until(ws, type="frame")
            ws.send_json({"type": "stop", "page": KEY})
            heard = until_over(ws)
        assert heard[-1]["state"] == "stopped"
        assert [m["state"] for m in heard if m["type"] == "frame"][-1] == "stopped"
        wait_for(lambda: engine.stopped == 1)
        client.get(KEY)
        wait_for(lambda: len(engine.requests) == 2)  # it can be generated again at once


def test_a_visitor_cannot_stop_a_job_that_others_watch(tmp_path: Path) -> None:
    engine = scripted(["A light", HANG])
    with browser(make_wiki(tmp_path, engine)) as client:
        client.get(KEY)
        with client.websocket_connect(LIVE) as one, client.websocket_connect(LIVE) as other:
            for ws in (one, other):
                watch(ws, KEY)
                until(ws, type="frame")
            one.send_json({"type": "stop", "page": KEY})
            until(one, type="page", message="Other visitors are reading this page, so it is not stopped.")
            assert engine.stopped == 0


def test_a_failure_is_reported_and_not_stored(tmp_path: Path) -> None:
    engine = scripted(in_turn(["A light", GenerationFailed("The lamp broke.")], ["A light", CUT], "A lighthouse."))
    with browser(make_wiki(tmp_path, engine)) as client:
        heard = write(client, KEY)
        assert (heard[-1]["state"], heard[-1]["message"]) == ("failed", "The lamp broke.")
        assert [m["state"] for m in heard if m["type"] == "frame"][-1] == "failed"
        heard = write(client, KEY)
        message = "The model stopped before the end of its text. Try again."
        assert (heard[-1]["state"], heard[-1]["message"]) == ("failed", message)
        assert write(client, KEY)[-1]["state"] == "written"


def test_an_unexpected_error_of_the_engine_is_reported_without_its_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = scripted(["A", ZeroDivisionError("secret")])
    with browser(make_wiki(tmp_path, engine, signed_links="off"), client=("192.0.2.7", 1)) as client:
        heard = write(client, KEY)
    assert heard[-1]["state"] == "failed"
    assert "secret" not in heard[-1]["message"] and "log" in heard[-1]["message"]
    assert "secret" in caplog.text


def test_finished_regions_are_used_by_the_next_attempt(tmp_path: Path) -> None:
    bodies = in_turn(["Half a", GenerationFailed("The lamp broke.")], "A body.")
    engine = scripted(by_ask={"Lead": "A lead.", "Body": bodies})
    with browser(make_two(tmp_path, engine)) as client:
        assert write(client, "/")[-1]["state"] == "failed"
        assert write(client, "/")[-1]["state"] == "written"
        page = client.get("/").text
    assert "A lead." in inner(page, "lead") and "A body." in inner(page, "body")
    assert [request.prompt.ask.partition(".")[0] for request in engine.requests] == ["Lead", "Body", "Body"]


def test_a_failed_region_does_not_stop_the_others(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Lead": [GenerationFailed("No.")], "Body": ["A", 0.1, "A body."]})
    with browser(make_two(tmp_path, engine)) as client:
        heard = write(client, "/")
    last = {m["region"]: m["state"] for m in heard if m["type"] == "frame"}
    assert last == {"lead": "failed", "body": "written"}
    assert heard[-1]["state"] == "failed"


def test_a_job_that_takes_too_long_fails(tmp_path: Path) -> None:
    engine = scripted(["A light", HANG])
    with browser(make_wiki(tmp_path, engine, time_limit=1)) as client:
        heard = write(client, KEY)
        assert heard[-1]["state"] == "failed"
        assert "within 1 second" in heard[-1]["message"]
        wait_for(lambda: engine.stopped == 1)


def test_an_empty_text_fails(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(["", "  \n"]))) as client:
        heard = write(client, KEY)
    assert (heard[-1]["state"], "wrote nothing" in heard[-1]["message"]) == ("failed", True)


def test_a_full_queue_is_a_503(tmp_path: Path) -> None:
    engine = scripted(["A", HANG])
    with browser(make_wiki(tmp_path, engine, jobs=1, queue_limit=1)) as client:
        assert client.get("/wiki/One").status_code == 200
        assert client.get("/wiki/Two").status_code == 200
        answer = client.get("/wiki/Three")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "Try again in about" in answer.text and answer.text.rstrip().endswith("</html>")
        assert client.get("/wiki/One").status_code == 200  # a page in the queue can be joined
        answer = client.get("/wiki/Three", headers={"accept": "*/*"})
        assert answer.headers["content-type"].startswith("text/plain")
        assert client.app.site.jobs.load == (1, 1)  # type: ignore[attr-defined]


def test_a_waiting_subscriber_gets_its_position_in_the_queue(tmp_path: Path) -> None:
    engine = scripted(["A", 0.5, "A b."])
    with browser(make_wiki(tmp_path, engine, jobs=1)) as client:
        for name in ("One", "Two", "Three"):
            client.get(f"/wiki/{name}")
        heard = follow(client, "/wiki/Three")
    messages = [m["message"] for m in heard if m["type"] == "page" and m["state"] == "queued"]
    assert messages == ["1 page is written before this one.", "This page is next to be written."]
    assert heard[-1]["state"] == "written"


def test_a_waiting_job_can_be_stopped(tmp_path: Path) -> None:
    engine = scripted(["A", HANG])
    with browser(make_wiki(tmp_path, engine, jobs=1)) as client:
        client.get("/wiki/One")
        client.get("/wiki/Two")
        with client.websocket_connect(LIVE) as ws:
            watch(ws, "/wiki/Two")
            until(ws, type="page", state="queued")
            ws.send_json({"type": "stop", "page": "/wiki/Two"})
            assert until_over(ws)[-1]["state"] == "stopped"
        assert client.app.site.jobs.load == (1, 0)  # type: ignore[attr-defined]
    assert len(engine.requests) == 1


def test_a_job_can_be_stopped_before_its_task_has_started(tmp_path: Path) -> None:
    """A job may be stopped in the same iteration of the event loop in which its task is created."""

    async def scene() -> None:
        engine = scripted(["A", HANG])
        app = make_wiki(tmp_path, engine, jobs=1)
        app.prepare()
        site = app.site
        await get(app, "/wiki/One")
        one = site.jobs.get("/wiki/One")
        assert one is not None
        await get(app, "/wiki/Two")
        two = site.jobs.get("/wiki/Two")
        assert two is not None and two.state == "queued"
        # The end of the first job starts the second. Stop that before its task runs.
        started = asyncio.Event()
        start = two.start

        def start_and_stop(create_task: Any) -> None:
            start(create_task)
            site.jobs.stop(two)
            started.set()

        two.start = start_and_stop  # type: ignore[method-assign]
        site.jobs.stop(one)
        await asyncio.wait_for(started.wait(), PATIENCE)
        await asyncio.wait_for(two.finished.wait(), PATIENCE)
        assert (two.state, site.jobs.load) == ("stopped", (0, 0))
        assert site.jobs.get("/wiki/Two") is None
        await app.close()

    asyncio.run(scene())


async def get(app: object, path: str) -> None:
    """Send a GET request without a server."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None:
        pass

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"accept", b"text/html"), (b"host", b"testserver")],
        "server": ("testserver", 80),
    }
    await app(scope, receive, send)  # type: ignore[operator]


def test_a_text_that_cannot_be_stored_does_not_block_its_page(tmp_path: Path) -> None:
    engine = scripted(["A lone half \ud83d of a pair."])
    with browser(make_wiki(tmp_path, engine)) as client:
        client.get(KEY)
        job = client.app.site.jobs.recent(KEY)  # type: ignore[attr-defined]
        wait_for(job.finished.is_set)
        assert client.app.site.jobs.get(KEY) is None  # type: ignore[attr-defined]


def test_frame_numbers_rise_across_jobs(tmp_path: Path) -> None:
    """Browsers ignore frames whose number is not higher than the last one, which may be of an earlier job."""
    engine = scripted(LIGHTHOUSE)
    with browser(make_wiki(tmp_path, engine)) as client:
        seen = max(m["frame"] for m in write(client, KEY) if m["type"] == "frame")
        client.post("/_unwritten/rewrite", data={"page": KEY})
        frames = [m["frame"] for m in follow(client, KEY, body=seen) if m["type"] == "frame"]
        assert frames and min(frames) > seen


def test_a_shutdown_cancels_unfinished_jobs(tmp_path: Path) -> None:
    engine = scripted(["A", HANG])
    with browser(make_wiki(tmp_path, engine, jobs=1)) as client:
        client.get("/wiki/One")
        client.get("/wiki/Two")
        wait_for(lambda: engine.running == 1)
    assert (engine.running, engine.stopped) == (0, 1)
    assert tables(tmp_path / "pages.db")["pages"] == []


def test_a_job_does_not_block_its_page_when_the_event_loop_ends(tmp_path: Path) -> None:
    engine = scripted(in_turn(["A", HANG], "A lighthouse."))
    app = make_wiki(tmp_path, engine)
    client = browser(app)  # without a lifespan each request has its own event loop
    client.get(KEY)
    assert app.site.jobs.get(KEY) is None and app.site.jobs.load == (0, 0)
    assert "A lighthouse." in client.get(f"{KEY}?plain=1").text


def test_a_shutdown_stores_finished_pages(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A lighthouse."))) as client:
        client.get(KEY)
        job = client.app.site.jobs.recent(KEY)  # type: ignore[attr-defined]
        wait_for(lambda: all(region_job.state == "written" for region_job in job.regions.values()))
    assert [row["key"] for row in tables(tmp_path / "pages.db")["pages"]] == [KEY]


def test_a_limited_number_of_ended_jobs_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue._RECENT_JOBS", 3)
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        for i in range(8):
            write(client, f"/wiki/Page_{i}")
        jobs = client.app.site.jobs  # type: ignore[attr-defined]
        assert [i for i in range(8) if jobs.recent(f"/wiki/Page_{i}")] == [5, 6, 7]
        assert follow(client, "/wiki/Page_0")[-1]["state"] == "written"
        assert follow(client, "/wiki/Nowhere")[-1]["state"] == "unwritten"


def test_two_hundred_visitors_on_a_server_share_one_job(tmp_path: Path) -> None:
    engine = scripted(LIGHTHOUSE, delay=0.02)

    async def visit(address: str) -> str:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(f"GET {KEY} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.decode()

    async def crowd(address: str) -> list[str]:
        return await asyncio.gather(*(visit(address) for _ in range(200)))

    with served(make_wiki(tmp_path, engine)) as address:
        answers = asyncio.run(crowd(address))
    assert len(engine.requests) == 1
    assert sum("light</li>" in answer and "</html>" in answer for answer in answers) == 200
    assert len(tables(tmp_path / "pages.db")["versions"]) == 1


def test_a_server_stops_although_a_page_is_streamed(tmp_path: Path) -> None:
    """An open stream does not keep the server running, and the server cancels the job."""
    engine = scripted(["A light", HANG])
    app = make_wiki(tmp_path, engine)
    with served(app, timeout_graceful_shutdown=1) as address:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("GET", KEY)
        answer = connection.getresponse()
        wait_for(lambda: engine.running == 1)
    assert (engine.running, engine.stopped) == (0, 1)
    answer.close()
    connection.close()
