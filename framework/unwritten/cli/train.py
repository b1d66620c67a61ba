"""``unwritten train``: the engine's own commands for training, with the same words and messages."""

from __future__ import annotations

import click

from unwritten_engine.training.cli import main


class _HandedOver(click.Command):
    """A command whose words another program reads: all of them, ``--help`` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave everything as it was typed."""
        ctx.args = list(args)
        return ctx.args


@click.command("train", cls=_HandedOver)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Train a small diffusion model: prepare a run, go on with it, carry it elsewhere, try it.

    \b
    unwritten train prepare run --pages pages.jsonl --start small
    unwritten train train run --minutes 30
    """
    ctx.exit(main(ctx.args))
