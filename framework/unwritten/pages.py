"""A page: what an author's function says that a URL needs."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from .canvases import Canvas
from .errors import BadPage

DEFAULT_TEMPLATE = "page.html"
DEFAULT_CANVAS = "body"

RESERVED = frozenset({"app", "page", "unwritten", "colophon", "static", "nonce", "self", "super", "loop", "caller"})
"""Names that a template sees already, or that Jinja keeps for itself."""


class Page:
    """A template with its canvases and its other values.

    ``Page("article.html", title="Lighthouse", lead=Canvas("…"), linked_from=[…])``: every keyword that is a
    ``Canvas`` becomes a region, drawn by the block of that name; every other keyword is a value that the
    template sees.

    Args:
        template: a file in the app's templates folder, or one of ours.
        title: the page's title; None takes the URL's last parameter.
        parts: canvases and values.

    Raises:
        BadPage: if a name is taken or cannot be a Jinja block.
    """

    def __init__(self, template: str = DEFAULT_TEMPLATE, /, *, title: str | None = None, **parts: Any) -> None:
        self.template = template
        self.title = title
        self.canvases: dict[str, Canvas] = {}
        self.context: dict[str, Any] = {}
        for name, value in parts.items():
            if name in RESERVED or name.startswith("_"):
                raise BadPage(f"A page cannot have a part named {name!r}: that name is taken. Choose another.")
            if isinstance(value, Canvas):
                self.canvases[name] = value
            else:
                self.context[name] = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Page):
            return NotImplemented
        return (
            self.template == other.template
            and self.title == other.title
            and self.canvases == other.canvases
            and self.context == other.context
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Page({self.template!r}, title={self.title!r}, canvases={list(self.canvases)})"


def as_page(result: object, function: str) -> Page | Response:
    """What a page function returned, as a page.

    Args:
        result: a prompt, a canvas, a page, or any Starlette response.
        function: the name of the page function, for the message.

    Raises:
        BadPage: if it is none of these.
    """
    if isinstance(result, (Page, Response)):
        return result
    if isinstance(result, Canvas):
        return _single(result)
    if isinstance(result, str):
        if not result.strip():
            raise BadPage(f"The page function {function!r} returned an empty prompt: say what to write.")
        return _single(Canvas(result))
    raise BadPage(
        f"The page function {function!r} returned {type(result).__name__} ({str(result)[:60]!r}), which is not a "
        "page. Return a prompt (a string), a Canvas, a Page, or a Starlette Response."
    )


def _single(canvas: Canvas) -> Page:
    page = Page()
    page.canvases[DEFAULT_CANVAS] = canvas
    return page
