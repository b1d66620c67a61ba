"""The schema checker: whether the engine supports what a canvas asks for, and the bounds that are assumed for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from unwritten_engine import About, Engine, EngineError, Prompt, Request

from ..core.errors import BadPage, BadSchema
from ..formats.assumed_schema import AssumedSchema, assume
from ..formats.page import Canvas, Page
from ..storage.values import ValueStore
from .region_job import requested_schema

log = logging.getLogger("unwritten")


class SchemaChecker:
    """Checks once per kind of canvas that the engine supports it, and registers schemas for stored values."""

    def __init__(self, engine: Engine, values: ValueStore, is_developing: Callable[[], bool]) -> None:
        self._engine = engine
        self._values = values
        self._is_developing = is_developing
        self._logged: set[type[Any]] = set()
        self._checked: set[tuple[Any, ...]] = set()

    def check(self, path: str, page: Page) -> None:
        """Check that the engine supports the schemas, seeds and options of a page.

        Args:
            path: The page's pattern, for the message.
            page: The page.

        Raises:
            BadSchema: If it does not support a schema. The message names the place in it, and the fix.
            BadPage: If it does not support a seed or an option, or cannot see the images of a canvas.
        """
        for name, canvas in page.canvases.items():
            self.check_canvas(f"The canvas {name!r} of the page {path!r}", canvas)
            if canvas.schema is not None:
                self._values.register(canvas.schema)

    def check_canvas(self, subject: str, canvas: Canvas) -> None:
        """Check that the engine supports a canvas.

        Args:
            subject: What messages call it.
            canvas: The canvas.

        Raises:
            BadSchema, BadPage: See ``check``.
        """
        about = self._engine.about
        if canvas.images and not about.abilities.images:
            raise BadPage(
                f"{subject} has images, which {about.model} ({about.engine}) cannot see. Choose an engine with a model "
                "for images, or leave them out where app.supports('images') is false."
            )
        schema = canvas.schema
        has_seed = canvas.seed is not None
        checked = (schema, canvas.canvases, canvas.tokens, canvas.opening, has_seed, repr(canvas.options))
        if (schema is None and not has_seed and not canvas.options) or checked in self._checked:
            return
        assumed = assumed_schema(canvas, about)
        try:
            self._engine.check(_request(canvas, assumed))
        except EngineError as error:
            reason, problem = str(error), BadPage
            if schema is not None:
                reason, problem = reason.replace("The schema ", f"The schema {schema.__name__} ", 1), BadSchema
            raise problem(f"{subject} cannot be written by {about.model} ({about.engine}). {reason}") from None
        self._checked.add(checked)
        if schema is not None:
            self._log_assumptions(schema, assumed)

    def _log_assumptions(self, schema: type[Any], assumed: AssumedSchema | None) -> None:
        """Log what is assumed about a schema, once while the app is developed."""
        if assumed is None or not assumed.bounds or schema in self._logged or not self._is_developing():
            return
        self._logged.add(schema)
        log.info(
            "Assumed bounds of the schema %s (set your own with Field(ge=…, le=…, max_length=…)): %s.",
            schema.__name__,
            "; ".join(assumed.bounds),
        )


def assumed_schema(canvas: Canvas, about: About) -> AssumedSchema | None:
    """Return the schema of a canvas with assumed bounds, or None if the engine is held to the author's schema.

    Servers and large models know usual values, and not all accept every bound. A grammar in this process does. Examples
    of the author show what values look like, and could contradict an assumption.
    """
    if canvas.schema is None or canvas.examples or not about.abilities.patterns:
        return None
    return assume(canvas.schema, canvas.tokens or canvas.canvases * about.canvas_length)


def _request(canvas: Canvas, assumed: AssumedSchema | None) -> Request:
    """Return the engine request for a canvas, with a placeholder prompt."""
    return Request(
        prompt=Prompt("A", opening=canvas.opening),
        canvases=canvas.canvases,
        max_tokens=canvas.tokens,
        schema=requested_schema(canvas, assumed),
        seed=canvas.seed,
        options=canvas.options,
    )
