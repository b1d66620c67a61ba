"""Start a server again when its files change, without losing its address.

One process watches and holds the listening socket; the server is its child and gets the socket. While the
child is started anew, browsers that connect wait in the socket's queue instead of being turned away.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click
from watchfiles import Change, DefaultFilter, watch

from ..app import App
from .loading import app_file, is_file

VARIABLE = "_UNWRITTEN_HANDED"
"""Tells the server what it was handed: two file descriptors and a word."""

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

PATIENCE = 6.0
"""Seconds until a server that does not stop is ended."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What the watching process handed to this one.

    Attributes:
        descriptor: the listening socket.
        lifeline: a pipe that ends when the watching process does.
        again: whether a server was here before.
    """

    descriptor: int
    lifeline: int
    again: bool

    def follow(self) -> None:
        """Stop as by Ctrl-C when the watching process is gone, however it went."""

        def wait() -> None:
            os.read(self.lifeline, 1)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=wait, daemon=True, name="lifeline").start()


def inherited() -> Handed | None:
    """What the watching process handed to this one, or None if nobody watches."""
    words = os.environ.pop(VARIABLE, "").split()
    return Handed(int(words[0]), int(words[1]), words[2] == "again") if words else None


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


def keep_running(arguments: list[str], sock: socket.socket, folders: Iterable[Path]) -> None:
    """Run ``unwritten`` with these arguments, and again after each change, until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    lifeline, mine = os.pipe()
    handed = (sock.fileno(), lifeline)
    child = _start(arguments, handed, again=False)
    untouched = True
    told = False
    try:
        for changes in watch(*folders, watch_filter=Sources(), yield_on_timeout=True, rust_timeout=500):
            if changes:
                names = sorted({Path(path).name for _, path in changes})
                click.echo(f"{', '.join(names[:3])}{' and more' if names[3:] else ''} changed: starting again.")
                _stop(child)
                child = _start(arguments, handed, again=True)
                untouched = told = False
            elif child.poll() is not None and not told:
                if untouched:
                    sys.exit(child.returncode)  # it never ran: the message is above
                click.echo("Waiting for a change of the files.", err=True)
                told = True
    except KeyboardInterrupt:
        pass
    finally:
        _stop(child)
        os.close(mine)
    click.echo("Stopped. The pages are kept.")


def _start(arguments: list[str], handed: tuple[int, int], *, again: bool) -> subprocess.Popen[bytes]:
    word = "again" if again else "first"
    if again:
        arguments = [argument for argument in arguments if argument != "--open"]
    return subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-m", "unwritten", *arguments],
        env={**os.environ, VARIABLE: f"{handed[0]} {handed[1]} {word}"},
        pass_fds=handed,
        process_group=0,  # a Ctrl-C in the terminal is for the watching process, which passes it on once
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()
