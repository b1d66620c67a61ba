"""``unwritten bench``: measurements, each a table for people and one JSON document on its last line."""

from __future__ import annotations

import click

from .lazy import LazyGroup

BENCHES = {
    "web": "What the framework costs, with a model that takes no time.",
    "ahead": "What pages save that are written before they are clicked.",
    "click": "From a click to the first words and to the finished page.",
    "demos": "What a visitor waits for in each demo.",
    "engine": "The diffusion engine beside generate() of transformers.",
    "small": "A small diffusion model beside the embedded one.",
    "shapes": "How often an engine's values of shapes are valid.",
    "quality": "How good the pages are that a model writes.",
    "world": "Whether later pages know what earlier ones said.",
}


@click.command("bench", cls=LazyGroup, table=BENCHES, package="unwritten.bench", noun="benchmark")
def command() -> None:
    """Measure speed and quality.

    Each benchmark prints a table for people, and one JSON document on its last line.
    """
