"""The watchdog of the event loop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tests.support.apps import make_wiki
from tests.support.servers import served, wait_for

from unwritten.web.watchdog import Watchdog
from unwritten_engine import scripted

pytestmark = pytest.mark.anyio


def block_by_waiting() -> None:
    time.sleep(0.6)


def block_by_computing() -> None:
    end = time.thread_time() + 0.5
    while time.thread_time() < end:
        sum(range(1000))


def block_by_a_c_function() -> None:
    text = "a" * 23 + "b"
    end = time.thread_time() + 0.5
    while time.thread_time() < end:
        re.fullmatch("(a|a)*", text)  # takes exponential time, and holds the interpreter meanwhile


@pytest.mark.parametrize("block", [block_by_waiting, block_by_computing, block_by_a_c_function])
async def test_a_stall_is_counted_and_logged_with_its_place(block: object, caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog()
    watchdog.start()
    await asyncio.sleep(0.2)
    assert watchdog.stalls == 0
    block()  # type: ignore[operator]
    await asyncio.sleep(0.2)
    watchdog.stop()
    assert watchdog.stalls == 1 and 0.3 < watchdog.longest < 10 and watchdog.total == watchdog.longest
    assert "The event loop was blocked for" in caplog.text
    # A C function may hold the interpreter, so that no other thread sees the place.
    assert "in block_by_" in caplog.text or block is block_by_a_c_function


async def test_work_in_threads_and_long_waits_are_no_stalls() -> None:
    watchdog = Watchdog()
    watchdog.start()
    await asyncio.gather(asyncio.to_thread(block_by_computing), asyncio.sleep(0.6))
    watchdog.stop()
    assert watchdog.stalls == 0


async def test_only_one_stall_a_minute_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.web.watchdog.STALL_SECONDS", 0.1)
    watchdog = Watchdog()
    watchdog.start()
    for _ in range(3):
        await asyncio.sleep(0.15)
        time.sleep(0.4)
    await asyncio.sleep(0.15)
    assert watchdog.stalls == 3 and caplog.text.count("was blocked for") == 1
    monkeypatch.setattr("unwritten.web.watchdog.LOG_SECONDS", 0.0)
    time.sleep(0.4)
    await asyncio.sleep(0.15)
    watchdog.stop()
    assert "2 more stalls before it were not logged" in caplog.text


async def test_a_loop_that_hangs_is_logged_before_it_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.web.watchdog.HANG_SECONDS", 0.3)
    watchdog = Watchdog()
    watchdog.start()
    await asyncio.sleep(0.15)
    block_by_waiting()
    assert "and still is" in caplog.text and "in block_by_waiting" in caplog.text
    watchdog.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_process_that_was_stopped_has_not_stalled(tmp_path: Path) -> None:
    (tmp_path / "watched.py").write_text(
        textwrap.dedent("""
            import asyncio
            from unwritten.web.watchdog import Watchdog

            async def main():
                watchdog = Watchdog()
                watchdog.start()
                await asyncio.sleep(0.3)
                print("running", flush=True)
                await asyncio.sleep(2)
                print(watchdog.stalls, watchdog.longest, flush=True)

            asyncio.run(main())
        """)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "watched.py")], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        process.send_signal(signal.SIGCONT)
        stalls, longest = process.stdout.readline().split()
    assert int(stalls) == 0, f"a stall of {longest} s was counted"


def test_the_first_connection_over_a_network_starts_the_watchdog(tmp_path: Path) -> None:
    import urllib.request

    app = make_wiki(tmp_path, scripted("Words."))
    with served(app, as_owner=False) as address:
        watchdog = app.site.watchdog
        assert watchdog._loop is None
        urllib.request.urlopen(f"http://{address}/health").read()
        assert watchdog._loop is not None
    wait_for(lambda: watchdog._loop is None)
