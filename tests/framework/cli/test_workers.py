"""``unwritten engine``, and ``unwritten run --workers``: processes that share one engine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.processes import Running, fetch, running
from tests.support.redis_server import MISSING, PROGRAM, redis_server
from tests.support.servers import PATIENCE, wait_for
from tests.support.terminal import APP, WITHOUT_ENGINE, message, unwritten, write

from unwritten_engine import Prompt, Recorder, Request, open_engine, scripted
from unwritten_engine.remote.protocol import TOKEN_VARIABLE

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.anyio]

TEXT = "It was always so, and the lamp was lit every evening."


async def record() -> None:
    """Write a tape that answers the pages ``/wiki/Tea`` and ``/wiki/Salt``."""
    engine = Recorder(scripted(TEXT), "small.tape")
    for title in ("Tea", "Salt"):
        async for _ in engine.generate(article(title)):
            pass


def article(title: str) -> Request:
    return Request(Prompt(f"An article about {title}.", opening=f"**{title}**"))


async def test_an_engine_is_served_until_ctrl_c() -> None:
    await record()
    with running("engine", "--engine", "small.tape", "--engine-options", "speed=0", "--port", "0") as server:
        url = server.wait_for(r"ws://127\.0\.0\.1:\d+")
        assert "The tape small.tape was requested by name." in "".join(server.lines)
        engine = open_engine(url)
        frames = [frame async for frame in engine.generate(article("Tea"))]
        await engine.close()
        assert frames[-1].text == f"**Tea**{TEXT}"
        assert server.stop() == 0
        assert "Traceback" not in "".join(server.lines)


def test_an_engine_for_other_machines_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = message("engine", "--host", "0.0.0.0", "--port", "0")
    assert TOKEN_VARIABLE in shown and "openssl rand -hex 32" in shown
    monkeypatch.setenv(TOKEN_VARIABLE, "  ")
    assert TOKEN_VARIABLE in message("engine", "--host", "::", "--port", "0")
    monkeypatch.setenv(TOKEN_VARIABLE, "sesame")  # a known variable, and a wrong engine is the next problem
    assert "There is no engine 'tap'" in message("engine", "--host", "0.0.0.0", "--port", "0", "--engine", "tap")


@pytest.mark.parametrize(
    ("app", "options", "problem"),
    [
        (WITHOUT_ENGINE, [], "Several workers need a broker"),
        (APP, ["--broker", "redis://127.0.0.1:1"], "brings its own open engine"),
    ],
)
def test_an_app_that_workers_cannot_serve_is_one_clear_message(app: str, options: list[str], problem: str) -> None:
    write(app)
    shown = message("run", "app.py", "--workers", "2", "--port", "0", *options)
    assert problem in shown and "--" in shown


def test_workers_are_not_reloaded() -> None:
    write(WITHOUT_ENGINE)
    result = unwritten("run", "app.py", "--workers", "2", "--reload")
    assert result.exit_code == 2 and "Give --reload or --workers, not both." in result.output
    assert unwritten("run", "app.py", "--workers", "0").exit_code == 2


@contextlib.contextmanager
def two_workers(*options: str) -> Iterator[Running]:
    with redis_server() as broker:
        engine = ("--engine", "small.tape", "--engine-options", "speed=0")
        arguments = ("run", "app.py", "--workers", "2", "--port", "0", "--broker", broker.url, *engine, *options)
        with running(*arguments) as server:
            yield server
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(PATIENCE)


def children(server: Running) -> dict[int, str]:
    """Return the commands of the supervisor's processes."""
    pid = server.process.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child): Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in found}


def engine_servers(server: Running) -> set[int]:
    return {pid for pid, command in children(server).items() if "unwritten engine" in command}


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
async def test_processes_that_end_are_started_again_and_all_stop_together() -> None:
    await record()
    write(WITHOUT_ENGINE)
    with two_workers() as server:
        url = server.wait_for(r"http://127\.0\.0\.1:\d+(?=/\S+    \(Ctrl-C)")
        shown = "".join(server.lines)
        assert shown.count("Small\n") == 1 and "2 processes share one engine server" in shown
        assert TEXT in fetch(f"{url}/wiki/Tea?plain=1")
        (engine,) = engine_servers(server)
        workers = children(server).keys() - {engine}
        assert len(workers) == 2

        write("1 / 0\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Worker 1 could not be restarted. The running workers are kept.")
        assert "ZeroDivisionError" in "".join(server.lines) and children(server).keys() == {engine, *workers}
        write(WITHOUT_ENGINE)

        os.kill(engine, signal.SIGKILL)
        server.wait_for(rf"The engine server \(process {engine}\) was killed by signal 9. Starting it again.")
        assert TEXT in fetch(f"{url}/wiki/Salt?plain=1")  # waits for it
        assert engine_servers(server) != {engine}
        killed = min(workers)
        os.kill(killed, signal.SIGKILL)
        server.wait_for(rf"Worker \d \(process {killed}\) was killed by signal 9. Starting it again.")
        wait_for(lambda: len(children(server)) == 3)
        assert TEXT in fetch(f"{url}/wiki/Tea?plain=1")

        everyone = [*children(server), server.process.pid]
        for pid in everyone:  # as a service manager does that stops a whole group
            os.kill(pid, signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in everyone[:-1]))
        shown = "".join(server.lines)
        assert re.search(r"Stopped\. All finished pages are stored\.\s*$", shown), shown


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
async def test_a_worker_that_cannot_start_ends_the_whole_with_its_error() -> None:
    await record()
    write(WITHOUT_ENGINE)
    with two_workers("--database", "/dev/null/x.db") as server:
        assert server.process.wait(PATIENCE) == 1
        shown = "".join(server.lines)
        assert shown.count("Error: ") == 1 and "/dev/null" in shown and "Traceback" not in shown
