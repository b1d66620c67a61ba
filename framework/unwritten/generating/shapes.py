"""Shapes on their way to the engine: one that it cannot be held to is found before anybody clicks."""

from __future__ import annotations

from typing import Any

from unwritten_engine import Engine, EngineError, Prompt, Request

from ..canvases import Canvas
from ..errors import BadShape
from ..formats import schema_of
from ..keeping.values import Values
from ..pages import Page


class Shapes:
    """Holds the shapes of pages up to the engine, each once, and makes them known.

    Args:
        engine: would be held to them.
        values: learns them.
    """

    def __init__(self, engine: Engine, values: Values) -> None:
        self._engine = engine
        self._values = values
        self._held: set[tuple[Any, ...]] = set()

    def check(self, path: str, page: Page) -> None:
        """Make sure that the engine can be held to every shape of a page.

        Args:
            path: the pattern of the page, for the message.
            page: what its function asked for.

        Raises:
            BadShape: if not; the message names the page, the canvas, the place in the shape, and what to do.
        """
        for name, canvas in page.canvases.items():
            shape = canvas.shape
            asked = (shape, canvas.canvases, canvas.tokens, canvas.opening, repr(canvas.options))
            if shape is None or asked in self._held:
                continue
            try:
                self._engine.check(_request(canvas))
            except EngineError as error:
                about = self._engine.about
                reason = str(error).replace("The shape ", f"The shape {shape.__name__} ", 1)
                raise BadShape(
                    f"The canvas {name!r} of the page {path!r} cannot be written by {about.model} ({about.engine}). "
                    f"{reason}"
                ) from None
            self._held.add(asked)
            self._values.know(shape)


def _request(canvas: Canvas) -> Request:
    """What a canvas asks for, with a prompt of no importance."""
    return Request(
        prompt=Prompt("A", opening=canvas.opening),
        canvases=canvas.canvases,
        max_tokens=canvas.tokens,
        schema=schema_of(canvas.shape) if canvas.shape else None,
        options=canvas.options,
    )
