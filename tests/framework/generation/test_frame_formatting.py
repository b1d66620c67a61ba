"""Long texts are formatted in a thread: the event loop stays free, and the last frame is always shown."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from tests.support.apps import a_linker, browser, make_app, text_frame, write

from unwritten import Canvas
from unwritten.core.errors import PageFailed
from unwritten.formats.unsettled import FormattedFrame
from unwritten.generation.frame_formatting import LONG_TEXT, FrameFormatter
from unwritten.generation.region_job import RegionJob
from unwritten_engine import Frame, Prompt, Request, scripted
from unwritten_engine.cleaning import FrameCleaner, clean_engine
from unwritten_engine.text_thread import in_text_thread

pytestmark = pytest.mark.anyio

LONG = "A long text. " * (LONG_TEXT // 10)


class SlowRegion:
    """A region whose formatting waits for a signal, and notes the thread and the length of each text."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job = RegionJob("body", Canvas("Words."), Prompt("Words."), a_linker(), 256)
        self.go = threading.Event()
        self.formatted: list[int] = []
        self.shown: list[int] = []
        self.threads: set[str] = set()
        self.error: Exception | None = None
        original = self.job._format

        def slow(frame: Frame) -> FormattedFrame:
            self.formatted.append(len(frame.text))
            self.threads.add(threading.current_thread().name.partition("_")[0])
            assert self.go.wait(10)
            if self.error is not None:
                raise self.error
            return original(frame)

        monkeypatch.setattr(self.job, "_format", slow)
        self.formatter = FrameFormatter(self.job, lambda: self.shown.append(len(self.job.frame.text)))


async def wait_until(condition: object) -> None:
    for _ in range(500):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition was not met")


async def test_drafts_are_skipped_while_one_is_formatted_and_the_last_frame_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region = SlowRegion(monkeypatch)
    for length in range(5):
        await region.formatter.show(text_frame(LONG + "x" * length))
        await wait_until(lambda: region.formatted)
    assert region.shown == [] and not region.job.frame.text, "nothing is shown before it is formatted"
    region.go.set()
    await wait_until(lambda: len(region.shown) == 2)
    assert region.shown == [len(LONG), len(LONG) + 4]
    await region.formatter.show(text_frame(LONG + "the end.", done=True))
    assert region.job.state == "written" and region.shown[-1] == len(region.job.frame.text)
    assert region.threads == {"unwritten-text"}
    before = list(region.formatted)
    assert "the end." in region.job.region().html and region.formatted == before, "it is formatted once"
    await region.formatter.aclose()


async def test_a_draft_that_is_late_is_not_shown_after_the_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    region = SlowRegion(monkeypatch)
    await region.formatter.show(text_frame(LONG))
    await wait_until(lambda: region.formatted)
    await region.formatter.show(text_frame(LONG + "a later draft"))
    last = asyncio.create_task(region.formatter.show(text_frame("Short after all.", done=True)))
    await asyncio.sleep(0.05)
    assert not last.done(), "the thread still uses the region"
    region.go.set()
    await last
    assert region.shown == [len("Short after all.")] and region.job.frame.text == "Short after all."
    await asyncio.sleep(0.05)
    assert region.job.state == "written" and len(region.shown) == 1


async def test_short_drafts_after_a_long_one_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    region = SlowRegion(monkeypatch)
    region.go.set()
    await region.formatter.show(text_frame("Short"))
    await region.formatter.show(text_frame(LONG))
    await wait_until(lambda: len(region.formatted) == 1)
    await region.formatter.show(text_frame("Short again"))
    await wait_until(lambda: len(region.shown) == 3)
    assert region.shown == [len("Short"), len(LONG), len("Short again")]
    await region.formatter.aclose()


async def test_a_draft_that_cannot_be_formatted_fails_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    region = SlowRegion(monkeypatch)
    region.error = PageFailed("This is no drawing.")
    region.go.set()
    await region.formatter.show(text_frame(LONG))
    await wait_until(lambda: region.formatted)
    with pytest.raises(PageFailed, match="no drawing"):
        for _ in range(100):
            await region.formatter.show(text_frame(LONG))
            await asyncio.sleep(0.01)
    await region.formatter.aclose()


async def test_a_text_that_was_slow_to_format_goes_to_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    region = SlowRegion(monkeypatch)
    region.go.set()
    region.job.format_seconds = 1.0
    await region.formatter.show(text_frame("Short"))
    await wait_until(lambda: region.shown)
    assert region.threads == {"unwritten-text"}


async def test_a_cancelled_call_ends_when_the_thread_does_and_waiting_calls_never_run() -> None:
    release, calls = threading.Event(), list[str]()

    def work(name: str) -> None:
        calls.append(name)
        assert release.wait(10)
        calls.append(f"{name} ended")

    running = asyncio.create_task(in_text_thread(work, "one"))
    waiting = asyncio.create_task(in_text_thread(work, "two"))
    await wait_until(lambda: calls)
    waiting.cancel()
    running.cancel()
    await asyncio.sleep(0.05)
    assert waiting.cancelled() and not running.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert calls == ["one", "one ended"]


async def test_the_event_loop_runs_while_a_long_text_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    original = FrameCleaner.clean

    def clean(self: FrameCleaner, raw: Frame) -> Frame | None:
        threads.append(threading.current_thread().name.partition("_")[0])
        return original(self, raw)

    monkeypatch.setattr(FrameCleaner, "clean", clean)
    text = " ".join(f"word{number * number}" for number in range(2000))
    last = Frame("")
    async for frame in clean_engine(scripted(["A", text])).generate(Request(Prompt("x"), canvases=8)):
        last = frame
    assert last.text == text and threads[0] != "unwritten-text" and threads[1] == "unwritten-text"


def test_a_long_stored_page_is_formatted_in_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(f"Paragraph {number * number} of a long text." for number in range(1000))
    app = make_app(tmp_path, scripted([text]))

    @app.page("/wiki/{title}")
    def article(title: str) -> Canvas:
        return Canvas(f"A long article about {title}.", canvases=8)

    threads: list[str] = []
    original = RegionJob._format

    def note(self: RegionJob, frame: Frame) -> FormattedFrame:
        threads.append(threading.current_thread().name.partition("_")[0])
        return original(self, frame)

    monkeypatch.setattr(RegionJob, "_format", note)
    with browser(app) as client:
        write(client, "/wiki/Long")
        threads.clear()
        app.site.cache.clear()
        deadline = time.monotonic() + 5
        while app.site.jobs.get("/wiki/Long") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "Paragraph 998001" in client.get("/wiki/Long").text
        assert "Paragraph 998001" in client.get("/wiki/Long?version=1").text
        assert threads == ["unwritten-text"] * 2
