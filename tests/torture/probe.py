"""A visitor who requests a page every 10 ms, and notes how long the server stalls.

``python -m tests.torture.probe PORT PATH PID`` runs in a process of its own until its input ends, and prints JSON.
Waiting for a processor is subtracted, so that a busy machine is not counted as a stall.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from tests.benchmarks.apps import ROOT

PERIOD = 0.01
LIMIT = 60.0

_Schedule: TypeAlias = dict[int, tuple[float, float]]
_Schedules: TypeAlias = tuple[_Schedule, _Schedule]


def schedule(pid: int) -> _Schedule:
    """Return, for each thread of a process, the seconds that it has run, and waited for a processor."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError, ValueError):
            ran, waited, _ = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()
            found[int(thread)] = int(ran) / 1e9, int(waited) / 1e9
    return found


def stalled(delay: float, pid: int, server: _Schedules, own: _Schedules) -> float:
    """Return how much of a delay the server has caused.

    What the event loop or the prober waited for a processor is subtracted, and the same of the thread that had the
    interpreter's lock meanwhile. Which one that was is not known, so it is the longest wait of the others. What the
    loop itself has run counts in any case.
    """
    (before, after), (own_before, own_after) = server, own
    waits = {thread: after[thread][1] - wait for thread, (_, wait) in before.items() if thread in after}
    others = max((wait for thread, wait in waits.items() if thread != pid), default=0.0)
    own_wait = sum(after_wait - own_before.get(thread, (0, 0))[1] for thread, (_, after_wait) in own_after.items())
    ran = after[pid][0] - before[pid][0] if pid in after and pid in before else 0.0
    return max(ran, delay - waits.get(pid, 0.0) - others - own_wait, 0.0)


def _address(number: int) -> str:
    """Return the address of a visitor. Each of them asks for few pages, so that budgets do not apply."""
    return f"127.9.{number // 10 // 200 % 200}.{1 + number // 10 % 200}"


def _request(sock: socket.socket, path: str) -> str:
    """Request a page, and wait for all of it. Return the status line."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += _more(sock)
    return head.partition(b"\r\n")[0].decode("latin-1")


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 18)
    if not data:
        raise ConnectionError("closed")
    return data


def main(port: int, path: str, pid: int) -> None:
    """Request the page until the input ends. Print the longest stall, the requests and the failures."""
    own = os.getpid()
    delays: list[tuple[float, float]] = []
    failures: list[str] = []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], PERIOD)[0]:
        before, own_before = schedule(pid), schedule(own)
        begun = time.monotonic()
        try:
            # A connection of its own, as a new visitor has: a server that accepts none is noticed, too.
            with socket.create_connection(
                ("127.0.0.1", port), LIMIT, source_address=(_address(len(delays)), 0)
            ) as sock:
                status = _request(sock, path.replace("{n}", str(len(delays))))
            if not status.startswith("HTTP/1.1 200"):
                failures.append(status)
        except (OSError, StopIteration) as error:
            failures.append(repr(error))
        delay = time.monotonic() - begun
        delay = min(delay, stalled(delay, pid, (before, schedule(pid)), (own_before, schedule(own))))
        delays.append((delay, begun))
    delays.sort(reverse=True)
    p99 = delays[len(delays) // 100][0] if delays else 0.0
    print(json.dumps({"longest": delays[:50], "p99": p99, "requests": len(delays), "failures": failures}))


class Prober:
    """Runs the visitor while a ``with`` block runs. ``{n}`` in the path makes each request one for another page.

    After the block, these describe it:

    Attributes:
        stalls: The longest delays in seconds, longest first, each with the monotonic time at which it began.
        p99: The delay that 1 % of the requests exceeded, in seconds.
        requests: The number of requests.
        failures: How many were not answered with the page.
    """

    def __init__(self, port: int, path: str, pid: int) -> None:
        self._command = [sys.executable, "-m", "tests.torture.probe", str(port), path, str(pid)]
        self.stalls: list[tuple[float, float]] = [(LIMIT, 0.0)]
        self.p99 = LIMIT
        self.requests, self.failures = 0, 1

    @property
    def longest_ms(self) -> float:
        """The longest delay, in milliseconds."""
        return self.stalls[0][0] * 1000 if self.stalls else 0.0

    def __enter__(self) -> Prober:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            out, _ = self._process.communicate("", LIMIT + 5)
            found = json.loads(out)
        except subprocess.TimeoutExpired:  # the figures stay those of an outage
            self._process.kill()
            self._process.wait()
            return
        self.stalls = [(delay, begun) for delay, begun in found["longest"]]
        self.p99, self.requests, self.failures = found["p99"], found["requests"], len(found["failures"])
        for failure in found["failures"][:3]:
            print(f"    a request of another visitor failed: {failure}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
