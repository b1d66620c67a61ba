"""The attacked app in a process of its own: ``unwritten run`` with few file descriptors, on real TCP."""

from __future__ import annotations

import contextlib
import html
import http.client
import itertools
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from urllib.parse import urlencode

from tests.benchmarks.apps import ROOT
from tests.support.servers import free_port
from websockets.sync.client import ClientConnection, connect

APP = Path(__file__).parent / "app.py"
DESCRIPTORS = 1024
"""The limit of descriptors of the server: the default of most systems."""

ATTACKER = "127.66.6.6"
"""The address of the visitors who attack."""

Connection = socket.socket

_addresses = itertools.count(1)


def new_address() -> str:
    """Return another address of this machine, so that the server sees another visitor."""
    number = next(_addresses)
    return f"127.{20 + number // 60_000}.{number // 250 % 240}.{1 + number % 250}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete response."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")


class AppServer:
    """The process. Create it with ``app_server``.

    Args:
        folder: For the database and the log.
        engine: The URL of the model server.
        flags: Further flags of ``unwritten run``; they replace those that are set here.
        environment: Variables of the process.
        app: The app's file.
        metrics: True serves ``/metrics`` to everyone.
        extra: Flags without a value.

    Attributes:
        port: The port.
        log: The file with everything that the process has printed.
    """

    def __init__(
        self,
        folder: Path,
        engine: str,
        flags: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        app: Path = APP,
        metrics: bool = True,
        extra: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.log = folder / "server.log"
        given = {
            "--host": "0.0.0.0",
            "--hosts": "*",
            "--port": str(self.port),
            "--engine": engine,
            "--engine-options": "parallel=8 first_timeout=20 silence_timeout=10 retries=0",
            "--database": str(folder / "torture.db"),
            "--signed-links": "off",
            "--edits": "on",
            "--prefetch": "off",
            "--jobs": "8",
            "--queue-limit": "2000",
            "--time-limit": "30",
            "--visitor-pages": "0",
            "--visitor-seconds": "0",
            "--engine-seconds": "0",
            **(flags or {}),
        }
        words = [word for pair in given.items() for word in pair]
        self._command = [sys.executable, "-m", "unwritten", "run", str(app), "--no-reload", *words]
        self._command += [*(["--metrics"] if metrics else []), *extra]
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    # -- the process --------------------------------------------------------------------------------------

    def start(self, *, descriptors: int = DESCRIPTORS, ready: bool = True) -> None:
        """Start the process, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors)),
            )
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self, seconds: float = 40) -> float:
        """Wait until the app answers. Return the seconds that it took.

        Raises:
            RuntimeError: The process has ended, or does not answer. The message ends with its log.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.get("/login", seconds=2)
                return time.monotonic() - begun
            time.sleep(0.05)
        raise RuntimeError(f"The server did not start. Its log ends: {self.log.read_text()[-2000:]}")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None, "the server was not started"
        return self._process

    @property
    def pid(self) -> int:
        """Its identifier."""
        return self.process.pid

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds: float = 60) -> float:
        """End the process with SIGTERM. Return the seconds that it took; after ``seconds`` it is killed."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        return time.monotonic() - begun

    @property
    def running(self) -> bool:
        """True if the process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def descriptors(self) -> int:
        """Number of open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def memory_mb(self) -> float:
        """Resident memory in MB."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    @property
    def peak_mb(self) -> float:
        """The largest resident memory so far, in MB."""
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def num_open(self, clients: Sequence[Connection]) -> int:
        """Return how many connections the process still has open. It may have closed one that never reads.

        Such a client cannot notice that, because the end is behind the data. The system keeps the rest for a while.
        """
        ports = {client.getsockname()[1] for client in clients}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        local = f":{self.port:04X}"
        return sum(
            row[1].endswith(local) and int(row[2].partition(":")[2], 16) in ports and row[9] != "0" for row in rows
        )

    # -- its visitors -------------------------------------------------------------------------------------

    def connection(self, ip: str = "127.0.0.1", seconds: float = 60) -> http.client.HTTPConnection:
        """Return a new connection from an address."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds, source_address=(ip, 0))

    def get(
        self, path: str, ip: str = "127.0.0.1", headers: Mapping[str, str] | None = None, seconds: float = 60
    ) -> Reply:
        """Request a path as a browser does."""
        return self.request("GET", path, ip, headers, seconds=seconds)

    def request(
        self,
        method: str,
        path: str,
        ip: str = "127.0.0.1",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float = 60,
    ) -> Reply:
        """Send a request on a connection of its own."""
        connection = self.connection(ip, seconds)
        try:
            connection.request(method, path, body, {"Accept": "text/html", **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, response.msg, response.read())
        finally:
            connection.close()

    def post(
        self, path: str, form: Mapping[str, str], ip: str = "127.0.0.1", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Submit a form."""
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        return self.request("POST", path, ip, {**kind, **(headers or {})}, urlencode(form).encode())

    def whole(self, key: str, ip: str = "", seconds: float = 60) -> Reply:
        """Return a page when it is written, as a browser without JavaScript does."""
        return self.get(f"{key}{'&' if '?' in key else '?'}plain=1", ip or new_address(), seconds=seconds)

    def live_socket(self, ip: str = "127.0.0.1", headers: Mapping[str, str] | None = None) -> ClientConnection:
        """Open a live socket."""
        sock = socket.create_connection(("127.0.0.1", self.port), 20, source_address=(ip, 0))
        address = f"ws://127.0.0.1:{self.port}/_unwritten/live"
        return connect(address, sock=sock, additional_headers=headers, open_timeout=20, compression=None, max_size=None)

    def add_note(self, text: str, name: str = "notes") -> int:
        """Submit the form of a board. Return the status."""
        page = self.whole(f"/board/{name}", "127.0.0.1")
        action = re.search(r'action="([^"]+/add\?[^"]+)"', page.text)
        assert action is not None, "the board has no form"
        return self.post(html.unescape(action[1]), {"text": text}).status

    def raw(self, data: bytes, ip: str = "", buffer: int = 0) -> Connection:
        """Connect, send bytes, and return the connection. ``buffer`` bounds what the system receives."""
        sock = socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.settimeout(5)
        sock.bind((ip or ATTACKER, 0))
        sock.connect(("127.0.0.1", self.port))
        sock.sendall(data)
        return sock

    def metric(self, name: str) -> float:
        """Return the sum of the samples of a metric, or 0 if it has none."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(rf"unwritten_{name}[ {{]", line))


@contextlib.contextmanager
def app_server(
    folder: Path,
    engine: str,
    flags: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    app: Path = APP,
    metrics: bool = True,
) -> Iterator[AppServer]:
    """Run the app. Yields it when it answers."""
    server = AppServer(folder, engine, flags, environment, app, metrics)
    server.start()
    try:
        yield server
    finally:
        if server.running:
            server.kill()
