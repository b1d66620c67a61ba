"""``unwritten copy``, ``import`` and ``export``: whole worlds, as database files and as static sites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..export.static_site import export_site
from ..export.world_file import copy_world
from ..export.world_import import ImportReport, import_world
from ..storage.location import Location, parse_location
from .flags import app_options, choose_app, given_settings

F = TypeVar("F", bound=Callable[..., Any])


def world_options(function: F) -> F:
    """Add ``--app``, ``--demo`` and ``--database``, which choose the database of a world."""
    function = click.option("--database", metavar="DATABASE", help="A database, instead of an app's.")(function)
    return app_options(function)


def world_path(target: str | None, demo: str | None, database: str | None) -> Location:
    """Return the database that the options name. It need not exist.

    Raises:
        click.UsageError: If both an app and a demo are given.
        NotAnApp: If there is no such app.
    """
    if database is None or target or demo:
        return choose_app(target, demo, given_settings({"database": database})).database
    return parse_location(database)


@click.command("copy")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--public", is_flag=True, help="Leave out the secret that signs links, and the forms that were sent.")
@world_options
def copy(file: Path, public: bool, **world: Any) -> None:
    """Copy a world to FILE: a consistent snapshot, while the world is read and written.

    \b
    unwritten copy backup.db --demo wiki
    unwritten run app.py --database backup.db
    """
    source = world_path(**world)
    copy_world(source, file, public=public)
    click.echo(f"Copied {source} to {file} ({file.stat().st_size / 1e6:.1f} MB).")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--theirs", is_flag=True, help="Where both worlds have a page, add theirs as a new version.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@world_options
def import_(file: Path, theirs: bool, dry_run: bool, **world: Any) -> None:
    """Import the pages of another world's FILE, with their versions, links and values.

    A page that both worlds have is left unchanged, unless --theirs is given. The file is untrusted: invalid pages are
    refused.

    \b
    unwritten import friend.db --demo wiki --dry-run
    unwritten import friend.db --app app.py --theirs
    """
    ours = world_path(**world)
    for line in _describe(import_world(ours, file, theirs=theirs, dry_run=dry_run), ours, dry_run):
        click.echo(line)


def _describe(report: ImportReport, path: Location, dry_run: bool) -> list[str]:
    name = f" of {report.name}" if report.name else ""
    lines = [f"{'Would import' if dry_run else 'Imported'} {_pages(len(report.new))}{name} into {path}."]
    if report.same:
        lines.append(f"Already here: {_pages(len(report.same))} with the same text.")
    if report.aliases:
        lines.append(f"{'Would add' if dry_run else 'Added'} {len(report.aliases):,} other names of pages.")
    if report.theirs:
        verb = "Would add" if dry_run else "Added"
        lines.append(f"{verb} a new version of {_pages(len(report.theirs))} that had another text here.")
    if report.ours:
        shown = ", ".join(report.ours[:3]) + (", …" if len(report.ours) > 3 else "")
        lines.append(
            f"Left unchanged: {_pages(len(report.ours))} with another text here: {shown}. To add theirs: --theirs"
        )
    if report.refused:
        lines.append(f"Refused: {_pages(len(report.refused))} with invalid contents.")
        lines += [f"  {key}: {reason}" for key, reason in report.refused[:10]]
        lines += [f"  and {len(report.refused) - 10:,} more"] if len(report.refused) > 10 else []
    if report.links:
        verb = "link that leads" if report.links == 1 else "links that lead"
        lines.append(f"Left out: {report.links:,} {verb} to no page of an app.")
    if report.tables:
        lines.append(f"Tables are not imported: {', '.join(report.tables)}.")
    return lines


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace an earlier export.")
@click.option("--world", is_flag=True, help="Add a copy of the database, without its secret and protected pages.")
@click.option("--database", metavar="DATABASE", help="A database, instead of the app's; the app renders its pages.")
@app_options
def export(
    folder: Path, replace: bool, world: bool, target: str | None, demo: str | None, database: str | None
) -> None:
    """Export every stored page into DIR, as a static site for any file server.

    No model is loaded and no page is generated. Links to unwritten pages lead to a page that says so.

    \b
    unwritten export site --demo wiki
    python -m http.server --directory site
    """
    app = choose_app(target, demo, given_settings({"database": database}))
    report = export_site(app, folder, replace=replace, world=world)
    more = f", and {report.more:,} more," if report.more else ""
    click.echo(f"Exported {_pages(report.pages)}{more} of {app.name} to {report.folder}.")
    if report.left_out:
        click.echo(
            f"Left out: {_pages(len(report.left_out))}, such as {report.left_out[0]}. Not everyone may read them, or "
            "the app has changed since they were written: open them once in the running app.",
            err=True,
        )


def _pages(count: int) -> str:
    return f"{count:,} page{'' if count == 1 else 's'}"
