"""The live socket: frames, resuming, and invalid messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
import websockets
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from tests.support.apps import (
    LIGHTHOUSE,
    LIVE,
    browser,
    follow,
    make_app,
    make_two,
    make_wiki,
    templates,
    until,
    until_over,
    watch,
    write,
)
from tests.support.redis_server import MISSING, PROGRAM, redis_server
from tests.support.servers import served, wait_for
from websockets.asyncio.client import connect

from unwritten import App
from unwritten_engine import Frame, scripted
from unwritten_engine.scripted import HANG

KEY = "/wiki/Lighthouse"
HOST = {"host": "testserver"}


def test_frames_are_complete_and_the_page_message_is_last(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE, delay=0.02))) as client:
        heard = write(client, KEY)
    frames = [m for m in heard if m["type"] == "frame"]
    numbers = [m["frame"] for m in frames]
    assert numbers == sorted(set(numbers))
    assert {m["region"] for m in frames} == {"body"} and {m["page"] for m in heard} == {KEY}
    assert frames[-1]["state"] == "written" and "light</li>" in frames[-1]["html"]
    assert heard[-1]["type"] == "page" and heard[-1]["state"] == "written"
    assert "a script" in heard[-1]["colophon"]


def test_a_finished_job_is_sent_to_later_subscribers(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        client.get(KEY)
        wait_for(lambda: client.app.site.jobs.get(KEY) is None)  # type: ignore[attr-defined]
        heard = follow(client, KEY)
        assert [m["type"] for m in heard] == ["frame", "page"]
        # A subscriber that has the last frame gets only the end of the page.
        heard = follow(client, KEY, body=heard[0]["frame"])
        assert [m["type"] for m in heard] == ["page"]


def test_a_reconnected_tab_receives_only_new_frames(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Lead": "A lead.", "Body": ["A", HANG]})
    with browser(make_two(tmp_path, engine)) as client:
        client.get("/")
        with client.websocket_connect(LIVE) as ws:
            watch(ws, "/")
            seen = until(ws, type="frame", region="lead", state="written")[-1]["frame"]
        with client.websocket_connect(LIVE) as ws:
            watch(ws, "/", lead=seen)
            assert ws.receive_json()["region"] == "body"
            assert ws.receive_json()["type"] == "page"


def test_a_tab_with_frame_numbers_of_another_job_is_told_to_start_over(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        client.get(KEY)
        restart, frame, *_ = follow(client, KEY, body=2**53)
        assert restart == {"type": "restart", "page": KEY, "regions": ["body"]} and frame["type"] == "frame"
        assert follow(client, KEY, body=3)[0]["type"] == "frame"


def test_stored_and_unknown_pages_are_reported_at_once(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        write(client, KEY)
    engine = scripted(LIGHTHOUSE)
    with browser(make_wiki(tmp_path, engine)) as client:
        assert [m["state"] for m in follow(client, KEY)] == ["written"]
        assert [m["state"] for m in follow(client, "/wiki/Nobody")] == ["unwritten"]
    assert engine.requests == []  # watching starts no job


def test_one_socket_for_many_pages(tmp_path: Path) -> None:
    engine = scripted(lambda request: f"About {request.prompt.ask}")
    with browser(make_wiki(tmp_path, engine)) as client, client.websocket_connect(LIVE) as ws:
        for name in ("One", "Two"):
            client.get(f"/wiki/{name}")
            watch(ws, f"/wiki/{name}")
        ends = [until_over(ws)[-1]["page"], until_over(ws)[-1]["page"]]
    assert sorted(ends) == ["/wiki/One", "/wiki/Two"]


def test_leaving_a_page_stops_its_frames(tmp_path: Path) -> None:
    engine = scripted(["A", 0.1, "A b", 0.1, "A b c"])
    with browser(make_wiki(tmp_path, engine)) as client, client.websocket_connect(LIVE) as ws:
        client.get(KEY)
        watch(ws, KEY)
        until(ws, type="frame")
        ws.send_json({"type": "leave", "page": KEY})
        watch(ws, "/wiki/Nobody")
        heard = until(ws, type="page", page="/wiki/Nobody")
        assert "A b c" not in json.dumps(heard)


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "nonsense",
        "[]",
        "7",
        "null",
        '"watch"',
        "{}",
        '{"type":"watch"}',
        '{"type":"watch","page":7}',
        '{"type":"watch","page":""}',
        '{"type":"watch","page":"wiki"}',
        '{"type":"watch","page":"/\\ud800"}',
        '{"type":"watch","page":"/' + "x" * 9000 + '"}',
        '{"type":"dance","page":"/"}',
        '{"type":"stop","page":"/"}',
        "[" * 4000,
        '{"page":' + "9" * 5000 + "}",
        "x" * 100_000,
    ],
)
def test_invalid_messages_are_refused_with_a_reason(tmp_path: Path, nonsense: str) -> None:
    with browser(make_wiki(tmp_path, scripted("x"))) as client, client.websocket_connect(LIVE) as ws:
        ws.send_text(nonsense)
        answer = ws.receive_json()
        assert answer["type"] == "refused" and len(answer["message"]) > 20
        watch(ws, "/wiki/Nobody")  # the socket stays open
        assert ws.receive_json()["type"] == "page"


def test_bytes_are_refused(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("x"))) as client, client.websocket_connect(LIVE) as ws:
        ws.send_bytes(b"\x00\xff")
        assert ws.receive_json()["type"] == "refused"


@pytest.mark.parametrize("seen", [None, 7, [], "x", {"body": "x"}, {"body": None}, {"body": 1.5}, {"other": 3}])
def test_invalid_seen_numbers_are_ignored(tmp_path: Path, seen: Any) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client, client.websocket_connect(LIVE) as ws:
        client.get(KEY)
        ws.send_json({"type": "watch", "page": KEY, "seen": seen})
        assert until_over(ws)[-1]["state"] == "written"


def test_many_invalid_messages_close_the_socket(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("x"))) as client, client.websocket_connect(LIVE) as ws:
        for _ in range(7):
            ws.send_text("nonsense")
        with pytest.raises(WebSocketDisconnect) as closed:
            while True:
                assert ws.receive_json()["type"] == "refused"
        assert closed.value.code == 1008


def test_too_many_messages_close_the_socket(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("x"))) as client, client.websocket_connect(LIVE) as ws:
        for i in range(100):
            ws.send_json({"type": "leave", "page": f"/wiki/{i}"})
        with pytest.raises(WebSocketDisconnect) as closed:
            ws.receive_json()
        assert closed.value.code == 1008


def test_a_tab_may_watch_a_limited_number_of_pages(tmp_path: Path) -> None:
    engine = scripted(["A", HANG])
    with browser(make_wiki(tmp_path, engine)) as client, client.websocket_connect(LIVE) as ws:
        for i in range(33):
            client.get(f"/wiki/Page_{i}")
            watch(ws, f"/wiki/Page_{i}")
        until(ws, type="refused")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://testserver.evil.example", "http://testserver:81", "http://["]
)
def test_a_cross_origin_socket_is_refused_before_it_is_accepted(tmp_path: Path, origin: str) -> None:
    with browser(make_wiki(tmp_path, scripted("x"))) as client, pytest.raises(WebSocketDisconnect):
        client.websocket_connect(LIVE, headers={"origin": origin}).__enter__()


def test_a_same_origin_socket_is_accepted(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("x"))) as client:
        for headers in ({"origin": "http://testserver"}, {"origin": "https://TESTSERVER"}, {}):
            with client.websocket_connect(LIVE, headers=headers) as ws:
                watch(ws, "/wiki/Nobody")
                assert ws.receive_json()["state"] == "unwritten"


def test_a_cross_origin_socket_gets_403_from_a_real_server(tmp_path: Path) -> None:
    async def knock(address: str) -> int:
        try:
            async with connect(f"ws://{address}{LIVE}", origin="https://evil.example"):  # type: ignore[arg-type]
                return 101
        except websockets.InvalidStatus as refusal:
            return refusal.response.status_code

    with served(make_wiki(tmp_path, scripted("x"))) as address:
        assert asyncio.run(knock(address)) == 403


def test_a_slow_client_skips_frames_and_gets_the_last(tmp_path: Path) -> None:
    words = ["".join(f"word{20 * i + j} " for j in range(20)) for i in range(400)]
    script = ["".join(words[: i + 1]) for i in range(0, 399, 2)]
    engine = scripted(script, delay=0.005)

    async def read_slowly(address: str) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        async with connect(f"ws://{address}{LIVE}", max_queue=1) as ws:
            await ws.send(json.dumps({"type": "watch", "page": KEY}))
            while not heard or heard[-1]["type"] != "page" or heard[-1]["state"] != "written":
                heard.append(json.loads(await ws.recv()))
                await asyncio.sleep(0.1)
        return heard

    with served(make_wiki(tmp_path, engine)) as address:
        import urllib.request

        request = urllib.request.Request(f"http://{address}{KEY}", headers={"accept": "text/html"})
        urllib.request.urlopen(request).read()
        frames = [m for m in asyncio.run(read_slowly(address)) if m["type"] == "frame"]
    assert len(frames) < 150
    assert "word398" in frames[-1]["html"]
    numbers = [m["frame"] for m in frames]
    assert numbers == sorted(set(numbers))


def test_a_client_that_never_reads_does_not_delay_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.web.live_socket.MAX_FRAME_RATE", 100)
    monkeypatch.setattr("unwritten.web.live_socket.SEND_TIMEOUT", 0.5)
    big = "".join(f"A very long word {i * i}. " for i in range(5_000))
    frames: list[Any] = [Frame(big + str(i)) for i in range(6)]
    engine = scripted([x for frame in frames for x in (frame, 0.1)])
    app = make_wiki(tmp_path, engine)

    async def scene(address: str) -> str:
        import socket

        host, port = address.split(":")
        # A socket with a small buffer that is never read after the handshake.
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        async with connect(f"ws://{address}{LIVE}", sock=raw, max_queue=1) as ws:
            await ws.send(json.dumps({"type": "watch", "page": KEY}))
            ws.transport.pause_reading()
            async with connect(f"ws://{address}{LIVE}", max_size=None) as other:
                await other.send(json.dumps({"type": "watch", "page": KEY}))
                while True:
                    message = json.loads(await other.recv())
                    if message["type"] == "page" and message["state"] == "written":
                        break
            job = app.site.jobs.recent(KEY)
            assert job is not None
            for _ in range(300):
                if job.num_subscribers == 0:
                    break
                await asyncio.sleep(0.01)
            ws.transport.abort()
            return f"{job.state} {job.num_subscribers}"

    with served(app, send_buffer=16_384) as address:
        import urllib.request

        request = urllib.request.Request(f"http://{address}{KEY}", headers={"accept": "text/html"})
        urllib.request.urlopen(request).read()
        assert asyncio.run(scene(address)) == "written 0"


def test_a_colophon_that_raises_closes_the_socket_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    colophon = '{% if page.state == "written" %}{{ 1 / 0 }}{% endif %}'
    app = make_wiki(tmp_path, scripted(["A", 0.2, "A b."]), folder=templates(tmp_path, colophon=colophon))
    with browser(app) as client:
        client.get(KEY)
        with client.websocket_connect(LIVE) as ws:
            watch(ws, KEY)
            with pytest.raises(WebSocketDisconnect) as end:
                while True:
                    ws.receive_json()
        assert end.value.code == 1011
    assert "colophon.html" in caplog.text


def test_sockets_of_this_machine_are_not_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.budgets.VISITOR_SOCKETS", 2)
    app = make_wiki(tmp_path, scripted("Words."))
    with browser(app) as client, contextlib.ExitStack() as open_tabs:
        for _ in range(3):
            open_tabs.enter_context(client.websocket_connect(LIVE))
        last = open_tabs.enter_context(client.websocket_connect(LIVE))
        watch(last, "/wiki/Nothing")
        assert last.receive_json()["state"] == "unwritten"


def test_the_sockets_of_one_client_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.budgets.VISITOR_SOCKETS", 2)
    app = make_wiki(tmp_path, scripted("Words."), signed_links="on")
    with browser(app) as client:
        with client.websocket_connect(LIVE), client.websocket_connect(LIVE):
            with client.websocket_connect(LIVE) as third, pytest.raises(WebSocketDisconnect) as closed:
                third.receive_json()
            assert (closed.value.code, closed.value.reason) == (1008, "too many sockets")
        wait_for(lambda: not app.site.sockets)
        with client.websocket_connect(LIVE) as again:
            watch(again, "/wiki/Nothing")
            assert again.receive_json()["state"] == "unwritten"


@pytest.mark.parametrize("event", ["websocket.send", "websocket.receive"])
def test_middleware_that_breaks_the_socket_closes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    class Breaks:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            def check(message: Message) -> Message:
                if message["type"] == event:
                    raise RuntimeError("broken middleware")
                return message

            async def checked_receive() -> Message:
                return check(await receive())

            async def checked_send(message: Message) -> None:
                await send(check(message))

            await self.app(scope, checked_receive, checked_send)

    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE), middleware=[Middleware(Breaks)])) as client:
        assert client.get(KEY).status_code == 200
        with pytest.raises(WebSocketDisconnect) as end, client.websocket_connect(LIVE) as ws:
            watch(ws, KEY)
            until_over(ws)
        assert end.value.code == 1011
        assert "broken middleware" in caplog.text
        assert client.get(KEY).status_code == 200


def test_a_cancel_scope_ends_a_socket_that_is_just_closing(tmp_path: Path) -> None:
    """The cancellation must arrive as the scope's own, or it leaves the scope as an exception."""
    app = make_wiki(tmp_path, scripted(LIGHTHOUSE))
    messages: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": 1000, "reason": ""},
    ]
    scope = {
        "type": "websocket",
        "path": LIVE,
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
        "server": ("testserver", 80),
    }

    async def connect_and_cancel() -> bool:
        with anyio.CancelScope() as cancel_scope:

            async def receive() -> Message:
                await asyncio.sleep(0.01)  # the task that sends is waiting by now
                if messages[0]["type"] == "websocket.disconnect":
                    asyncio.get_running_loop().call_soon(cancel_scope.cancel)
                return messages.pop(0)

            async def send(message: Message) -> None:
                pass

            await app(scope, receive, send)
            await asyncio.sleep(10)
        return cancel_scope.cancelled_caught

    assert asyncio.run(connect_and_cancel())
    assert messages == []


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_a_socket_that_closes_while_access_is_checked_leaves_no_subscriber(tmp_path: Path) -> None:
    checks: list[str] = []

    async def slow(request: Request) -> bool:
        checks.append(request.url.path)
        await asyncio.sleep(0.3)
        return True

    def make(broker: str, **rule: Any) -> App:
        app = make_app(tmp_path, scripted(["A", HANG]), broker=broker)
        app.page("/wiki/{title}", **rule)(lambda title: f"About {title}.")
        return app

    with redis_server() as redis, browser(make(redis.url)) as owner, browser(make(redis.url, allow=slow)) as client:
        owner.get(KEY)
        jobs = client.app.site.jobs  # type: ignore[attr-defined]
        wait_for(lambda: jobs.is_elsewhere(KEY))
        with client.websocket_connect(LIVE) as ws:
            watch(ws, KEY)
            wait_for(lambda: len(checks) == 2)  # the second one follows when the job of the other process is known
        time.sleep(0.5)
        job = jobs.get(KEY)
        assert job is None or not job.num_subscribers
