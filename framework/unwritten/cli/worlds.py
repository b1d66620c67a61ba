"""Which world a command is about: the file of an app, or any file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .flags import app_options, chosen_app, given

_Function = TypeVar("_Function", bound=Callable[..., Any])


def world_options(function: _Function) -> _Function:
    """Add ``--app``, ``--demo`` and ``--database``."""
    function = click.option("--database", metavar="FILE", help="A database, instead of an app's.")(function)
    return app_options(function)


def world_path(target: str | None, demo: str | None, database: str | None) -> Path:
    """The file that they mean. It need not exist.

    Raises:
        click.UsageError: if both an app and a demo are given.
        NotAnApp: if there is no such app.
    """
    if database is None or target or demo:
        return chosen_app(target, demo, given({"database": database})).database
    return Path(database)
