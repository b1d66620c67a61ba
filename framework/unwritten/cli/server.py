"""Serve an app with uvicorn: open the model first, print what the app runs on, then listen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import textwrap
import time
import webbrowser
from types import FrameType, TracebackType

import click
import uvicorn
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from unwritten_engine.engine import About
from unwritten_engine.named_models import EMBEDDED, this_machine

from ..app.application import App
from ..core.errors import BadSetting
from ..core.process import raise_max_descriptors
from ..security.trusted_proxies import trusted_hosts
from .child_process import SupervisorLink, watch_lifeline
from .connections import ConnectionLimits
from .log_limits import limited_repeats
from .models import best_model
from .reload import ParentProcess

SHUTDOWN_SECONDS = 3
"""Seconds for which a stopping server waits for open connections, after the pages are finished."""

FIRST_REQUEST_SECONDS = 1.0
"""Seconds for which a stopping server waits for the first request of a connection that it has just accepted."""

BACKLOG = 2048
"""Connections that the system may hold until the server accepts them."""

ACCEPT_BATCH = 64
"""Connections that are accepted at once. If the process may open no more files, asyncio logs an error for each."""

SWITCH_SECONDS = 0.001
"""Seconds after which a thread that formats a long text lets the event loop run. Python's default is 0.005."""

MAX_MESSAGE_BYTES = 64 * 1024
"""The largest WebSocket message of a browser. Browsers send page keys and frame numbers."""

_NO_CYCLE = object()

log = logging.getLogger("unwritten")


# -- addresses --------------------------------------------------------------------------------------------------------


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, before anything slow is done.

    Raises:
        BadSetting: If the address cannot be used. The message says what to type.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # IPPROTO_TCP is explicit because asyncio disables Nagle's algorithm only for sockets with that protocol. Without it
    # every response on a kept-alive connection is 40 ms late.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if hasattr(socket, "SO_REUSEPORT"):  # on Windows SO_REUSEADDR would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise BadSetting(_explain(host, port, error)) from error
    return sock


def _explain(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OverflowError):
        return f"The port is {port}, but the largest port is 65535. Try --port 8000"
    if isinstance(error, PermissionError):
        return f"You have no permission to listen on port {port}. Try --port 8000"
    if isinstance(error, socket.gaierror):
        return f"The host {host!r} is not an address of this machine. Try --host 127.0.0.1"
    if _is_free(host, 0):
        return f"Port {port} is in use by another program. Try --port {_next_free(host, port)}"
    return f"The address {host!r} cannot be used ({error}). Try --host 127.0.0.1"


def _next_free(host: str, port: int) -> int:
    return next((candidate for candidate in range(port + 1, port + 50) if _is_free(host, candidate)), 0)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        try:
            sock.bind((host, port))
        except (OSError, OverflowError):
            return False
        return True


def url_of(sock: socket.socket) -> str:
    """Return the URL under which this machine reaches a listening socket."""
    host, port = sock.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


# -- what is printed --------------------------------------------------------------------------------------------------


def prepare(app: App, *, is_server: bool = False, shows_progress: bool = True) -> None:
    """Open the database and the model, with a progress bar, so that errors appear before the server starts."""
    if not shows_progress:
        app.prepare(is_server=is_server)
        return
    with LoadingProgress() as progress:
        app.prepare(progress, is_server=is_server)


def print_summary(app: App) -> None:
    """Print the app's name, its model with the reasons and the licence, its database, and a better model that fits."""
    about = app.engine.about
    click.echo(click.style(app.name, bold=True))
    count = app.store.count()
    pages = "no pages yet" if count == 0 else f"{count:,} page{'' if count == 1 else 's'}"
    rows = {
        "model": describe_model(about),
        "why": " ".join(about.reasons),
        "licence": about.licence,
        "better": best_model(this_machine()) if about.engine == EMBEDDED else "",
        "pages": f"{app.site.store.database.name} ({pages})",
    }
    for name, text in rows.items():
        if text:
            width = max(shutil.get_terminal_size().columns, 40)
            lines = textwrap.wrap(text, width - 11, break_long_words=False, break_on_hyphens=False)
            click.echo(f"  {click.style(f'{name:8}', dim=True)} " + f"\n{' ' * 11}".join(lines))


def describe_model(about: About) -> str:
    """Return the model in one line: its name, its quantization and its device."""
    quantization = f" ({about.quantization})" if about.quantization and about.quantization not in about.model else ""
    return f"{about.model}{quantization} on {about.device}"


def print_url(url: str, host: str, signed_links: bool = False) -> None:
    """Print the URL for the owner, and who can reach it."""
    click.echo(f"\n  {click.style(url, bold=True, fg='cyan')}    (Ctrl-C stops)")
    click.echo("  This URL makes your browser the owner's. Give others the part before the question mark.")
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        click.echo("  Other machines in your network can reach it at this machine's IP address.")
    if signed_links:
        click.echo(
            "  Pages are generated only for links that a page displayed, within budgets. "
            "For any URL: --signed-links off"
        )
    click.echo()


class LoadingProgress:
    """A progress bar in a terminal, plain lines elsewhere. Call it with a fraction from 0 to 1 and a description."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._printed = ""
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("Starting", total=1.0)

    def __enter__(self) -> LoadingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, fraction: float, description: str) -> None:
        """Show the progress."""
        if self._bar:
            self._bar.update(self._task, completed=fraction, description=description)
        elif description != self._printed:
            click.echo(description, err=True)
        self._printed = description


# -- serving ----------------------------------------------------------------------------------------------------------


def serve(
    app: App,
    sock: socket.socket,
    *,
    open_browser: bool = False,
    parent: ParentProcess | None = None,
    supervisor: SupervisorLink | None = None,
) -> None:
    """Serve until Ctrl-C.

    Args:
        app: The app, configured.
        sock: The listening socket.
        open_browser: True opens the app in the browser.
        parent: Set if another process watches the files and restarts this one.
        supervisor: Set if this process is one of several workers.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    raise_max_descriptors()
    sys.setswitchinterval(SWITCH_SECONDS)
    prepare(app, is_server=True, shows_progress=supervisor is None or supervisor.announces)
    limits = ConnectionLimits(app.site.metrics, exempt=trusted_hosts(app.settings.trusted_proxies))
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=MAX_MESSAGE_BYTES,
        **limits.uvicorn_options(),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        # asyncio accepts this many connections at once. A worker accepts one, and leaves the next to the others.
        backlog=ACCEPT_BATCH if supervisor is None else 1,
        server_header=False,
        root_path=app.settings.root_path.rstrip("/"),
        proxy_headers=False,  # the setting trusted_proxies decides which of them count
    )
    server = _Server(config, app, url=url_of(sock), open_browser=open_browser, parent=parent, supervisor=supervisor)
    if supervisor is not None:
        watch_lifeline(supervisor.lifeline, lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with limited_repeats("", "uvicorn"), contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[sock])
        if server.started and server.should_exit and parent is None and supervisor is None:
            click.echo("Stopped. All finished pages are stored.")
    finally:
        sock.close()


class _Server(uvicorn.Server):
    """A uvicorn server that prints its URL when it accepts connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: App,
        *,
        url: str,
        open_browser: bool,
        parent: ParentProcess | None,
        supervisor: SupervisorLink | None,
    ) -> None:
        super().__init__(config)
        self._app, self._url, self._open_browser, self._supervisor = app, url, open_browser, supervisor
        self._has_parent, self._has_restarted = parent is not None, parent is not None and parent.restarted

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._app.check()  # in the lifespan, uvicorn would only log what it raises
        except BaseException:
            await self._app.close()
            raise
        if not self._has_restarted and (self._supervisor is None or self._supervisor.announces):
            print_summary(self._app)
        await super().startup(sockets)
        if not self.started:
            return
        for sock in sockets or ():
            sock.listen(BACKLOG)  # asyncio has set it to the number of connections that are accepted at once
        if self._supervisor is not None:
            self._supervisor.report_started(signed_links=self._app.site.signed_links.required)
        elif self._has_restarted:
            click.echo(f"Ready again at {self._url}")
        else:
            print_url(self._app.owner.url(self._url), self._app.settings.host, self._app.site.signed_links.required)
        if self._open_browser:
            webbrowser.open(self._app.owner.url(self._url))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, finish running pages, and then close the open connections."""
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        site = self._app.running_site
        if site is not None and not self._has_parent:  # a restart after a change of files does not wait
            draining = asyncio.create_task(site.drain(), name="finishing pages")
            accepted_until = time.monotonic() + FIRST_REQUEST_SECONDS
            while self._close_idle_connections(accepted_until) or not draining.done():  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # live sockets send their last messages in this time
            if draining.exception():
                log.error("Running pages could not be finished", exc_info=draining.exception())
        await super().shutdown(sockets)

    def _close_idle_connections(self, accepted_until: float) -> bool:
        """Close the connections of plain HTTP that have no request, and let the others close after their response.

        Live sockets stay open: their pages are being finished.

        Args:
            accepted_until: Until then, connections without a first request stay open. Their client cannot know that
                the server stops, and its request may be on the way.

        Returns:
            True if there are such connections.
        """
        is_waiting = False
        for connection in list(self.server_state.connections):
            # Only protocols of plain HTTP have a cycle of request and response. It is None before the first request.
            cycle = getattr(connection, "cycle", _NO_CYCLE)
            if cycle is _NO_CYCLE or connection.transport.is_closing():
                continue
            if cycle is None and time.monotonic() < accepted_until:
                is_waiting = True
            else:
                connection.shutdown()
        return is_waiting

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A model may need seconds to stop in the middle of a long prompt. A second Ctrl-C does not wait for it: pages
        # are stored in transactions, so no finished page is lost.
        if self.should_exit and self._supervisor is not None:
            return  # a service manager may signal all processes, and the supervisor this one again
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)
        # A signal handler may run while a line is being printed. Then printing fails, so it comes last.
        if not self._has_parent and self._supervisor is None:
            with contextlib.suppress(Exception):
                click.echo("\nStopping. Ctrl-C again stops at once.", err=True)
