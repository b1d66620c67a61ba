"""``unwritten bench``: measurements, each a table for people and one JSON document on its last line."""

from __future__ import annotations

import click

from .lazy import LazyGroup

BENCHES = {
    "web": "What the framework costs, with a model that takes no time.",
    "click": "From a click to the first words and to the finished page.",
    "engine": "The diffusion engine beside generate() of transformers.",
    "quality": "How good the pages are that a model writes.",
}


@click.command("bench", cls=LazyGroup, table=BENCHES, package="unwritten.bench", noun="benchmark")
def command() -> None:
    """Measure speed and quality.

    Each benchmark prints a table for people, and one JSON document on its last line.
    """
