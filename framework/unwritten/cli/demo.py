"""``unwritten demo``: run one of the demos that come with Unwritten."""

from __future__ import annotations

import shutil
import textwrap

import click

from .demos import all_demos
from .flags import demo_app, given, settings_options
from .server import bind, serve


@click.command("demo")
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="List the demos and stop.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
@settings_options()
def command(name: str | None, listing: bool, open_browser: bool, **options: object) -> None:
    """Run the demo NAME, or list the demos. The pages of a demo are kept in your data folder.

    \b
    unwritten demo
    unwritten demo wiki --port 8000 --open
    """
    if listing or name is None:
        _list()
        return
    app = demo_app(name, given(options))
    sock = bind(str(app.settings.host), int(app.settings.port))
    serve(app, sock, open_browser=open_browser)


def _list() -> None:
    """Every demo with its sentence, and below it what to type."""
    width = min(shutil.get_terminal_size((80, 24)).columns, 100)
    for name, sentence in all_demos().items():
        click.echo(click.style(f"unwritten demo {name}", bold=True))
        click.echo(textwrap.fill(sentence, width, initial_indent="  ", subsequent_indent="  "))
        click.echo()
    click.echo("Begin your own from one of them:  unwritten new NAME --from wiki")
