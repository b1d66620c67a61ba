"""Commands of ``unwritten`` in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from .servers import AS_OWNER, OWNER_TOKEN, PATIENCE


class Running:
    """A running server process and the lines that it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._viewer = threading.Thread(target=self._read)
        self._viewer.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def wait_for(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait until the output matches a pattern, and return the match."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(pattern, "".join(self.lines)):
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} was never printed:\n{''.join(self.lines)}")

    def stop(self) -> int:
        """Send SIGINT, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        self._viewer.join()
        return code


@contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """Run ``unwritten`` with these arguments. It is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unwritten", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "UNWRITTEN_OWNER_TOKEN": OWNER_TOKEN},
    )
    server = Running(process)
    try:
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        server._viewer.join()
        if process.stdout:
            process.stdout.close()


def fetch(url: str) -> str:
    """Return the body of a URL, as its owner sees it."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=AS_OWNER), timeout=PATIENCE) as response:
        return str(response.read().decode())
