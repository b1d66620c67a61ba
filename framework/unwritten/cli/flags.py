"""Options that several commands share: every setting as a flag, and which app is meant."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import platformdirs

from ..app.application import App
from ..core.settings import BY_NAME, REMOVED, RENAMED, SETTINGS, Setting
from . import demos
from .loading import load_app

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FORMER = (*RENAMED, *REMOVED)
"""Settings of earlier versions. Their flags are accepted, so that the error can say what became of them."""

_METAVARS = {int: "NUMBER", float: "NUMBER", str: "TEXT"}


def settings_options(*left_out: str) -> Callable[[_Function], _Function]:
    """Add a flag for every setting of the table, except those that make no sense for a command."""

    def decorate(function: _Function) -> _Function:
        for setting in reversed(SETTINGS):
            if setting.name not in left_out:
                function = _option(setting)(function)
        for name in _FORMER:  # reading the settings reports what became of them
            function = click.option(f"--{name.replace('_', '-')}", name, hidden=True)(function)
        return function

    return decorate


def _option(setting: Setting) -> Callable[[_Function], _Function]:
    default = f"{setting.default:g}" if isinstance(setting.default, float) else str(setting.default)
    note = f"default: {default}; " if default and not isinstance(setting.default, bool) else ""
    text = f"{setting.help}  [{note}env: {setting.variable}]"
    if isinstance(setting.default, bool):
        flag = f"{setting.flag}/--no-{setting.flag[2:]}"
        return click.option(flag, setting.name, default=None, help=text)
    # Values are read by the table, so that a wrong one gets the same message wherever it comes from.
    return click.option(setting.flag, setting.name, metavar=_METAVARS[type(setting.default)], help=text)


def given(options: Mapping[str, object]) -> dict[str, object]:
    """The settings among a command's options that were given on the command line."""
    return {name: value for name, value in options.items() if name in {*BY_NAME, *_FORMER} and value is not None}


def as_arguments(flags: Mapping[str, object]) -> list[str]:
    """Settings as they would be typed."""
    arguments = []
    for name, value in flags.items():
        flag = BY_NAME[name].flag
        if isinstance(value, bool):
            arguments.append(flag if value else f"--no-{flag[2:]}")
        else:
            arguments.append(f"{flag}={value}")
    return arguments


def app_options(function: _Function) -> _Function:
    """Add ``--app`` and ``--demo``: which app a command is about."""
    function = click.option("--demo", metavar="NAME", help="A demo, such as wiki.")(function)
    return click.option(
        "--app",
        "target",
        metavar="APP",
        help="An app: a file, or module:variable.  [default: app.py, if it is here]",
    )(function)


def chosen_app(target: str | None, demo: str | None, flags: dict[str, object]) -> App:
    """The app that ``--app`` and ``--demo`` mean, with its settings in force.

    With neither, it is ``app.py`` of this folder, or else the demo wiki; that choice is told on stderr.

    Raises:
        click.UsageError: if both are given.
        NotAnApp: if there is no such app.
    """
    if target and demo:
        raise click.UsageError("Give --app or --demo, not both.")
    if not target and not demo:
        if Path("app.py").is_file():
            target = "app.py"
        else:
            demo = "wiki"
            click.echo("There is no app.py in this folder, so this is about the demo wiki.", err=True)
    if demo:
        return demo_app(demo, flags)
    app = load_app(str(target))
    app.configure(flags)
    return app


def demo_app(name: str, flags: dict[str, object]) -> App:
    """A demo, with its settings in force and its pages in the user's data folder.

    Raises:
        NotAnApp: if there is no demo of that name.
    """
    app = load_app(str(demos.find_demo(name)))
    if "database" not in flags and BY_NAME["database"].variable not in os.environ:
        flags = {**flags, "database": str(data_folder() / f"{name}.db")}
    app.configure(flags)
    return app


def data_folder() -> Path:
    """Where the pages of the demos are kept."""
    return platformdirs.user_data_path("unwritten", appauthor=False)
