"""``unwritten copy``: a world is one file, and can be copied while it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..export.world_file import copy_world
from .worlds import world_options, world_path


@click.command("copy")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--public", is_flag=True, help="Leave out the secret that links are signed with, and sent forms.")
@world_options
def command(file: Path, public: bool, **which: Any) -> None:
    """Copy a world to FILE, whole and as it is at one moment, while it is read and written.

    \b
    unwritten copy backup.db --demo wiki
    unwritten run app.py --database backup.db
    """
    source = world_path(**which)
    copy_world(source, file, public=public)
    click.echo(f"Copied {source} to {file} ({file.stat().st_size / 1e6:.1f} MB).")
