"""Serve an app with several worker processes that share one listening socket and one engine.

The supervisor holds the socket, so that no connection is refused while processes restart. It starts the engine server,
unless the engine is on a server already, and the workers. It restarts processes that end.

uvicorn's own supervisor is not used, because its worker is a fixed class: it would not finish pages on SIGTERM, and has
no engine server. It also restarts failing workers without delay, and waits without limit for a worker to stop.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from unwritten_engine.open import is_remote
from unwritten_engine.remote.protocol import TOKEN_VARIABLE

from ..app.application import App
from ..core.errors import BadSetting
from ..core.settings import OWNER_VARIABLE
from .child_process import SUPERVISED, start_child
from .flags import to_arguments
from .server import SHUTDOWN_SECONDS, bind, print_url, url_of

MAX_FAILURES = 6
"""Number of times in a row that a process may end early. Then the supervisor stops."""

STABLE_SECONDS = 60.0
"""Seconds that a process must run so that its end is not a failure to start."""

STOP_SECONDS = SHUTDOWN_SECONDS + 12.0
"""Seconds beyond ``drain_seconds`` after which a process that does not stop is killed."""

_POLL_SECONDS = 0.1


def serve_with_workers(
    target: str, app: App, settings: Mapping[str, object], count: int, *, open_browser: bool
) -> None:
    """Serve an app with several worker processes until Ctrl-C or SIGTERM. SIGHUP restarts them one by one.

    Args:
        target: The app, as it was typed.
        app: The app, configured.
        settings: The settings that were typed.
        count: The number of worker processes.
        open_browser: True opens the app in the browser.

    Raises:
        BadSetting: If the app cannot be served by several processes.
    """
    _check(app)
    sock = bind(app.settings.host, app.settings.port)
    engine: _Slot | None = None
    engine_settings = {name: getattr(app.settings, name) for name in ("engine", "model", "engine_options")}
    environment = {**os.environ, OWNER_VARIABLE: app.owner.token}
    if not is_remote(app.settings.engine):
        engine_socket = bind("127.0.0.1", 0)
        environment[TOKEN_VARIABLE] = environment.get(TOKEN_VARIABLE) or secrets.token_urlsafe(32)
        engine = _Slot("The engine server", ["engine", *to_arguments(engine_settings)], engine_socket)
        address = url_of(engine_socket).replace("http://", "ws://", 1)
        engine_settings = {"engine": address, "model": "", "engine_options": ""}
    arguments = ["run", target, "--no-reload", *to_arguments({**settings, **engine_settings})]
    workers = [_Slot(f"Worker {number}", arguments, sock) for number in range(1, count + 1)]
    Supervisor(app, engine, workers, environment, open_browser=open_browser).run()


def _check(app: App) -> None:
    if not hasattr(signal, "SIGHUP"):
        raise BadSetting("Worker processes need Linux or macOS. Leave --workers out, or run it in a container.")
    if not app.settings.broker:
        raise BadSetting(
            "Several workers need a broker, which gives each page to one of them. Start Redis or Valkey (Debian: "
            "apt install redis-server), and add its address: --broker redis://127.0.0.1:6379"
        )
    if app.provided_engine is not None:
        raise BadSetting(
            f"The app {app.name!r} brings its own open engine, which several processes cannot share. Name the engine "
            "instead: App(…, engine='…') or --engine."
        )


@dataclass(eq=False)
class _Child:
    """A running process.

    Attributes:
        process: The process.
        lifeline: The write end of its lifeline. Closing it stops the process.
        report: The read end of its report.
        started_at: When it was started, in monotonic seconds.
        facts: What it has reported; None until it accepts requests.
        kill_at: When it is killed, because it was told to stop; None if it was not.
    """

    process: subprocess.Popen[bytes]
    lifeline: int
    report: int
    started_at: float
    facts: dict[str, Any] | None = None
    kill_at: float | None = None

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def update(self) -> None:
        """Read the report, if there is one."""
        if self.facts is None and self.report >= 0:
            try:
                text = os.read(self.report, 4096)
            except BlockingIOError:
                return
            os.close(self.report)
            self.report = -1
            if text:
                self.facts = json.loads(text)

    def close(self) -> None:
        """Close the pipes."""
        for descriptor in (self.lifeline, self.report):
            if descriptor >= 0:
                os.close(descriptor)
        self.lifeline = self.report = -1


@dataclass(eq=False)
class _Slot:
    """A place for a process, which is filled again when the process ends.

    Attributes:
        name: What messages call it.
        arguments: What is typed after ``unwritten``.
        sock: The socket on which the process listens.
        child: The process.
        successor: The process that replaces it once it has started, during a rolling restart.
        failures: How often in a row the process has ended early.
        start_at: When the next process may be started, in monotonic seconds.
    """

    name: str
    arguments: Sequence[str]
    sock: socket.socket
    child: _Child | None = None
    successor: _Child | None = None
    failures: int = 0
    start_at: float = 0.0


class Supervisor:
    """Starts the processes, restarts those that end, and stops all.

    Args:
        app: The app, for its name and settings.
        engine: The slot of the engine server; None if the engine is elsewhere.
        workers: The slots of the workers.
        environment: The environment of the processes.
        open_browser: True opens the app in the browser.
    """

    def __init__(
        self,
        app: App,
        engine: _Slot | None,
        workers: Sequence[_Slot],
        environment: Mapping[str, str],
        *,
        open_browser: bool,
    ) -> None:
        self._app = app
        self._engine = engine
        self._workers = workers
        self._environment = environment
        self._open_browser = open_browser
        self._announced = False
        self._restarting: deque[_Slot] = deque()
        self._retiring: list[_Child] = []
        self._stopping = threading.Event()
        self._restart_requested = False

    def run(self) -> None:
        """Serve until a signal. Exit with an error if a process cannot start."""
        handlers = {number: signal.signal(number, self._stop_soon) for number in (signal.SIGINT, signal.SIGTERM)}
        handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._restart_soon)
        try:
            if not self._start_all():
                return
            url = url_of(self._workers[0].sock)
            self._print_started(url)
            if self._open_browser:
                webbrowser.open(self._app.owner.url(url))
            while not self._stopping.wait(_POLL_SECONDS):
                self._tick()
        finally:
            self._stop_all()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        click.echo("Stopped. All finished pages are stored.")

    # -- signals ------------------------------------------------------------------------------------------

    def _stop_soon(self, number: int, _: object) -> None:
        if self._stopping.is_set():
            for child in self._children():
                child.process.kill()
            os._exit(128 + number)
        self._stopping.set()

    def _restart_soon(self, *_: object) -> None:
        self._restart_requested = True

    # -- starting -----------------------------------------------------------------------------------------

    def _start_all(self) -> bool:
        """Start the engine server, one worker, and then the others. Return False if a signal arrives meanwhile.

        The first worker creates or migrates the database, and prints what is wrong if it cannot start.
        """
        first, *others = self._workers
        for slots in ([self._engine] if self._engine else [], [first], others):
            for slot in slots:
                slot.child = self._start(slot)
            for slot in slots:
                if not self._wait_until_started(slot):
                    return False
        return True

    def _wait_until_started(self, slot: _Slot) -> bool:
        child = slot.child
        assert child is not None
        while child.facts is None:
            child.update()
            if child.facts is None and not child.is_running:
                sys.exit(child.process.returncode if child.process.returncode > 0 else 1)  # it has printed the reason
            if self._stopping.wait(_POLL_SECONDS):
                return False
        return True

    def _start(self, slot: _Slot) -> _Child:
        lifeline_end, lifeline = os.pipe()
        report, report_end = os.pipe()
        os.set_blocking(report, False)
        inherited = (slot.sock.fileno(), lifeline_end, report_end)
        announces = slot is self._workers[0] and not self._announced
        self._announced = self._announced or announces
        word = "announces" if announces else "silent"
        try:
            process = start_child(slot.arguments, SUPERVISED, inherited, word, self._environment)
        finally:
            os.close(lifeline_end)
            os.close(report_end)
        return _Child(process, lifeline, report, time.monotonic())

    def _print_started(self, url: str) -> None:
        facts = self._workers[0].child.facts if self._workers[0].child else None
        shared = "share one engine server" if self._engine else f"use {self._app.settings.engine}"
        click.echo(f"  {click.style('workers ', dim=True)} {len(self._workers)} processes {shared}")
        print_url(self._app.owner.url(url), self._app.settings.host, bool((facts or {}).get("signed_links")))

    # -- running ------------------------------------------------------------------------------------------

    def _slots(self) -> list[_Slot]:
        return [*([self._engine] if self._engine else []), *self._workers]

    def _children(self) -> list[_Child]:
        found = [child for slot in self._slots() for child in (slot.child, slot.successor) if child is not None]
        return [child for child in (*found, *self._retiring) if child.is_running]

    def _tick(self) -> None:
        for slot in self._slots():
            self._check_slot(slot)
        for child in list(self._retiring):
            self._check_retiring(child)
        if self._restart_requested:
            self._restart_requested = False
            if not self._restarting:
                click.echo("Restarting the workers one by one.", err=True)
                self._restarting.extend(self._workers)
        if self._restarting and not self._retiring:
            self._restart_next(self._restarting[0])

    def _check_slot(self, slot: _Slot) -> None:
        """Start the slot's process again if it has ended."""
        now = time.monotonic()
        child = slot.child
        if child is not None:
            child.update()
            if child.is_running:
                if child.facts is not None and now - child.started_at > STABLE_SECONDS:
                    slot.failures = 0
                return
            child.close()
            slot.child = None
            slot.failures += 1
            code = child.process.returncode
            end = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            if slot.failures >= MAX_FAILURES and not self._is_served_without(slot):
                click.echo(f"{slot.name} {end}, {slot.failures} times in a row. Stopping.", err=True)
                sys.exit(1)
            delay = 0.0 if slot.failures == 1 else min(30.0, 0.5 * 2**slot.failures)
            slot.start_at = now + delay
            when = f" in {delay:g} s" if delay else ""
            click.echo(f"{slot.name} (process {child.process.pid}) {end}. Starting it again{when}.", err=True)
        if now >= slot.start_at:
            slot.child = self._start(slot)

    def _is_served_without(self, slot: _Slot) -> bool:
        """True if other workers serve the app, as far as it can be served without this slot's process."""
        others = [other.child for other in self._workers if other is not slot]
        serving = any(child is not None and child.is_running and child.facts is not None for child in others)
        return serving and slot is not self._engine

    # -- restarting and stopping --------------------------------------------------------------------------

    def _restart_next(self, slot: _Slot) -> None:
        """Replace one worker: the old one stops when the new one accepts requests."""
        if slot.successor is None:
            slot.successor = self._start(slot)
            return
        successor = slot.successor
        successor.update()
        if successor.facts is not None:
            self._restarting.popleft()
            old, slot.child, slot.successor = slot.child, successor, None
            slot.failures = 0
            if old is not None and old.is_running:
                self._retire(old)
            if not self._restarting:
                click.echo("The workers were restarted.", err=True)
        elif not successor.is_running:
            successor.close()
            slot.successor = None
            self._restarting.clear()
            click.echo(f"{slot.name} could not be restarted. The running workers are kept.", err=True)

    def _retire(self, child: _Child) -> None:
        child.process.send_signal(signal.SIGTERM)
        child.kill_at = time.monotonic() + self._app.settings.drain_seconds + STOP_SECONDS
        self._retiring.append(child)

    def _check_retiring(self, child: _Child) -> None:
        if not child.is_running:
            child.close()
            self._retiring.remove(child)
        elif child.kill_at is not None and time.monotonic() > child.kill_at:
            child.process.kill()

    def _stop_all(self) -> None:
        """Stop the workers, which finish their pages, and then the engine server."""
        self._stopping.set()
        for slot in self._workers:
            for child in filter(None, (slot.child, slot.successor)):
                self._retire(child)
            slot.child = slot.successor = None
        self._wait_for_retiring()
        if self._engine is not None and self._engine.child is not None:
            child, self._engine.child = self._engine.child, None
            child.close()  # the end of its lifeline
            child.kill_at = time.monotonic() + STOP_SECONDS
            self._retiring.append(child)
            self._wait_for_retiring()
        for slot in self._slots():
            slot.sock.close()

    def _wait_for_retiring(self) -> None:
        while self._retiring:
            for child in list(self._retiring):
                self._check_retiring(child)
            time.sleep(_POLL_SECONDS)
