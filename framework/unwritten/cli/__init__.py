"""The command line: one module per command, imported when the command is asked for."""

from __future__ import annotations

from typing import Any

import click

from unwritten_engine.errors import EngineError

from .. import __version__
from ..core.errors import UnwrittenError
from .lazy import LazyGroup

COMMANDS = {
    "demo": "List the demos, or run one.",
    "new": "Make an app to begin with.",
    "run": "Serve your own app.",
    "get": "Print one page, without a server.",
    "pages": "List, search, count and delete pages; their history.",
    "export": "Write the pages as a static site.",
    "import": "Bring in the pages of another world's file.",
    "copy": "Copy a world's file while it is used.",
    "tune": "Adapt a diffusion model to your own pages.",
    "train": "Train a small diffusion model.",
    "doctor": "Say what is used and why, and what is wrong.",
    "offline": "Keep a copy of htmx for use without a network.",
    "prompts": "Write down what pages ask a model for, to train one.",
    "bench": "Measure speed and quality.",
}
"""What ``unwritten --help`` says of each command."""


class _Main(LazyGroup):
    """Turns our own errors into one line for people; all others are bugs and keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (UnwrittenError, EngineError) as error:
            raise click.ClickException(str(error)) from error


@click.command(
    cls=_Main,
    table=COMMANDS,
    package=__name__,
    noun="command",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="unwritten %(version)s")
def main() -> None:
    """Pages that do not exist until someone clicks them.

    \b
    Try it:              unwritten demo wiki
    Begin your own app:  unwritten new garden
    Serve your own app:  unwritten run app.py
    If something fails:  unwritten doctor
    """
