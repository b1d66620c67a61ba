"""Start a server again when its files change, without losing its address.

One process watches and holds the listening socket; the server is its child and gets the socket. While the
child is started anew, browsers that connect wait in the socket's queue instead of being turned away.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from watchfiles import Change, DefaultFilter, watch

from ..app.application import App
from ..core.assets import asset_dir
from ..rendering.templates import Templates
from ..security.client_address import is_loopback
from ..web.tracebacks import error_reports
from .loading import app_file, is_file

VARIABLE = "_UNWRITTEN_HANDED"
"""Tells the server what it was handed: three file descriptors and a word."""


SUFFIXES = frozenset(
    [
        ".py",
        ".html",
        ".jinja",
        ".j2",
        ".css",
        ".js",
        ".svg",
        ".png",
        ".jpg",
        ".webp",
        ".ico",
        ".txt",
        ".md",
        ".json",
        ".toml",
    ]
)
"""What a change must end in to count. The database, for one, changes all the time."""


DRAWN = frozenset([".html", ".jinja", ".j2", ".css", ".js", ".svg", ".png", ".jpg", ".webp", ".ico"])
"""What is read anew without a start, if it lies among the app's templates or static files."""


PATIENCE = 6.0
"""Seconds until a server that does not stop is ended."""


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """What the watching process handed to this one.

    Attributes:
        descriptor: the listening socket.
        lifeline: a pipe that ends when the watching process does.
        report: a file for the reason, if the app cannot be started.
        again: whether a server was here before.
    """

    descriptor: int
    lifeline: int
    report: int
    again: bool

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Leave a page that says why, if the app cannot be started."""
        try:
            yield
        except Exception as error:
            os.write(self.report, standby_page(error.__cause__ or error).encode())
            raise

    def follow(self, refresh: Callable[[], None]) -> None:
        """Stop as by Ctrl-C when the watching process is gone, however it went.

        Args:
            refresh: called, in a thread of its own, when the watching process says that files have changed for which
                nothing has to be started anew.
        """

        def wait() -> None:
            while os.read(self.lifeline, 1):
                refresh()
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=wait, daemon=True, name="lifeline").start()


def inherited() -> InheritedSocket | None:
    """What the watching process handed to this one, or None if nobody watches."""
    words = os.environ.pop(VARIABLE, "").split()
    return InheritedSocket(int(words[0]), int(words[1]), int(words[2]), words[3] == "again") if words else None


def watched_folders(app: App, target: str) -> list[Path]:
    """The folder of the app, and those of its templates and static files if they lie elsewhere."""
    folders = [app_file(target).resolve().parent if is_file(target) else Path.cwd()]
    for folder in app.folders:
        if not any(folder.resolve().is_relative_to(known) for known in folders):
            folders.append(folder.resolve())
    return folders


class Sources(DefaultFilter):
    """Lets through changes of what an author writes."""

    def __call__(self, change: Change, path: str) -> bool:
        """Whether a change counts."""
        return Path(path).suffix in SUFFIXES and super().__call__(change, path)


def keep_running(
    arguments: list[str], sock: socket.socket, folders: Iterable[Path], drawn: Sequence[Path] = ()
) -> None:
    """Run ``unwritten`` with these arguments, and again after each change, until Ctrl-C.

    Args:
        arguments: what is typed after ``unwritten``.
        sock: the listening socket.
        folders: where to look for changes.
        drawn: folders of templates and static files: of changes there the running server is only told.
    """
    drawn = [folder.resolve() for folder in drawn]
    lifeline, mine = os.pipe()
    report = tempfile.TemporaryFile()  # noqa: SIM115 - closed in the end
    handed = (sock.fileno(), lifeline, report.fileno())
    child = _start(arguments, handed, again=False)
    untouched = True
    standby: ErrorServer | None = None
    told = False
    ending = threading.Event()

    def end(*_: object) -> None:
        # A flag, not an exception: that could be raised in the middle of anything, and be caught by who knows whom.
        if ending.is_set():
            child.kill()
        ending.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for changes in watch(
            *folders, watch_filter=Sources(), yield_on_timeout=True, rust_timeout=500, stop_event=ending
        ):
            if changes:
                names = sorted({Path(path).name for _, path in changes})
                shown = f"{', '.join(names[:3])}{' and more' if names[3:] else ''} changed"
                if child.poll() is None and all(_is_drawn(Path(path), drawn) for _, path in changes):
                    click.echo(f"{shown}: shown in open pages.")
                    os.write(mine, b"r")
                    continue
                click.echo(f"{shown}: starting again.")
                _stop(child)
                if standby:
                    standby.stop()
                    standby = None
                report.seek(0)
                report.truncate()
                child = _start(arguments, handed, again=True)
                untouched = told = False
            elif child.poll() is not None and not told:
                if untouched:
                    sys.exit(child.returncode)  # it never ran: the message is above
                click.echo("Waiting for a change of the files.", err=True)
                told = True
                report.seek(0)
                page = report.read().decode()
                standby = ErrorServer(sock, page) if page else None
    finally:
        _stop(child)
        os.close(mine)
        for number, handler in before.items():
            signal.signal(number, handler)
        if standby:
            standby.stop()
        report.close()
    click.echo("Stopped. The pages are kept.")


def _is_drawn(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a file is one that pages are drawn from."""
    return path.suffix in DRAWN and any(path.resolve().is_relative_to(folder) for folder in folders)


def _start(arguments: list[str], handed: tuple[int, int, int], *, again: bool) -> subprocess.Popen[bytes]:
    word = "again" if again else "first"
    if again:
        arguments = [argument for argument in arguments if argument != "--open"]
    return subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-m", "unwritten", *arguments],
        env={**os.environ, VARIABLE: " ".join([*map(str, handed), word])},
        pass_fds=handed,
        process_group=0,  # a Ctrl-C in the terminal is for the watching process, which passes it on once
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


_ATTENTION = 0.2
"""Seconds until the thread looks whether it is to stop."""


_PATIENCE = 2.0
"""Seconds that a browser may take to ask."""


def standby_page(error: BaseException) -> str:
    """The page that says why an app cannot be started, with the author's own lines."""
    style = "\n".join(
        (asset_dir("static") / name).read_text(encoding="utf-8") for name in ("unwritten.css", "devtools.css")
    )
    templates = Templates(None, {})
    # Our own style sheets, in a page that has nothing else: quotes must stay quotes there.
    page = templates.render("devtools/standby.html", {"faults": error_reports(error), "style": "/* style */"})
    return page.replace("/* style */", style, 1)


class ErrorServer:
    """Answers on the socket of a server that is not there. Browsers elsewhere learn only that it is not.

    Args:
        sock: the listening socket; it stays open.
        page: the HTML for browsers on this machine.
    """

    def __init__(self, sock: socket.socket, page: str) -> None:
        self._sock = sock.dup()
        self._page = page
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer, name="standby", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make room for a server."""
        self._over.set()
        self._thread.join()
        self._sock.close()

    def _answer(self) -> None:
        self._sock.settimeout(_ATTENTION)
        while not self._over.is_set():
            with contextlib.suppress(OSError):  # nobody came, or somebody left
                connection, peer = self._sock.accept()
                with connection:
                    connection.settimeout(_PATIENCE)
                    connection.recv(65536)
                    connection.sendall(self._response(str(peer[0])))

    def _response(self, peer: str) -> bytes:
        body = (self._page if is_loopback(peer) else "This app is being mended.\n").encode()
        kind = "text/html" if is_loopback(peer) else "text/plain"
        head = (
            "HTTP/1.1 503 Service Unavailable",
            f"content-type: {kind}; charset=utf-8",
            f"content-length: {len(body)}",
            "cache-control: no-store",
            "retry-after: 2",
            "x-content-type-options: nosniff",
            "connection: close",
        )
        return "\r\n".join([*head, "", ""]).encode() + body
