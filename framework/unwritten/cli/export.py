"""``unwritten export``: the pages of a world as a static site."""

from __future__ import annotations

from pathlib import Path

import click

from ..export.static_site import export_site
from .flags import app_options, chosen_app, given


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--replace", "replacing", is_flag=True, help="Put it in the place of a former export.")
@click.option("--world", is_flag=True, help="Put a copy of the database beside the pages, without its secret.")
@click.option("--database", metavar="FILE", help="The pages of this database, drawn by the app.")
@app_options
def command(
    folder: Path, replacing: bool, world: bool, target: str | None, demo: str | None, database: str | None
) -> None:
    """Write every page into DIR, as a static site that any file server can serve. No model is loaded, and no page is
    written on the way: links to unwritten pages lead to one that says so.

    \b
    unwritten export site --demo wiki
    python -m http.server --directory site
    """
    app = chosen_app(target, demo, given({"database": database}))
    site = export_site(app, folder, replacing=replacing, world=world)
    more = f", and {site.more:,} more," if site.more else ""
    click.echo(f"Wrote {site.pages:,} page{'' if site.pages == 1 else 's'}{more} of {app.name} into {site.folder}.")
    if site.changed:
        click.echo(
            f"{len(site.changed):,} were left out: the app has changed since they were written, such as "
            f"{site.changed[0]}. Open them once where the world runs.",
            err=True,
        )
