"""Formats: how the text of a canvas is read and drawn, from its first word to its last.

A format is a function from a ``Linker`` and a shape to a *drawer*; one drawer draws one region, frame after
frame, and may remember what it has drawn before. The result is always safe and balanced HTML, whatever the
text, and whichever prefix of it has arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from unwritten_engine import Frame

from ..links import Linker
from .drawn import Drawn
from .html import HtmlDrawer
from .markdown import MarkdownDrawer
from .text import TextDrawer
from .typed import TypedDrawer
from .typed import schema_of as schema_of


class Drawer(Protocol):
    """Draws the frames of one region."""

    def draw(self, frame: Frame) -> Drawn:
        """Safe HTML of the text so far.

        Raises:
            PageFailed: for a finished text that this format cannot accept.
        """
        ...


MakeDrawer: TypeAlias = Callable[[Linker, type[Any] | None], Drawer]

FORMATS: Mapping[str, MakeDrawer] = MappingProxyType(
    {
        "markdown": lambda linker, shape: MarkdownDrawer(linker),
        "text": lambda linker, shape: TextDrawer(),
        "html": lambda linker, shape: HtmlDrawer(linker),
        "typed": lambda linker, shape: TypedDrawer(shape),
    }
)
