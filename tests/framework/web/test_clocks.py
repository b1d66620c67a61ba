"""The wall clock may jump: laptops sleep, and clocks are corrected. The monotonic clock stands still meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.support.apps import LIVE, browser, make_wiki, until, watch, write
from tests.support.forum import make_forum, send
from tests.support.servers import wait_for

from unwritten.core.frame_numbers import FrameNumbers, frame_numbers
from unwritten.web.page_cache import PageCache
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG

HOUR, DAY = 3600.0, 24 * 3600.0
KEY = "/wiki/Lighthouse"


class WallClock:
    """The wall clock of this process, set ahead or back."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._time, self._time_ns = time.time, time.time_ns

    def time(self) -> float:
        return self._time() + self.offset

    def time_ns(self) -> int:
        return self._time_ns() + int(self.offset * 1e9)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    monkeypatch.setattr(frame_numbers, "_clock", clock.time_ns)
    monkeypatch.setattr(frame_numbers, "_last", 0)
    return clock


@pytest.mark.parametrize("jump", [HOUR + 1, 3 * DAY, -HOUR - 1, -3 * DAY])
def test_forms_of_cached_pages_are_accepted_after_the_clock_jumped(
    tmp_path: Path, wall: WallClock, jump: float
) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        client.get("/thread/1")
        for days in (1, 2):
            wall.offset += jump
            assert send(client, "/thread/1", "/thread/1/post", text=f"Day {days}").status_code == 303
        assert posts.count() == 2


def test_forms_of_a_page_being_written_are_accepted_after_a_long_sleep(tmp_path: Path, wall: WallClock) -> None:
    app, posts = make_forum(tmp_path, scripted(by_ask={"Why": ["A", HANG]}))
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        send(client, "/thread/1", "/thread/1/post", text="Why?")
        watch(ws, "/thread/1")
        until(ws, type="frame")
        wall.offset = 3 * DAY
        assert send(client, "/thread/1", "/thread/1/post", text="Hello").status_code == 303
        assert posts.count() == 2


@pytest.mark.parametrize("jump", [HOUR, 3 * DAY, -HOUR, -3 * DAY])
def test_frame_numbers_rise_although_the_clock_jumped(tmp_path: Path, wall: WallClock, jump: float) -> None:
    with browser(make_wiki(tmp_path, scripted("A tower with a lamp."))) as client:
        before = [message["frame"] for message in write(client, KEY) if message["type"] == "frame"]
        wall.offset = jump
        client.post("/_unwritten/rewrite", data={"page": KEY})
        with client.websocket_connect(LIVE) as ws:
            watch(ws, KEY, body=before[-1])
            after = until(ws, type="page", state="written")
    assert all(message["frame"] > before[-1] for message in after if message["type"] == "frame")
    assert not [message for message in after if message["type"] == "restart"]


def test_a_tab_from_before_a_restart_follows_although_the_clock_was_set_back(tmp_path: Path, wall: WallClock) -> None:
    app, _ = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client, client.websocket_connect(LIVE) as ws:
        client.get("/thread/1")
        ahead = int((time.time() + HOUR) * 1e6)  # what the server counted before its clock was corrected
        ws.send_json({"type": "follow", "page": "/thread/1", "seen": {"posts": ahead}})
        assert ws.receive_json() == {"type": "restart", "page": "/thread/1", "regions": ["posts"]}
        assert ws.receive_json()["frame"] < ahead
        send(client, "/thread/1", "/thread/1/post", text="Hello")
        assert "Hello" in ws.receive_json()["html"], "the tab starts over only once"


def test_a_first_visit_is_never_before_the_writing(
    tmp_path: Path, wall: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier:
        """``datetime`` on a machine whose clock was set back."""

        @staticmethod
        def now(zone: object) -> object:
            from datetime import UTC, datetime, timedelta

            return datetime.now(UTC) - timedelta(hours=1)

    monkeypatch.setattr("unwritten.web.page_cache.datetime", Earlier)
    app = make_wiki(tmp_path, scripted("A tower."), prefetch="on")
    with browser(app) as client:
        client.get(KEY, headers={"sec-purpose": "prefetch"})
        wait_for(lambda: app.store.get(KEY))
        assert isinstance(app.site.cache, PageCache)
        client.get(KEY)
        wait_for(lambda: (page := app.store.get(KEY)) and page.provenance.opened_after == 0.0)


def test_numbers_rise_while_the_clock_stands_still_and_after_other_numbers() -> None:
    numbers = FrameNumbers(lambda: 5_000_000)
    assert [numbers.next(), numbers.next(), numbers.next(9000), numbers.next()] == [5000, 5001, 9001, 9002]
