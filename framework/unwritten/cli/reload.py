"""Restart a server when files that it has read change, without closing its socket.

Two processes: the parent holds the listening socket and watches the files; its child serves on that socket and reports
which files it reads. While the child restarts, new connections wait in the socket's queue instead of being refused.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from watchfiles import DefaultFilter, watch

from ..app.application import App
from ..core.assets import asset_dir
from ..core.tracebacks import error_reports
from ..rendering.templates import Templates
from ..security.owner import Owner
from .child_process import inherited, start_child, watch_lifeline
from .loading import app_file, is_file

VARIABLE = "_UNWRITTEN_INHERITED"
"""The environment variable that tells the child what it inherits; see ``start_child``."""

REFRESHED_SUFFIXES = frozenset(
    [".html", ".jinja", ".j2", ".css", ".js", ".svg", ".png", ".jpg", ".webp", ".ico", ".txt", ".md"]
)
"""Suffixes of templates and static files. A change of one in its folder updates open pages, without a restart."""

SOURCE_SUFFIXES = REFRESHED_SUFFIXES | {".py", ".json", ".toml"}
"""Suffixes of files whose changes restart an app that could not start."""

STOP_TIMEOUT = 6.0
"""Seconds until a child that does not stop is killed."""


# -- in the child -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParentProcess:
    """The parent process, as its child sees it: the descriptors that the child inherits.

    Attributes:
        listener: The file descriptor of the listening socket.
        lifeline: The read end of a pipe. It receives a byte for each refresh, and ends when the parent does.
        report: A file for the HTML page that explains why the app cannot start.
        files: A file for the paths that the child reads; see ``WatchedFiles``.
        restarted: True if this is not the first child.
    """

    listener: int
    lifeline: int
    report: int
    files: int
    restarted: bool

    @contextlib.contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Record the files that are read from now on. Leave an error page if the app cannot start."""
        _record_files(self.files)
        try:
            yield
        except Exception as error:
            os.write(self.report, standby_page(error.__cause__ or error).encode())
            raise

    def follow(self, app: App) -> None:
        """Report the app's folders. Refresh its pages when the parent requests it, and stop when the parent ends."""
        for folder in app.folders:
            os.write(self.files, b"F" + os.fsencode(folder.resolve()) + b"\0")
        watch_lifeline(self.lifeline, lambda: os.kill(os.getpid(), signal.SIGINT), app.devtools.refresh_soon)


def parent_process() -> ParentProcess | None:
    """Return the parent that watches files and restarts this process, or None if there is none."""
    found = inherited(VARIABLE)
    if found is None:
        return None
    (listener, lifeline, report, files), word = found
    return ParentProcess(listener, lifeline, report, files, restarted=word == "restarted")


def _record_files(descriptor: int) -> None:
    """Write the path of every file that this process opens from now on, once: ``R`` if it reads, ``W`` if it writes."""
    seen: set[tuple[str, bool]] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not isinstance(arguments[0], int):
            with contextlib.suppress(OSError, TypeError, ValueError):  # errors of this hook would fail the open()
                record(os.fsdecode(arguments[0]), bool(arguments[2] & (os.O_WRONLY | os.O_RDWR)))

    def record(path: str, writes: bool) -> None:
        if (path, writes) not in seen:
            seen.add((path, writes))
            if path.endswith(".pyc"):
                path = importlib.util.source_from_cache(path)  # an unchanged module is read from its cache
            os.write(descriptor, (b"W" if writes else b"R") + os.fsencode(os.path.realpath(path)) + b"\0")

    sys.addaudithook(hook)


# -- in the parent ----------------------------------------------------------------------------------------------------


@dataclass
class WatchedFiles:
    """What the child reported about files.

    Attributes:
        file: Where the child writes.
        read: Paths that it opened to read, those that did not exist included.
        written: Paths that it opened to write. Their changes are its own.
        folders: The app's folders of templates and static files.
    """

    file: Any = field(default_factory=tempfile.TemporaryFile)
    read: set[Path] = field(default_factory=set)
    written: set[Path] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)

    def update(self) -> None:
        """Read what the child has written so far."""
        for record in os.pread(self.file.fileno(), os.fstat(self.file.fileno()).st_size, 0).split(b"\0"):
            kind, path = record[:1], Path(os.fsdecode(record[1:]))
            if kind:
                {b"R": self.read, b"W": self.written, b"F": self.folders}[kind].add(path)

    def clear(self) -> None:
        """Clear all records before the next child starts."""
        self.file.seek(0)
        self.file.truncate()
        for paths in (self.read, self.written, self.folders):
            paths.clear()

    def needs_refresh(self, path: Path) -> bool:
        """True if a file is a template or a static file, of which open pages are updated without a restart."""
        is_inside = any(path.is_relative_to(folder) for folder in self.folders)
        return is_inside and path not in self.written and (path in self.read or path.suffix in REFRESHED_SUFFIXES)

    def needs_restart(self, path: Path, app_folder: Path) -> bool:
        """True if the child must restart after a change of a file.

        These are the files that it has read, and a folder ``templates`` or ``static`` that did not exist at its start.
        """
        if path in self.written or path in self.folders:
            return False
        new = [app_folder / name for name in ("templates", "static")]
        is_new = path in new or (any(map(path.is_relative_to, new)) and path.suffix in REFRESHED_SUFFIXES)
        return path in self.read or is_new


def watched_folders(app: App, target: str) -> list[Path]:
    """Return the app's own folder, followed by those of its templates and static files that lie elsewhere."""
    folders = [app_file(target).resolve().parent if is_file(target) else Path.cwd()]
    for folder in app.folders:
        if not any(folder.resolve().is_relative_to(known) for known in folders):
            folders.append(folder.resolve())
    return folders


def serve_with_reload(arguments: Sequence[str], sock: socket.socket, folders: Sequence[Path], owner: Owner) -> None:
    """Run ``unwritten`` with these arguments in a child process until Ctrl-C, and restart it when its files change.

    Args:
        arguments: What is typed after ``unwritten``.
        sock: The listening socket.
        folders: Where to watch for changes. The first is the app's own.
        owner: Sees why the app cannot start.
    """
    lifeline, refresh = os.pipe()
    files = WatchedFiles()
    report = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    descriptors = (sock.fileno(), lifeline, report.fileno(), files.file.fileno())
    child = _start(arguments, descriptors, restarted=False)
    has_restarted = is_waiting = False
    error_server: ErrorServer | None = None
    stopping = threading.Event()

    def stop(*_: object) -> None:
        # A flag, because an exception raised by a signal handler may be caught by the code that it interrupts.
        if stopping.is_set():
            child.kill()
        stopping.set()

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for changes in watch(
            *folders, watch_filter=DefaultFilter(), yield_on_timeout=True, rust_timeout=500, stop_event=stopping
        ):
            files.update()
            is_running = child.poll() is None
            paths = [Path(path) for _, path in changes]
            if is_running:
                refreshed = [path for path in paths if files.needs_refresh(path)]
                restarting = [path for path in paths if path not in refreshed and files.needs_restart(path, folders[0])]
            else:  # a child that failed may not have read all of its files
                refreshed, restarting = [], [path for path in paths if path.suffix in SOURCE_SUFFIXES]
            if restarting:
                click.echo(f"{_names(restarting)} changed: restarting.")
                _stop(child)
                if error_server:
                    error_server.close()
                    error_server = None
                report.seek(0)
                report.truncate()
                files.clear()
                child = _start(arguments, descriptors, restarted=True)
                has_restarted, is_waiting = True, False
            elif refreshed:
                click.echo(f"{_names(refreshed)} changed: updating open pages.")
                os.write(refresh, b"r")
            elif not is_running and not is_waiting:
                if not has_restarted:
                    sys.exit(child.returncode)  # it could not start, and has printed the reason
                click.echo("Waiting for a change of its files.", err=True)
                is_waiting = True
                report.seek(0)
                page = report.read().decode()
                error_server = ErrorServer(sock, page, owner) if page else None
    finally:
        _stop(child)
        os.close(refresh)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if error_server:
            error_server.close()
        report.close()
        files.file.close()
    click.echo("Stopped. All finished pages are stored.")


def _names(paths: Iterable[Path]) -> str:
    names = sorted({path.name for path in paths})
    return f"{', '.join(names[:3])}{' and more' if names[3:] else ''}"


def _start(arguments: Sequence[str], descriptors: tuple[int, ...], *, restarted: bool) -> subprocess.Popen[bytes]:
    if restarted:
        arguments = [argument for argument in arguments if argument != "--open"]
    return start_child(arguments, VARIABLE, descriptors, "restarted" if restarted else "first")


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


# -- while the app cannot start ---------------------------------------------------------------------------------------

_POLL_SECONDS = 0.2
"""How often the error server checks whether it was closed."""

_REQUEST_TIMEOUT = 2.0
"""Seconds that a browser may take to send its request."""


def standby_page(error: BaseException) -> str:
    """Return the page that shows why an app cannot start, with the author's own lines."""
    style = "\n".join(
        (asset_dir("static") / name).read_text(encoding="utf-8") for name in ("unwritten.css", "devtools.css")
    )
    templates = Templates(None, {})
    # The style sheets are inserted after rendering, which would escape their quotes.
    page = templates.render("devtools/standby.html", {"errors": error_reports(error), "style": "/* style */"})
    return page.replace("/* style */", style, 1)


class ErrorServer:
    """Responds to every request with an error page, until the app can start.

    Others than the owner only see that the app is down.

    Args:
        sock: The listening socket. It stays open.
        page: The HTML for the owner.
        owner: Recognizes the owner.
    """

    def __init__(self, sock: socket.socket, page: str, owner: Owner) -> None:
        self._sock = sock.dup()
        self._page = page
        self._owner = owner
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="error server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, so that the next child can accept connections."""
        self._closing.set()
        self._thread.join()
        self._sock.close()

    def _serve(self) -> None:
        self._sock.settimeout(_POLL_SECONDS)
        while not self._closing.is_set():
            with contextlib.suppress(OSError):  # no connection yet, or one that was closed
                connection, _ = self._sock.accept()
                with connection:
                    connection.settimeout(_REQUEST_TIMEOUT)
                    connection.sendall(self._response(connection.recv(65536)))

    def _response(self, request: bytes) -> bytes:
        lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        is_owner = self._owner.owns({"headers": headers})
        body = (self._page if is_owner else "This app cannot start at the moment.\n").encode()
        head = (
            "HTTP/1.1 503 Service Unavailable",
            f"content-type: {'text/html' if is_owner else 'text/plain'}; charset=utf-8",
            f"content-length: {len(body)}",
            "cache-control: no-store",
            "retry-after: 2",
            "x-content-type-options: nosniff",
            "connection: close",
        )
        return "\r\n".join([*head, "", ""]).encode() + body
