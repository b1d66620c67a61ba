"""Trust: whether what an engine writes in a format is worth showing."""

from __future__ import annotations

from unwritten_engine import About

from ..settings import Settings
from . import get_format

MARKUP = frozenset({"svg", "app"})
"""Formats that take a model which follows instructions. In all others every engine's words are words."""


def supports(format: str, about: About, settings: Settings) -> bool:
    """Whether an engine can be trusted to write in a format; see ``App.can``.

    Args:
        format: its name.
        about: the engine.
        settings: ``markup`` overrules what the engine says of itself.

    Raises:
        BadPage: if there is no such format.
    """
    get_format(format)
    if format not in MARKUP:
        return True
    return about.abilities.markup if settings.markup == "auto" else settings.markup == "on"
