"""The contract of the job queue: the same tests for one process, and for two that share a broker."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from tests.framework.broker.conftest import Serve
from tests.support.apps import (
    LIGHTHOUSE,
    LIVE,
    follow,
    in_turn,
    let_age,
    make_app,
    make_two,
    make_wiki,
    tables,
    templates,
    until,
    until_over,
    watch,
    write,
)
from tests.support.forum import THREAD, Post, make_forum, send
from tests.support.html_checks import inner
from tests.support.servers import wait_for

from unwritten import App, Page
from unwritten.web.site import Site
from unwritten_engine import Engine, Priority, Request
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import HANG

KEY = "/wiki/Lighthouse"
PREFETCH = {"sec-purpose": "prefetch"}


def site_of(client: TestClient) -> Site:
    site: Site = client.app.site  # type: ignore[attr-defined]
    return site


def make_thread(home: Path, engine: Engine, **given: Any) -> App:
    return make_forum(home, engine, **given)[0]


# -- one job per page -------------------------------------------------------------------------------------------------


def test_many_visitors_of_all_processes_share_one_job(serve: Serve, tmp_path: Path) -> None:
    processes = serve(make_wiki, LIGHTHOUSE, delay=0.02)

    def visit(number: int) -> Any:
        client = (processes.a, processes.b)[number % 2]
        return client.get(KEY + ("?plain=1" if number % 4 > 1 else ""))

    with ThreadPoolExecutor(16) as crowd:
        answers = list(crowd.map(visit, range(60)))
    assert {answer.status_code for answer in answers} == {200}
    plain = [answer.text for number, answer in enumerate(answers) if number % 4 > 1]
    assert all("light</li>" in text and text.rstrip().endswith("</html>") for text in plain)
    for client in (processes.a, processes.b):
        follow(client, KEY)
        assert "light</li>" in client.get(KEY).text
    assert len(processes.requests) == 1
    assert len(tables(tmp_path / "pages.db")["versions"]) == 1


def test_a_page_that_was_stored_a_moment_ago_is_not_generated_again(serve: Serve, tmp_path: Path) -> None:
    processes = serve(make_wiki, LIGHTHOUSE)
    names = [f"/wiki/Page_{number}" for number in range(20)]
    with ThreadPoolExecutor(4) as crowd:  # both processes begin and end each page at about the same time
        for client in (processes.a, processes.b, processes.a, processes.b):
            crowd.submit(lambda client: [write(client, name) for name in names], client)
    assert len(processes.requests) == len(tables(tmp_path / "pages.db")["versions"]) == len(names)


def test_a_socket_in_any_process_receives_the_frames(serve: Serve) -> None:
    processes = serve(make_wiki, ["One two three four", 0.3, "One two three four five."])
    processes.a.get(KEY)
    wait_for(lambda: "three" in processes.a.get(KEY).text)
    frames = [message for message in follow(processes.b, KEY) if message["type"] == "frame"]
    assert "One two three" in frames[0]["html"]
    assert "five" in frames[-1]["html"] and frames[-1]["state"] == "written"
    assert len(processes.requests) == 1


def test_a_tab_that_changes_the_process_receives_only_newer_frames(serve: Serve) -> None:
    processes = serve(make_wiki, ["One two", 0.3, "One two three."])
    processes.a.get(KEY)
    with processes.a.websocket_connect(LIVE) as ws:
        watch(ws, KEY)
        seen = until(ws, type="frame")[-1]["frame"]
    frames = [message["frame"] for message in follow(processes.b, KEY, body=seen) if message["type"] == "frame"]
    assert frames and min(frames) > seen


def test_the_position_in_the_queue_is_known_in_every_process(serve: Serve) -> None:
    processes = serve(make_wiki, ["A", 0.3, "A b."], jobs=1)
    for name in ("One", "Two", "Three"):
        processes.a.get(f"/wiki/{name}")
    heard = follow(processes.b, "/wiki/Three")
    messages = [message["message"] for message in heard if message.get("state") == "queued"]
    assert messages[-1] == "This page is next to be written." or "One page is written before this one." in messages
    assert heard[-1]["state"] == "written"


# -- stopping and leaving ---------------------------------------------------------------------------------------------


def watching(client: TestClient, ws: WebSocketTestSession) -> None:
    watch(ws, KEY)
    until(ws, type="frame")


def test_a_visitor_can_stop_a_page_from_any_process(serve: Serve) -> None:
    processes = serve(make_wiki, ["A light", HANG])
    processes.a.get(KEY)
    with processes.b.websocket_connect(LIVE) as ws:
        watching(processes.b, ws)
        ws.send_json({"type": "stop", "page": KEY})
        heard = until_over(ws)
    assert heard[-1]["state"] == "stopped"
    assert [message["state"] for message in heard if message["type"] == "frame"][-1] == "stopped"
    wait_for(lambda: processes.stopped == 1)
    processes.b.get(KEY)
    wait_for(lambda: len(processes.requests) == 2)  # it can be generated again at once


def test_a_page_that_others_watch_is_not_stopped(serve: Serve) -> None:
    processes = serve(make_wiki, ["A light", HANG])
    processes.a.get(KEY)
    with processes.a.websocket_connect(LIVE) as one, processes.b.websocket_connect(LIVE) as two:
        watching(processes.a, one)
        watching(processes.b, two)
        for client in (processes.a, processes.b):
            job = site_of(client).jobs.get(KEY)
            assert job is not None
            wait_for(lambda job=job: job.num_subscribers == 2)  # type: ignore[misc]
        two.send_json({"type": "stop", "page": KEY})
        until(two, type="page", message="Other visitors are reading this page, so it is not stopped.")
        assert processes.stopped == 0


def test_a_page_is_cancelled_when_the_visitors_of_all_processes_have_left(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue.GRACE_PERIOD", 0.4)
    processes = serve(make_wiki, ["A", HANG])
    processes.a.get(KEY)
    with processes.b.websocket_connect(LIVE) as ws:
        watching(processes.b, ws)
        with pytest.raises(AssertionError, match="not met within"):
            wait_for(lambda: processes.stopped, 0.8)  # there is a subscriber
    wait_for(lambda: processes.stopped == 1)
    assert follow(processes.a, KEY)[-1]["state"] == "stopped"


# -- prefetching ------------------------------------------------------------------------------------------------------


def test_a_click_in_any_process_promotes_a_prefetch(serve: Serve) -> None:
    processes = serve(make_wiki, ["A", 0.5, "A b."], prefetch="on")
    processes.a.get(KEY, headers=PREFETCH)
    job = site_of(processes.a).jobs.get(KEY)
    assert job is not None and job.priority is Priority.PREFETCH
    assert processes.b.get(KEY).status_code == 200
    wait_for(lambda: job.priority is Priority.CLICK)
    assert follow(processes.b, KEY)[-1]["state"] == "written"
    assert len(processes.requests) == 1


def test_a_click_in_any_process_preempts_prefetches(serve: Serve) -> None:
    processes = serve(make_wiki, ["A", 0.5, "A b."], prefetch="on")
    processes.a.get("/wiki/Prefetched", headers=PREFETCH)
    wait_for(lambda: processes.running == 1)
    processes.b.get(KEY)
    wait_for(lambda: processes.stopped == 1)
    assert follow(processes.b, KEY)[-1]["state"] == "written"
    wait_for(lambda: processes.running == 1)  # the prefetch runs again


# -- failure ----------------------------------------------------------------------------------------------------------


def is_reported(message: Mapping[str, Any]) -> bool:
    """True if a message says that a page failed. The owner sees the reason in the process that has the error."""
    return message["state"] == "failed" and bool(re.search("The lamp broke|log has the details", message["message"]))


def test_a_failure_is_reported_in_every_process(serve: Serve) -> None:
    processes = serve(make_wiki, in_turn(["A", 0.2, GenerationFailed("The lamp broke.")], "A lighthouse."))
    processes.a.get(KEY)
    heard = follow(processes.b, KEY)
    assert is_reported(heard[-1])
    for client in (processes.a, processes.b):
        heard = follow(client, KEY)
        assert is_reported(heard[-1])
    assert write(processes.b, KEY)[-1]["state"] == "written"
    assert follow(processes.a, KEY)[-1]["state"] == "written"


def test_finished_regions_are_used_by_the_next_attempt_of_any_process(serve: Serve) -> None:
    bodies = in_turn(["Half a", 0.1, GenerationFailed("The lamp broke.")], "A body.")
    asked: list[str] = []

    def answer(request: Request) -> Any:
        asked.append(request.prompt.ask.partition(".")[0])
        return "A lead." if asked[-1] == "Lead" else bodies(request)

    processes = serve(make_two, answer)
    assert write(processes.a, "/")[-1]["state"] == "failed"
    assert write(processes.b, "/")[-1]["state"] == "written"
    page = processes.a.get("/").text
    assert "A lead." in inner(page, "lead") and "A body." in inner(page, "body")
    assert asked == ["Lead", "Body", "Body"]


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_a_budget_of_pages_holds_over_all_processes(serve: Serve) -> None:
    processes = serve(make_wiki, "Words.", visitor_pages=3)
    for number, client in enumerate((processes.a, processes.b, processes.a)):
        assert write(client, f"/wiki/Page_{number}")[-1]["state"] == "written"
    for client in (processes.a, processes.b):
        answer = client.get("/wiki/Another")
        assert answer.status_code == 429
        assert 3500 < int(answer.headers["retry-after"]) <= 3612
        assert "You have started 3 new pages within an hour" in answer.text
        assert client.get("/wiki/Page_1").status_code == 200, "stored pages are free"


def test_joining_a_page_of_another_process_is_free(serve: Serve) -> None:
    processes = serve(make_wiki, ["A", 0.3, "A b."], visitor_pages=2)
    for client in (processes.a, processes.b, processes.b):
        assert client.get("/wiki/One").status_code == 200
    assert processes.b.get("/wiki/Two").status_code == 200
    assert processes.a.get("/wiki/Three").status_code == 429


def test_a_burst_in_all_processes_cannot_exceed_a_budget(serve: Serve) -> None:
    processes = serve(make_wiki, "Words.", visitor_pages=10, jobs=64)
    with ThreadPoolExecutor(8) as crowd:
        visits = [
            crowd.submit((processes.a, processes.b)[number % 2].get, f"/wiki/Page_{number}") for number in range(30)
        ]
        statuses = sorted(visit.result().status_code for visit in visits)
    assert statuses == [200] * 10 + [429] * 20


def test_seconds_are_charged_in_every_process(serve: Serve) -> None:
    processes = serve(make_wiki, ["Slow", 0.4, "Slow words."], visitor_seconds=0.3)
    write(processes.a, "/wiki/One")
    answer = processes.b.get("/wiki/Two")
    assert answer.status_code == 429
    assert "Your new pages took 0.3 seconds within an hour" in answer.text


def test_the_seconds_of_pages_that_run_in_any_process_count(serve: Serve) -> None:
    processes = serve(make_wiki, ["Slow", HANG], engine_seconds=0.1)
    assert processes.a.get("/wiki/One").status_code == 200
    time.sleep(0.5)
    answer = processes.b.get("/wiki/Two")
    assert answer.status_code == 429
    assert "limit for all visitors together" in answer.text
    assert processes.b.get("/wiki/One").status_code == 200, "joining a job is free"


def test_a_visitor_has_a_limited_number_of_sockets_in_all_processes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.generation.budgets.VISITOR_SOCKETS", 2)
    processes = serve(make_wiki, "Words.", signed_links="on")

    def is_open(ws: WebSocketTestSession) -> bool:
        watch(ws, KEY)
        return bool(ws.receive()["type"] == "websocket.send")

    with processes.a.websocket_connect(LIVE) as one, processes.b.websocket_connect(LIVE) as two:
        assert is_open(one) and is_open(two)
        for client in (processes.a, processes.b):
            with client.websocket_connect(LIVE) as three:
                assert not is_open(three)
    wait_for(lambda: not any(len(site_of(client).sockets) for client in (processes.a, processes.b)))
    time.sleep(0.1)  # until the broker knows
    with processes.b.websocket_connect(LIVE) as four, processes.b.websocket_connect(LIVE) as five:
        assert is_open(four) and is_open(five)


# -- edits and changes ------------------------------------------------------------------------------------------------


def test_a_rewrite_is_shown_in_every_process(serve: Serve, tmp_path: Path) -> None:
    processes = serve(make_wiki, in_turn("Old words.", ["New", 0.4, "New words."]))
    write(processes.a, KEY)
    assert "Old words." in processes.b.get(KEY).text
    assert processes.a.post("/_unwritten/rewrite", data={"page": KEY}).status_code == 303
    assert 'aria-busy="true"' in processes.b.get(KEY).text
    heard = follow(processes.b, KEY)
    assert "New words." in [message["html"] for message in heard if message["type"] == "frame"][-1]
    assert heard[-1]["state"] == "written"
    for client in (processes.a, processes.b):
        assert "New words." in client.get(KEY).text
    assert [row["number"] for row in tables(tmp_path / "pages.db")["versions"]] == [1, 2]


def test_an_old_page_is_refreshed_once_and_shown_in_every_process(serve: Serve) -> None:
    processes = serve(make_weather, in_turn("Old words.", ["New", 0.5, "New words."]))
    write(processes.a, KEY)
    let_age(processes.a.app, timedelta(days=2))  # type: ignore[arg-type]
    with processes.b.websocket_connect(LIVE) as ws:
        look(ws, KEY)
        for client in (processes.a, processes.b, processes.a, processes.b):
            assert "Old words." in client.get(KEY).text
        shown(ws, "body", "New words.")
    for client in (processes.a, processes.b):
        assert "New words." in client.get(KEY).text
    assert len(processes.requests) == 2


def make_weather(home: Path, engine: Engine, **given: Any) -> App:
    """Return an app whose pages are generated again when they are a day old."""
    app = make_app(home, engine, **given)

    @app.page("/wiki/{title}", fresh=timedelta(days=1))
    def article(title: str) -> str:
        return f"News about {title}."

    return app


def test_a_page_that_another_process_changes_cannot_be_edited(serve: Serve, tmp_path: Path) -> None:
    processes = serve(make_wiki, in_turn("Old words.", ["New", 0.6, "New words."]))
    write(processes.a, KEY)
    processes.a.post("/_unwritten/rewrite", data={"page": KEY})
    edit = {"page": KEY, "region": "body", "base": "1", "means": "by hand", "text": "Mine."}
    answer = processes.b.post("/_unwritten/edit", data=edit)
    assert answer.status_code == 409, answer.text
    assert "This page is being written." in answer.text
    processes.b.post("/_unwritten/rewrite", data={"page": KEY})  # the running job continues
    assert follow(processes.b, KEY)[-1]["state"] == "written"
    assert len(tables(tmp_path / "pages.db")["versions"]) == 2 == len(processes.requests)


def test_a_failed_change_leaves_the_page_as_it_was_in_every_process(serve: Serve) -> None:
    processes = serve(make_wiki, in_turn("Old words.", ["New", 0.3, GenerationFailed("The lamp broke.")]))
    write(processes.a, KEY)
    processes.a.post("/_unwritten/rewrite", data={"page": KEY})
    heard = follow(processes.b, KEY)
    assert heard[-1]["state"] == "written"
    assert heard[-1]["message"].endswith(" The page is as it was.")
    assert "Old words." in [message["html"] for message in heard if message["type"] == "frame"][-1]


def look(ws: WebSocketTestSession, key: str) -> None:
    ws.send_json({"type": "follow", "page": key, "seen": {}})


def shown(ws: WebSocketTestSession, region: str, words: str) -> Any:
    """Return the first frame of a region with this text."""
    while True:
        message = ws.receive_json()
        if message.get("region") == region and words in message["html"]:
            return message


def test_an_action_updates_the_open_pages_of_all_processes(serve: Serve) -> None:
    processes = serve(make_thread, ["Be", "Because ", "Because it is so."], delay=0.02)
    processes.b.get("/thread/1")
    with processes.a.websocket_connect(LIVE) as one, processes.b.websocket_connect(LIVE) as two:
        for ws in (one, two):
            look(ws, "/thread/1")
            shown(ws, "posts", "")
        send(processes.a, "/thread/1", "/thread/1/post", text="Why?")
        for ws in (one, two):
            missing = {"posts": "<p>Why?</p>", "replies-1": "Because it is so."}  # they come in any order
            while missing:
                message = ws.receive_json()
                assert message["page"] == "/thread/1"
                if missing.get(message.get("region"), "\0") in message.get("html", ""):
                    del missing[message["region"]]
    assert len(processes.requests) == 1


def test_a_form_that_is_sent_to_several_processes_at_once_counts_once(serve: Serve) -> None:
    processes = serve(make_slow_thread, "Words.")
    url = re.search(r'action="(/thread/1/post[^"]*)"', processes.a.get("/thread/1").text)
    assert url is not None
    target, headers = html.unescape(url[1]), {"origin": "http://testserver"}
    with ThreadPoolExecutor(4) as crowd:
        sent = [
            crowd.submit(client.post, target, data={"text": "Once."}, headers=headers)
            for client in (processes.a, processes.b, processes.a, processes.b)
        ]
        assert [answer.result().status_code for answer in sent] == [303] * 4
    assert next(iter(site_of(processes.a).tables)).count() == 1


def make_slow_thread(home: Path, engine: Engine, **given: Any) -> App:
    """Return a forum whose action takes a while before it writes."""
    app = make_app(home, engine, folder=templates(home, thread=THREAD), **given)
    posts = app.table(Post)

    @app.page("/thread/{id}")
    def thread(id: int) -> Page:
        return Page("thread.html", title="Thread", id=id, posts=posts.select())

    @app.action("/thread/{id}/post")
    def post(id: int, text: str) -> None:
        time.sleep(0.2)
        posts.insert(Post(thread=id, text=text))

    return app


def test_a_write_outside_of_actions_updates_the_open_pages_of_all_processes(serve: Serve) -> None:
    processes = serve(make_thread, "Words.")
    processes.b.get("/thread/1")
    with processes.b.websocket_connect(LIVE) as ws:
        look(ws, "/thread/1")
        shown(ws, "posts", "")
        posts = next(iter(site_of(processes.a).tables))
        posts.insert(posts.model(thread=1, text="From a script."))
        shown(ws, "posts", "<p>From a script.</p>")


def test_an_edit_by_hand_is_shown_in_the_open_pages_of_all_processes(serve: Serve) -> None:
    processes = serve(make_thread, "Because.")
    send(processes.a, "/thread/1", "/thread/1/post", text="Why?")
    follow(processes.a, "/thread/1")
    with processes.b.websocket_connect(LIVE) as ws:
        look(ws, "/thread/1")
        shown(ws, "posts", "Because.")
        edit = {"page": "/thread/1", "region": "replies-1", "base": "1", "means": "by hand", "text": "Mine."}
        assert processes.a.post("/_unwritten/edit", data=edit).status_code == 303
        shown(ws, "replies-1", "Mine.")


def test_links_to_a_page_that_any_process_has_written_are_known(serve: Serve) -> None:
    processes = serve(make_wiki, "A [[Tower]] by the sea.", prefetch="on")
    write(processes.b, KEY)
    with processes.b.websocket_connect(LIVE) as ws:
        ws.send_json({"type": "view", "page": KEY, "links": []})
        if processes.a is not processes.b:
            write(processes.a, "/wiki/Tower")
        until(ws, type="written", links=["/wiki/Tower"])
