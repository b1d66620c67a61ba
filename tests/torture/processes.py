"""Four worker processes behind nginx, with one engine server and a broker: what their visitors notice of faults."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.support.engine_servers import EngineServerThread
from tests.support.redis_server import PROGRAM, RedisServer, redis_server
from tests.support.servers import free_port, wait_for

from unwritten_engine import Request, scripted
from unwritten_engine.scripted import Script, ScriptedEngine

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

MISSING = "; ".join(
    f"{name} is not installed: apt install {package}"
    for name, package, program in (("nginx", "nginx", NGINX), ("Redis", "redis-server", PROGRAM))
    if program is None
)
"""Why the scenario cannot run; "" if it can."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "processes_generations": (1, 1),
    "processes_complete": (200, 200),
    "processes_used": (2, 4),
    "processes_kill_complete": (40, 40),
    "processes_kill_takeover_s": (0, 5),
    "processes_kill_generations": (2, 2),
    "processes_broker_complete": (40, 40),
    "processes_rolling_failed": (0, 0),
    "processes_rolling_incomplete": (0, 0),
    "processes_rolling_replaced": (4, 4),
    "processes_budget_pages": (6, 6),
    "processes_database_unanswered": (0, 0),
    "processes_database_lost": (0, 0),
    "processes_database_recovery_s": (0, 10),
    "processes_drain_lost": (0, 0),
}
"""The least and the largest value of each figure."""

WORKERS = 4


class Service(Protocol):
    """A server that can be away."""

    def stop(self) -> None:
        """Stop it."""

    def start(self) -> None:
        """Start it again, with its data."""


# The page function runs in every process that a visitor reaches, and the prompt names the one that generates the page.
APP = """
import os
from unwritten import App
from starlette.middleware import Middleware
from starlette.datastructures import MutableHeaders

class ProcessHeader:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def add(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-process"] = str(os.getpid())
            await send(message)
        await self.app(scope, receive, add)

app = App("Processes", database="processes.db", prefetch="off", jobs=8, middleware=[Middleware(ProcessHeader)])

@app.page("/wiki/{title}")
def article(title: str) -> str:
    return f"An article about {title}, by process {os.getpid()}."
"""

END = "The last sentence of the page."

NGINX_CONF = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $http_x_visitor;  # nginx would pass $remote_addr; here tests choose it
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Response:
    """What a visitor received: the status (0 if the connection was lost before), the process, and the body."""

    status: int = 0
    process: int = 0
    body: str = ""

    @property
    def complete(self) -> bool:
        """True if it is a page with its last word."""
        return self.status == 200 and END in self.body and self.body.rstrip().endswith("</html>")


async def visit(port: int, path: str, visitor: str = "") -> Response:
    """Open a page through nginx, and read it to its end.

    Args:
        port: The port of nginx.
        path: The path of the page.
        visitor: The visitor's address; by default it is another one each time.
    """
    head, body = b"", b""
    visitor = visitor or f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}"
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        with contextlib.closing(writer):
            lines = [f"GET {path} HTTP/1.0", "Host: 127.0.0.1", "Accept: text/html", f"X-Visitor: {visitor}"]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            with contextlib.suppress(asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
            while piece := await reader.read(1 << 16):
                body += piece
    status, process = re.search(rb"^HTTP/1.\d (\d+)", head), re.search(rb"(?i)x-process: (\d+)", head)
    return Response(int(status[1]) if status else 0, int(process[1]) if process else 0, body.decode(errors="replace"))


def script(request: Request) -> Script:
    """Write a page in about two seconds. "Quick" and "Rolling" subjects take no time, "Long" ones four seconds."""
    if "Quick" in request.prompt.ask or "Rolling" in request.prompt.ask:
        return END
    words = random.Random(request.prompt.ask)
    delay = 0.1 if "Long" in request.prompt.ask else 0.05
    text, steps = "", list[str | float]()
    for _ in range(40):  # made-up words, because a text that repeats itself is ended
        text += " ".join("".join(words.choices(string.ascii_lowercase, k=7)) for _ in range(10)) + ". "
        steps += [delay, text]
    return [*steps, text + END]


class FourProcesses:
    """The running scenario.

    Args:
        folder: An empty folder.
        flags: Further flags of ``unwritten run``.
    """

    def __init__(self, folder: Path, broker: RedisServer, engine: ScriptedEngine, *flags: str) -> None:
        assert NGINX is not None, MISSING
        self.broker, self.engine = broker, engine
        self.port, self._upstream = free_port(), free_port()
        self._log = (folder / "workers.log").open("w+b")
        self._nginx_log = folder / "nginx.log"
        (folder / "app.py").write_text(APP)
        self._engine_server = EngineServerThread(engine, "torture")
        command = [sys.executable, "-m", "unwritten", "run", "app.py", "--workers", str(WORKERS)]
        command += ["--port", str(self._upstream), "--broker", broker.url, "--engine", self._engine_server.url]
        command += ["--trusted-proxies", "127.0.0.1", "--hosts", "127.0.0.1", "--signed-links", "off", *flags]
        environment = {**os.environ, "UNWRITTEN_ENGINE_TOKEN": "torture"}
        self.supervisor = subprocess.Popen(command, cwd=folder, env=environment, stdout=self._log, stderr=self._log)
        user = "user root;" if os.geteuid() == 0 else ""
        conf = folder / "nginx.conf"
        conf.write_text(NGINX_CONF.format(folder=folder, port=self.port, upstream=self._upstream, user=user))
        self._nginx = subprocess.Popen([NGINX, "-p", str(folder), "-e", str(self._nginx_log), "-c", str(conf)])

    @property
    def log(self) -> str:
        """What the supervisor and its workers have printed."""
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")

    def wait_until_started(self) -> None:
        """Wait until all workers accept requests."""
        wait_for(lambda: "Ctrl-C stops" in self.log or self.supervisor.poll() is not None, 60)
        assert self.supervisor.poll() is None, self.log
        wait_for(lambda: _accepts(self.port), 10)

    def owner(self, title: str) -> int:
        """Return the process that generates a page, or did last."""
        asks = [request.prompt.ask for request in self.engine.requests if f"about {title}," in request.prompt.ask]
        found = re.search(r"by process (\d+)", asks[-1]) if asks else None
        return int(found[1]) if found else 0

    def generations(self, title: str) -> int:
        """Return how often the engine was asked for a page."""
        return sum(f"about {title}," in request.prompt.ask for request in self.engine.requests)

    def stop(self) -> float:
        """Stop the workers with SIGTERM. Return the seconds that it took."""
        started = time.monotonic()
        self.supervisor.send_signal(signal.SIGTERM)
        self.supervisor.wait(60)
        return time.monotonic() - started

    def close(self) -> None:
        """Stop everything."""
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
            try:
                self.supervisor.wait(40)
            except subprocess.TimeoutExpired:
                self.supervisor.kill()
                self.supervisor.wait()
        self._nginx.terminate()
        self._nginx.wait(10)
        self._engine_server.close()
        self._log.close()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def four_processes(folder: Path, *flags: str) -> Iterator[FourProcesses]:
    """Run the scenario with a scripted engine. nginx and Redis must be installed; see ``MISSING``."""
    with redis_server() as broker:
        running = FourProcesses(folder, broker, scripted(script), *flags)
        try:
            running.wait_until_started()
            yield running
        finally:
            running.close()


# -- checks -----------------------------------------------------------------------------------------------------------


async def one_page(running: FourProcesses, visitors: int = 200) -> dict[str, float]:
    """Let 200 visitors open one page at the same time."""
    found = await asyncio.gather(*(visit(running.port, "/wiki/Shared?plain=1") for _ in range(visitors)))
    return {
        "processes_generations": running.generations("Shared"),
        "processes_complete": sum(response.complete for response in found),
        "processes_used": len({response.process for response in found}),
    }


async def killed_owner(running: FourProcesses, visitors: int = 40) -> dict[str, float]:
    """Kill the process that generates a page. Its own visitors reload; the others notice nothing."""
    path = "/wiki/Long_page?plain=1"
    title = "Long page"
    waiting = [asyncio.ensure_future(visit(running.port, path)) for _ in range(visitors)]
    await _until(lambda: running.generations(title) > 0)
    await asyncio.sleep(1.0)
    os.kill(running.owner(title), signal.SIGKILL)
    killed_at = time.monotonic()
    await _until(lambda: running.generations(title) > 1, 20)
    takeover = time.monotonic() - killed_at
    found = await asyncio.gather(*waiting)
    reloaded = await asyncio.gather(*(visit(running.port, path) for response in found if not response.complete))
    return {
        "processes_kill_reloads": len(reloaded),
        "processes_kill_complete": sum(response.complete for response in (*found, *reloaded)),
        "processes_kill_takeover_s": takeover,
        "processes_kill_generations": running.generations(title),
    }


async def broker_restart(running: FourProcesses, visitors: int = 40, seconds: float = 1.0) -> dict[str, float]:
    """Restart the broker, which loses its data, while a page is written."""
    waiting = [asyncio.ensure_future(visit(running.port, "/wiki/Long_outage?plain=1")) for _ in range(visitors)]
    await _until(lambda: running.generations("Long outage") > 0)
    await asyncio.sleep(0.5)
    running.broker.stop()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(running.broker.start)
    found = await asyncio.gather(*waiting)
    return {
        "processes_broker_complete": sum(response.complete for response in found),
        "processes_broker_generations": running.generations("Long outage"),
    }


async def rolling_restart(running: FourProcesses) -> dict[str, float]:
    """Restart all workers one by one while visitors open stored and new pages all the time."""
    before = set(await _processes(running))
    stopping = asyncio.Event()
    stored: list[Response] = []
    written: list[Response] = []

    async def load(path: str, responses: list[Response]) -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            responses.append(await visit(running.port, path.format(number)))
            await asyncio.sleep(0.05)  # the starting workers need the processors too

    load_tasks = [
        *(asyncio.ensure_future(load("/wiki/Shared", stored)) for _ in range(4)),
        *(asyncio.ensure_future(load(f"/wiki/Rolling_{n}_{{}}?plain=1", written)) for n in range(4)),
    ]
    await asyncio.sleep(0.3)
    restarts = running.log.count("The workers were restarted.")
    running.supervisor.send_signal(signal.SIGHUP)
    started = time.monotonic()
    await _until(lambda: running.log.count("The workers were restarted.") > restarts, 120)
    seconds = time.monotonic() - started
    await asyncio.sleep(0.3)
    stopping.set()
    await asyncio.gather(*load_tasks)
    after = await _processes(running)
    return {
        "processes_rolling_s": seconds,
        "processes_rolling_requests": len(stored) + len(written),
        "processes_rolling_failed": sum(response.status != 200 for response in (*stored, *written)),
        "processes_rolling_incomplete": sum(not response.complete for response in (*stored, *written)),
        "processes_rolling_replaced": len(after - before),
    }


async def _processes(running: FourProcesses) -> set[int]:
    """Return the processes that serve, by asking until all have answered."""
    found: set[int] = set()
    async with asyncio.timeout(30):
        while len(found) < WORKERS:
            some = await asyncio.gather(*(visit(running.port, "/wiki/Shared") for _ in range(16)))
            found |= {response.process for response in some}
    return found


async def database_away(running: FourProcesses, database: Service, seconds: float = 10.0) -> dict[str, float]:
    """Stop the database for a while under visitors who open stored and new pages. Pages that one has seen stay."""
    stopping = asyncio.Event()
    answers: list[Response] = []
    seen: list[str] = []

    async def load(path: str) -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            answers.append(await visit(running.port, path.format(number)))
            if answers[-1].complete:
                seen.append(path.format(number))
            else:
                await asyncio.sleep(0.2)

    paths = ["/wiki/Shared", *(f"/wiki/Quick_away_{n}_{{}}?plain=1" for n in range(3))]
    loads = [asyncio.ensure_future(load(path)) for path in paths]
    slow = asyncio.ensure_future(visit(running.port, "/wiki/Slow_away?plain=1"))
    await _until(lambda: running.generations("Slow away") > 0)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(database.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(database.start)
    started, count = time.monotonic(), len(seen)
    await _until(lambda: any("Quick" in path for path in seen[count:]), 30)
    recovery = time.monotonic() - started
    stopping.set()
    await asyncio.gather(*loads)
    before = len(running.engine.requests)
    await _until(lambda: "Slow" in "".join(seen) or slow.done(), 30)
    again = await asyncio.gather(*(visit(running.port, path) for path in {*seen, "/wiki/Slow_away?plain=1"}))
    return {
        "processes_database_pages": len({*seen}),
        "processes_database_unanswered": sum(response.status == 0 for response in (*answers, await slow)),
        "processes_database_lost": sum(not response.complete for response in again)
        + len(running.engine.requests)
        - before,  # a page that is generated again was lost
        "processes_database_recovery_s": recovery,
    }


async def budget(running: FourProcesses) -> dict[str, float]:
    """Let one visitor open more pages than allowed, all at the same time."""
    paths = [f"/wiki/Quick_{number}?plain=1" for number in range(16)]
    found = await asyncio.gather(*(visit(running.port, path, "203.0.113.9") for path in paths))
    refused = {response.status for response in found if not response.complete}
    assert refused == {429}, refused
    return {"processes_budget_pages": sum(response.complete for response in found)}


async def drain(running: FourProcesses, visitors: int = 20) -> dict[str, float]:
    """Stop all with SIGTERM while visitors read pages."""
    paths = [f"/wiki/Last_{number % 4}?plain=1" for number in range(visitors)]
    waiting = [asyncio.ensure_future(visit(running.port, path)) for path in paths]
    await _until(lambda: all(running.generations(f"Last {number}") for number in range(4)))
    await asyncio.sleep(0.5)
    seconds = await asyncio.to_thread(running.stop)
    found = await asyncio.gather(*waiting)
    return {
        "processes_drain_s": seconds,
        "processes_drain_lost": sum(not response.complete for response in found),
    }


async def _until(condition: Callable[[], object], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def processes(
    folder: Path, *, short: bool = False, flags: Sequence[str] = (), database: Service | None = None
) -> dict[str, float]:
    """Run all checks, and return their figures.

    Args:
        folder: An empty folder.
        short: True to leave out the checks of the broker, of budgets and of the database.
        flags: Further flags of ``unwritten run``, such as those that name a database.
        database: The database server that these flags name. None: there is none that could be away.
    """
    figures: dict[str, float] = {}
    checks: list[Callable[[FourProcesses], Coroutine[Any, Any, dict[str, float]]]] = [one_page, killed_owner]
    if not short:
        checks += [broker_restart, budget]
        if database is not None:
            checks.append(lambda running: database_away(running, database))
    checks += [rolling_restart, drain]
    with four_processes(folder, "--visitor-pages", "6", *flags) as running:
        for check in checks:
            figures |= asyncio.run(check(running))
    return figures


def missed(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures beyond their limits."""
    return {
        name: value
        for name, value in figures.items()
        if name in LIMITS and not LIMITS[name][0] <= value <= LIMITS[name][1]
    }
