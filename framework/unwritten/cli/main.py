"""The command ``unwritten``. Each subcommand's module is imported when the command is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from unwritten_engine.errors import EngineError
from unwritten_engine.hub_files import DownloadStopped

from .. import __version__
from ..core.errors import UnwrittenError


class LazyCommand(NamedTuple):
    """A command that has not been imported yet.

    Attributes:
        target: ``module:command``; the module is relative to the group's package.
        help: One line for the group's ``--help``.
    """

    target: str
    help: str


class LazyGroup(click.Group):
    """A group that imports a command when it is used, so that ``--help`` is fast.

    Args:
        lazy_commands: The commands by name, in the order of ``--help``.
        package: The package of the commands' modules.
        noun: What messages call one of the commands.
    """

    def __init__(
        self, *args: Any, lazy_commands: Mapping[str, LazyCommand], package: str, noun: str, **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.lazy_commands, self.package, self.noun = lazy_commands, package, noun

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(self.lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. Return None if there is no such command."""
        if cmd_name not in self.lazy_commands:
            return None
        module, _, attribute = self.lazy_commands[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(f"{self.package}.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the nearest one."""
        name = args[0]
        if not name.startswith("-") and name not in self.lazy_commands:
            problem = f"There is no {self.noun} {name!r}."
            if name.endswith(".py"):
                raise click.UsageError(f"{problem} To serve an app: unwritten run {name}", ctx)
            raise click.exceptions.NoSuchCommand(name, problem, self.lazy_commands, ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Known errors become one message. Other exceptions are bugs and keep their traceback."""
        try:
            return super().invoke(ctx)
        except (UnwrittenError, EngineError) as error:
            raise click.ClickException(str(error)) from error
        except DownloadStopped as stopped:
            click.echo(f"\n{stopped}", err=True)
            ctx.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section(f"{self.noun.capitalize()}s"):
            formatter.write_dl([(name, command.help) for name, command in self.lazy_commands.items()])


COMMANDS: Mapping[str, LazyCommand] = {
    "demo": LazyCommand("run:demo", "List the demos, or run one."),
    "new": LazyCommand("new:new", "Create an app to start from."),
    "run": LazyCommand("run:run", "Serve your own app."),
    "engine": LazyCommand("engine:engine", "Load an engine once, and serve it to several apps and processes."),
    "models": LazyCommand("models:models", "List models by name, and which of them fits this machine."),
    "get": LazyCommand("pages:get", "Print one page, without a server."),
    "write": LazyCommand("write:write", "Write many pages in one run."),
    "pages": LazyCommand("pages:pages", "List, search, count and delete stored pages; show their history."),
    "export": LazyCommand("worlds:export", "Export the pages as a static site."),
    "import": LazyCommand("worlds:import_", "Import the pages of another world's file."),
    "copy": LazyCommand("worlds:copy", "Copy a world's file while it is in use."),
    "tune": LazyCommand("training:tune", "Adapt a diffusion model to your own pages."),
    "offline": LazyCommand("offline:offline", "Keep a copy of htmx for use without a network."),
    "doctor": LazyCommand("doctor:doctor", "Show the engine in use, its speed, and problems of the installation."),
}
"""All commands."""


@click.command(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    package=__package__,
    noun="command",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="unwritten %(version)s")
def main() -> None:
    """Run and manage apps of Unwritten, a web framework for pages that are generated when someone clicks them.

    \b
    Try it:              unwritten demo wiki
    Start your own app:  unwritten new garden
    Serve your own app:  unwritten run app.py
    If something fails:  unwritten doctor
    """
