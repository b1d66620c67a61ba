"""``unwritten run``: serve an app while it is being written."""

from __future__ import annotations

import socket

import click

from .flags import as_arguments, given, settings_options
from .loading import load_app
from .reload import inherited, keep_running, watched_folders
from .server import bind, serve


@click.command("run")
@click.argument("target", metavar="APP")
@click.option(
    "--reload/--no-reload",
    "reloading",
    default=True,
    help="Follow changes of the files, and show the developer's tools to browsers on this machine: new templates and "
    "static files in open pages, everything else by starting again, the model included.  [default: reload]",
)
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
@settings_options()
def command(target: str, reloading: bool, open_browser: bool, **options: object) -> None:
    """Serve APP: a file such as app.py, or module:variable.

    \b
    unwritten run app.py
    unwritten run app.py:site --port 8001 --open
    """
    flags = given(options)
    handed = inherited()
    if handed is not None:
        with handed.reporting():
            app = load_app(target)
            app.configure(flags)
            app.devtools.local = True
            handed.follow(app.devtools.refresh_soon)
            serve(app, socket.socket(fileno=handed.descriptor), open_browser=open_browser, handed=handed)
        return
    app = load_app(target)
    app.configure(flags)
    sock = bind(str(app.settings.host), int(app.settings.port))
    if not reloading:
        serve(app, sock, open_browser=open_browser)
        return
    # This process keeps the address, so that a browser waits through a restart; another one serves.
    arguments = ["run", target, "--no-reload", *(["--open"] if open_browser else []), *as_arguments(flags)]
    keep_running(arguments, sock, watched_folders(app, target), app.folders)
