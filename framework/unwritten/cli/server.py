"""Serve an app: get it ready, say what it runs on, and hand it to uvicorn."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sys
import textwrap
import webbrowser
from types import FrameType, TracebackType

import click
import uvicorn
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from unwritten_engine.engine import About

from ..app.application import App
from ..core.errors import BadSetting
from .reload import InheritedSocket

SHUTDOWN_SECONDS = 3
"""How long open connections are waited for when the server stops."""


LARGEST_MESSAGE = 64 * 1024
"""Bytes of one message that a browser may send; they send page keys and frame numbers."""


def bind(host: str, port: int) -> socket.socket:
    """Take an address before anything slow is done.

    Raises:
        BadSetting: if it cannot be had; the message says what to type.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named on purpose: asyncio turns Nagle's algorithm off only for sockets that say they are
    # TCP, and with it on every answer on a kept connection is 40 ms late.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if hasattr(socket, "SO_REUSEPORT"):  # on Windows SO_REUSEADDR would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except (OSError, OverflowError) as error:
        sock.close()
        raise BadSetting(_why_not(host, port, error)) from error
    return sock


def _why_not(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OverflowError):
        return f"The port is {port}, and ports end at 65535. Try --port 8000"
    if isinstance(error, PermissionError):
        return f"Port {port} needs more rights than you have. Try --port 8000"
    if isinstance(error, socket.gaierror):
        return f"The host {host!r} is not an address of this machine. Try --host 127.0.0.1"
    if _is_free(host, 0):
        return f"Port {port} is taken by another program. Try --port {_next_free(host, port)}"
    return f"The address {host!r} cannot be listened on ({error}). Try --host 127.0.0.1"


def _next_free(host: str, port: int) -> int:
    return next((candidate for candidate in range(port + 1, port + 50) if _is_free(host, candidate)), 0)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        try:
            sock.bind((host, port))
        except (OSError, OverflowError):
            return False
        return True


def address(sock: socket.socket) -> str:
    """The URL to type for a socket that listens."""
    host, port = sock.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 (compared, not bound)
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def prepare(app: App) -> None:
    """Open the model and the database, showing progress, so that errors come before the server starts."""
    with LoadingProgress() as loading:
        app.prepare(loading)


def print_summary(app: App) -> None:
    """Say in a few lines what the app runs on, on whose terms, and where its pages are."""
    about = app.engine.about
    click.echo(click.style(app.name, bold=True))
    rows = {"model": model_line(about), "why": " ".join(about.reasons), "licence": about.licence}
    rows["pages"] = f"{app.store.path} ({_pages(app.store.count())})"
    for name, text in rows.items():
        if text:
            width = max(shutil.get_terminal_size().columns, 40)
            lines = textwrap.wrap(text, width - 11, break_long_words=False, break_on_hyphens=False)
            click.echo(f"  {click.style(f'{name:8}', dim=True)} " + f"\n{' ' * 11}".join(lines))


def model_line(about: About) -> str:
    """The model in one line: its name, how its weights are stored, and where it runs."""
    stored = f" ({about.quantization})" if about.quantization and about.quantization not in about.model else ""
    return f"{about.model}{stored} on {about.device}"


def _pages(count: int) -> str:
    return "empty yet" if count == 0 else f"{count:,} page{'' if count == 1 else 's'} written"


def invite(url: str, host: str, closed: bool = False) -> None:
    """Say where to click."""
    click.echo(f"\n  {click.style(url, bold=True, fg='cyan')}    (Ctrl-C stops)")
    if host in {"0.0.0.0", "::"}:  # noqa: S104 (compared, not bound)
        click.echo("  Other machines in your network reach it too, under this machine's own address.")
    if closed:
        click.echo("  Only links that a page offers cause writing, within budgets. For any address: --signed-links off")
    click.echo()


def serve(app: App, sock: socket.socket, *, open_browser: bool = False, handed: InheritedSocket | None = None) -> None:
    """Serve until Ctrl-C. ``handed`` is what a process that watches the files handed to this one."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    prepare(app)
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=LARGEST_MESSAGE,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
        proxy_headers=False,  # which of them count is for the setting trusted_proxies to say
    )
    server = _Server(config, app, url=address(sock), open_browser=open_browser, handed=handed)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[sock])
        if server.started and server.should_exit and handed is None:
            click.echo("Stopped. The pages are kept.")
    finally:
        sock.close()


class _Server(uvicorn.Server):
    """Says where to click when it is really there."""

    def __init__(
        self, config: uvicorn.Config, app: App, *, url: str, open_browser: bool, handed: InheritedSocket | None
    ) -> None:
        super().__init__(config)
        self._app, self._url, self._host, self._open_browser = app, url, str(app.settings.host), open_browser
        self._watched, self._again = handed is not None, handed is not None and handed.again

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._app.check()  # raises what uvicorn would only log
        except BaseException:
            await self._app.close()
            raise
        if not self._again:
            print_summary(self._app)
        await super().startup(sockets)
        if not self.started:
            return
        if self._again:
            click.echo(f"Ready again at {self._url}")
        else:
            invite(self._url, self._host, self._app.site.signed_links.required)
        if self._open_browser:
            webbrowser.open(self._url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A model in the middle of a long prompt may take a while to let go. Nobody has to wait for it: pages are
        # kept in transactions, so that leaving at once loses no page that is whole.
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)
        # This runs in the middle of whatever was running, of a line that is being printed too: then printing fails,
        # and the failure would be caught by who knows whom. So the words come last, and may be lost.
        if not self._watched:
            with contextlib.suppress(Exception):
                click.echo("\nStopping. Ctrl-C again stops at once.", err=True)


class LoadingProgress:
    """A progress bar in a terminal, plain lines elsewhere. Call it with a share from 0 to 1 and words."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._said = ""
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("Getting ready", total=1.0)

    def __enter__(self) -> LoadingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, share: float, words: str) -> None:
        """Show how far the work is."""
        if self._bar:
            self._bar.update(self._task, completed=share, description=words)
        elif words != self._said:
            click.echo(words, err=True)
        self._said = words
