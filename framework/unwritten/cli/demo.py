"""``unwritten demo``: run one of the demos that come with Unwritten."""

from __future__ import annotations

import click

from .demos import all_demos
from .flags import demo_app, given, settings_options
from .serving import bind, serve


@click.command("demo")
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="List the demos and stop.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
@settings_options()
def command(name: str | None, listing: bool, open_browser: bool, **options: object) -> None:
    """Run the demo NAME. Its pages are kept in your data folder.

    \b
    unwritten demo wiki --port 8000 --open
    unwritten demo --list
    """
    if listing or name is None:
        _list()
        return
    app = demo_app(name, given(options))
    sock = bind(str(app.settings.host), int(app.settings.port))
    serve(app, sock, open_browser=open_browser)


def _list() -> None:
    for name, sentence in all_demos().items():
        click.echo(f"{name:10} {sentence}")
    click.echo("\nRun one:  unwritten demo wiki")
