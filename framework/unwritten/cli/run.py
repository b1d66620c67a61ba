"""``unwritten run`` and ``unwritten demo``: serve an app."""

from __future__ import annotations

import os
import shutil
import socket
import textwrap

import click

from ..core.settings import OWNER_VARIABLE
from .child_process import supervisor_link
from .flags import given_settings, load_demo, settings_options, to_arguments
from .loading import all_demos, load_app
from .reload import parent_process, serve_with_reload, watched_folders
from .server import bind, serve
from .workers import serve_with_workers


@click.command("run")
@click.argument("target", metavar="APP")
@click.option(
    "--reload/--no-reload",
    "reloads",
    default=None,
    help="Follow changes of the files that the app reads: update open pages when templates and static files change, "
    "restart when others do, the model included. Show developer tools to the owner.  [default: reload]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Serve with this many processes, which share one engine, and need --broker. Nothing is reloaded.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
@settings_options()
def run(target: str, reloads: bool | None, workers: int | None, open_browser: bool, **options: object) -> None:
    """Serve APP: a file such as app.py, or module:variable.

    \b
    unwritten run app.py
    unwritten run app.py:site --port 8001 --open
    unwritten run app.py --workers 4 --broker redis://127.0.0.1
    """
    settings = given_settings(options)
    if workers is not None and reloads:
        raise click.UsageError("Give --reload or --workers, not both. Workers are restarted by SIGHUP.")
    parent = parent_process()
    if parent is not None:
        with parent.reporting_errors():
            app = load_app(target)
            app.configure(settings)
            app.devtools.local = True
            parent.follow(app)
            serve(app, socket.socket(fileno=parent.listener), open_browser=open_browser, parent=parent)
        return
    app = load_app(target)
    app.configure(settings)
    supervisor = supervisor_link()
    if supervisor is not None:
        serve(app, socket.socket(fileno=supervisor.listener), supervisor=supervisor)
        return
    if workers is not None and workers > 1:
        serve_with_workers(target, app, settings, workers, open_browser=open_browser)
        return
    sock = bind(app.settings.host, app.settings.port)
    if reloads is False or workers is not None:
        serve(app, sock, open_browser=open_browser)
        return
    os.environ[OWNER_VARIABLE] = app.owner.token  # the owner stays the same when the child restarts
    # This process keeps the listening socket, so that browsers wait during a restart. A child process serves.
    arguments = ["run", target, "--no-reload", *(["--open"] if open_browser else []), *to_arguments(settings)]
    serve_with_reload(arguments, sock, watched_folders(app, target), app.owner)


@click.command("demo")
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="List the demos and stop.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
@settings_options()
def demo(name: str | None, listing: bool, open_browser: bool, **options: object) -> None:
    """Run the demo NAME, or list the demos. The pages of a demo are stored in your data folder.

    \b
    unwritten demo
    unwritten demo wiki --port 8000 --open
    """
    if listing or name is None:
        _list_demos()
        return
    app = load_demo(name, given_settings(options))
    sock = bind(app.settings.host, app.settings.port)
    serve(app, sock, open_browser=open_browser)


def _list_demos() -> None:
    width = min(shutil.get_terminal_size((80, 24)).columns, 100)
    for name, sentence in all_demos().items():
        click.echo(click.style(f"unwritten demo {name}", bold=True))
        click.echo(textwrap.fill(sentence, width, initial_indent="  ", subsequent_indent="  "))
        click.echo()
    click.echo("Start your own app from one of them:  unwritten new NAME --from wiki")
