"""Options that several commands share: one flag for each setting, and the choice of the app."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import platformdirs

from ..app.application import App
from ..core.settings import BY_NAME, SETTINGS, Setting
from .loading import find_demo, load_app

F = TypeVar("F", bound=Callable[..., Any])

_METAVARS = {int: "NUMBER", float: "NUMBER", str: "TEXT"}


def settings_options(*excluded: str) -> Callable[[F], F]:
    """Add a flag for every setting, except those that make no sense for a command."""

    def decorate(function: F) -> F:
        for setting in reversed(SETTINGS):
            if setting.name not in excluded:
                function = _option(setting)(function)
        return function

    return decorate


def _option(setting: Setting) -> Callable[[F], F]:
    default = f"{setting.default:g}" if isinstance(setting.default, float) else str(setting.default)
    note = f"default: {default}; " if default and not isinstance(setting.default, bool) else ""
    text = f"{setting.help}  [{note}env: {setting.variable}]"
    if isinstance(setting.default, bool):
        flag = f"{setting.flag}/--no-{setting.flag[2:]}"
        return click.option(flag, setting.name, default=None, help=text)
    # Values are converted with the settings, so that an invalid one gets the same message from every source.
    return click.option(setting.flag, setting.name, metavar=_METAVARS[type(setting.default)], help=text)


def given_settings(options: Mapping[str, object]) -> dict[str, object]:
    """Return the settings among a command's options that were given on the command line."""
    return {name: value for name, value in options.items() if name in BY_NAME and value is not None}


def to_arguments(settings: Mapping[str, object]) -> list[str]:
    """Return settings as command-line arguments."""
    arguments = []
    for name, value in settings.items():
        flag = BY_NAME[name].flag
        if isinstance(value, bool):
            arguments.append(flag if value else f"--no-{flag[2:]}")
        else:
            arguments.append(f"{flag}={value}")
    return arguments


def app_options(function: F) -> F:
    """Add ``--app`` and ``--demo``, which choose the app."""
    function = click.option("--demo", metavar="NAME", help="A demo, such as wiki.")(function)
    return click.option(
        "--app",
        "target",
        metavar="APP",
        help="An app: a file, or module:variable.  [default: app.py, if this folder has one]",
    )(function)


def choose_app(target: str | None, demo: str | None, settings: Mapping[str, object]) -> App:
    """Load and configure the app that ``--app`` and ``--demo`` name.

    With neither, it is ``app.py`` of this folder, or else the demo wiki; stderr says so.

    Raises:
        click.UsageError: If both are given.
        NotAnApp: If there is no such app.
    """
    if target and demo:
        raise click.UsageError("Give --app or --demo, not both.")
    if not target and not demo:
        if Path("app.py").is_file():
            target = "app.py"
        else:
            demo = "wiki"
            click.echo("There is no app.py in this folder: using the demo wiki.", err=True)
    if demo:
        return load_demo(demo, settings)
    app = load_app(str(target))
    app.configure(settings)
    return app


def load_demo(name: str, settings: Mapping[str, object]) -> App:
    """Load and configure a demo. By default its database is in the user's data folder.

    Raises:
        NotAnApp: If there is no demo of that name.
    """
    app = load_app(str(find_demo(name)))
    if "database" not in settings and BY_NAME["database"].variable not in os.environ:
        settings = {**settings, "database": str(data_folder() / f"{name}.db")}
    app.configure(settings)
    return app


def data_folder() -> Path:
    """Return the folder of the demos' databases. It need not exist."""
    return platformdirs.user_data_path("unwritten", appauthor=False)
