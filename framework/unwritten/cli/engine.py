"""``unwritten engine``: serve an engine to several apps and processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket

import click

from unwritten_engine import open_engine
from unwritten_engine.cleaning import CleanEngine
from unwritten_engine.remote.protocol import TOKEN_VARIABLE
from unwritten_engine.remote.server import EngineServer

from ..core.engine_options import engine_options
from ..core.errors import BadSetting
from ..core.settings import SETTINGS, load_settings
from ..security.client_address import is_loopback
from .child_process import SupervisorLink, supervisor_link, watch_lifeline
from .flags import given_settings, settings_options
from .server import LoadingProgress, bind, describe_model, url_of

DEFAULT_PORT = 8090
"""The port of an engine server."""

_USED = ("engine", "model", "engine_options", "drain_seconds")


@click.command("engine")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 accepts other machines."
)
@click.option(
    "--port", type=int, default=DEFAULT_PORT, show_default=True, help="Port to listen on; 0 for any free port."
)
@settings_options(*(setting.name for setting in SETTINGS if setting.name not in _USED))
def engine(host: str, port: int, **options: object) -> None:
    """Load an engine once, and serve it to several apps and processes.

    Apps use it with --engine ws://HOST:PORT. Beyond this machine it requires a token, which the server and its apps
    read from the environment variable UNWRITTEN_ENGINE_TOKEN.

    \b
    unwritten engine --engine path/to/model.gguf --port 8090
    unwritten run app.py --engine ws://127.0.0.1:8090
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = load_settings(flags=given_settings(options))
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token and not is_loopback(host) and host != "localhost":
        raise BadSetting(
            f"Other machines can reach {host}, so a token is needed. Set the environment variable "
            f"{TOKEN_VARIABLE} here and for the apps that use this "
            "server, for example to the output of: openssl rand -hex 32"
        )
    link = supervisor_link()
    with bind(host, port) if link is None else socket.socket(fileno=link.listener) as sock:
        with LoadingProgress() as progress:
            opened = open_engine(settings.engine, progress=progress, **engine_options(settings))
        asyncio.run(_serve(opened, sock, token, settings.drain_seconds, link))


async def _serve(
    opened: CleanEngine, sock: socket.socket, token: str, drain_seconds: float, link: SupervisorLink | None
) -> None:
    """Serve until a signal, or until the supervisor's lifeline ends."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def stop(number: int) -> None:
        if link is not None:
            return  # the workers stop first, and then the lifeline ends
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()
        click.echo("\nStopping. Ctrl-C again stops at once.", err=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    address = url_of(sock).replace("http://", "ws://", 1)
    server = EngineServer(opened, token)
    try:
        await server.start(sock)
        if link is not None:
            watch_lifeline(link.lifeline, lambda: loop.call_soon_threadsafe(stopping.set))
            link.report_started()
        else:
            about = opened.about
            click.echo(f"{click.style(describe_model(about), bold=True)}: {' '.join(about.reasons)}")
            click.echo(f"\n  {click.style(address, bold=True, fg='cyan')}    (Ctrl-C stops)\n")
        await stopping.wait()
        await server.close(drain_seconds)
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await opened.close()
