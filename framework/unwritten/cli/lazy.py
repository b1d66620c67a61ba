"""A group of commands that are imported when they are asked for, so that ``--help`` answers at once."""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group from a table.

    Args:
        table: what ``--help`` says of each command, by name, in order.
        package: where the modules are that are called like the commands (``import_`` for ``import``); each has a
            ``command``.
        noun: what one of them is, for messages.
    """

    def __init__(self, *args: Any, table: Mapping[str, str], package: str, noun: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self.table, self.package, self.noun = table, package, noun

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.table:
            return None
        module = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = importlib.import_module(f"{self.package}.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed, or suggest the nearest."""
        name = args[0]
        if not name.startswith("-") and name not in self.table:
            problem = f"There is no {self.noun} {name!r}."
            if name.endswith(".py"):
                raise click.UsageError(f"{problem} To serve an app: unwritten run {name}", ctx)
            raise click.exceptions.NoSuchCommand(name, problem, self.table, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table."""
        with formatter.section(f"{self.noun.capitalize()}s"):
            formatter.write_dl(list(self.table.items()))
