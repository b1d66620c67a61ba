"""Real processes of one app: one is killed, one is suspended, and the third completes their pages."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.apps import tables
from tests.support.redis_server import RedisServer
from tests.support.repository import ROOT
from tests.support.servers import AS_OWNER, OWNER_TOKEN, free_port, wait_for

APP = """
import os
from unwritten import App
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG

words = [" ".join(["word"] * n) for n in range(1, 12)]
engine = scripted(["A word", HANG] if os.environ["NAME"] != "c" else [*words, "Complete."], delay=0.02)
app = App("Wiki", engine=engine, prefetch="off")

@app.page("/wiki/{title}")
def article(title: str) -> str:
    return f"An article about {title}."
"""


class Process:
    """A server of the app in a process of its own."""

    def __init__(self, home: Path, name: str, broker: str) -> None:
        self.port = free_port()
        (home / "app.py").write_text(APP)
        options = ["--port", str(self.port), "--broker", broker, "--database", str(home / "pages.db")]
        paths = os.pathsep.join([str(ROOT / "framework"), str(ROOT / "engine")])
        with (home / f"{name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "unwritten", "run", "--no-reload", str(home / "app.py"), *options],
                env={**os.environ, "NAME": name, "PYTHONPATH": paths, "UNWRITTEN_OWNER_TOKEN": OWNER_TOKEN},
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, seconds: float = 30.0) -> str:
        """Return the whole response to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=AS_OWNER)
            return connection.getresponse().read().decode()

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return '"ok"' in self.get("/health", 5)
        return False

    def owns(self, path: str) -> None:
        """Start generating a page. Nobody watches it here."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers={"accept": "text/html", **AS_OWNER})
        assert connection.getresponse().status == 200
        connection.close()


@pytest.fixture
def processes(redis: RedisServer, tmp_path: Path) -> Iterator[list[Process]]:
    started = [Process(tmp_path, name, redis.url) for name in "abc"]
    try:
        for process in started:
            wait_for(process.is_ready)
        yield started
    finally:
        for process in started:
            process.process.kill()
            process.process.wait()


def test_pages_of_a_killed_and_of_a_suspended_process_are_completed_by_another(
    processes: list[Process], tmp_path: Path
) -> None:
    killed, suspended, other = processes
    killed.owns("/wiki/One")
    suspended.owns("/wiki/Two")
    with ThreadPoolExecutor(2) as crowd:
        visits = [crowd.submit(other.get, f"/wiki/{name}?plain=1") for name in ("One", "Two")]
        time.sleep(0.5)
        assert not any(visit.done() for visit in visits)
        killed.process.kill()
        suspended.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        pages = [visit.result(30) for visit in visits]
        seconds = time.monotonic() - begun
    for page in pages:
        assert "Complete." in page and page.rstrip().endswith("</html>")
    assert seconds < 20, "a lease ends 3 seconds after the last heartbeat"
    suspended.process.send_signal(signal.SIGCONT)
    assert "Complete." in suspended.get("/wiki/Two?plain=1")
    time.sleep(1.5)  # another heartbeat
    assert len(tables(tmp_path / "pages.db")["versions"]) == 2
    assert "was taken over by another process" in (tmp_path / "b.log").read_text()
    print(f"completed {seconds:.1f} s after the kill")
