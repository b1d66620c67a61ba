"""``unwritten import``: bring in the pages of another world's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..export.world_file import ImportReport, import_world
from .worlds import world_options, world_path


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--theirs", is_flag=True, help="Where both have a page, add theirs as a new version.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@world_options
def command(file: Path, theirs: bool, dry_run: bool, **which: Any) -> None:
    """Bring the pages of another world's FILE into this one, with their versions, links and values.

    A page that both have stays as it is here, unless --theirs is given.

    \b
    unwritten import friend.db --demo wiki --dry-run
    unwritten import friend.db --app app.py --theirs
    """
    ours = world_path(**which)
    found = import_world(ours, file, theirs=theirs, dry_run=dry_run)
    for line in _told(found, ours, dry_run):
        click.echo(line)


def _told(found: ImportReport, path: Path, dry_run: bool) -> list[str]:
    name = f" of {found.name}" if found.name else ""
    lines = [f"{'Would bring' if dry_run else 'Brought'} {_pages(found.new)}{name} into {path}."]
    if found.same:
        lines.append(f"{_pages(found.same)} are the same here and there.")
    if found.theirs:
        lines.append(f"{_pages(found.theirs)} {'would have' if dry_run else 'have'} theirs as a new version.")
    if found.ours:
        shown = ", ".join(found.ours[:3]) + (", …" if len(found.ours) > 3 else "")
        lines.append(f"{_pages(found.ours)} say something else here, and stay so: {shown}. To take theirs: --theirs")
    if found.tables:
        lines.append(f"Its tables of state are not brought along: {', '.join(found.tables)}.")
    return lines


def _pages(keys: list[str]) -> str:
    return f"{len(keys):,} page{'' if len(keys) == 1 else 's'}"
