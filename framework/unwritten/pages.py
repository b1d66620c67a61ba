"""A page: what an author's function says that a URL needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from starlette.responses import Response

from .canvases import Canvas
from .errors import BadPage
from .formats import Format, get_format
from .showing.template_names import RESERVED_NAMES

DEFAULT_TEMPLATE = "page.html"
DEFAULT_CANVAS = "body"

Embeds: TypeAlias = Literal["", "boxes", "pages"]


@dataclass(frozen=True)
class Collection:
    """Canvases of one name.

    Attributes:
        regions: the name of each one's region, by its key or by its place in the list.
        listed: whether they were given as a list.
    """

    regions: Mapping[str | int, str]
    listed: bool


class Page:
    """A template with its canvases and its other values.

    ``Page("article.html", title="Lighthouse", lead=Canvas("…"), linked_from=[…])``: every keyword that is a
    ``Canvas`` becomes a region, drawn by the block of that name. A mapping or a list of canvases becomes as many
    regions, ``replies={12: Canvas("…")}`` one named ``replies-12``, which ``{{ replies[12] }}`` prints. Every other
    keyword is a value that the template sees; if it has a block of its own name, that block is a region too, and is
    drawn again in every browser when an action has changed what it shows.

    Args:
        template: a file in the app's templates folder, or one of ours.
        title: the page's title; None takes the URL's last parameter.
        frames: whether its template shows other pages of this app in ``<iframe>`` elements: the page's policy then lets
            it frame this app, and nothing else. Text of a model cannot open a frame either way.
        parts: canvases and values.

    Raises:
        BadPage: if a name is taken or cannot be a Jinja block, or two formats have one name.
    """

    def __init__(
        self, template: str = DEFAULT_TEMPLATE, /, *, title: str | None = None, frames: bool = False, **parts: Any
    ) -> None:
        self.template = template
        self.title = title
        self.embeds_pages = frames
        self.canvases: dict[str, Canvas] = {}
        self.context: dict[str, Any] = {}
        self.collections: dict[str, Collection] = {}
        for name, value in parts.items():
            if name in RESERVED_NAMES or name.startswith("_"):
                raise BadPage(f"A page cannot have a part named {name!r}: that name is taken. Choose another.")
            if isinstance(value, Canvas):
                self.canvases[name] = value
                continue
            several = _several(name, value)
            if several:
                self.collections[name] = Collection({key: f"{name}-{key}" for key in several}, isinstance(value, list))
                self.canvases.update((f"{name}-{key}", canvas) for key, canvas in several.items())
            else:
                self.context[name] = value
        own: dict[str, Format] = {}
        for canvas in self.canvases.values():
            format = get_format(canvas.format)
            if own.setdefault(format.name, format) != format:
                raise BadPage(f"A page has two formats with the name {format.name!r}: give each a name of its own.")

    @property
    def embeds(self) -> Embeds:
        """What its policy must allow to be shown in frames: "pages" of this app, "boxes" of apps that a model wrote,
        or nothing."""
        if self.embeds_pages:
            return "pages"
        return "boxes" if any(get_format(canvas.format).frames for canvas in self.canvases.values()) else ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Page):
            return NotImplemented
        return (
            self.template == other.template
            and self.title == other.title
            and self.embeds_pages == other.embeds_pages
            and self.canvases == other.canvases
            and self.collections == other.collections
            and self.context == other.context
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Page({self.template!r}, title={self.title!r}, canvases={list(self.canvases)})"


def _several(name: str, value: object) -> dict[str | int, Canvas]:
    """The canvases of a mapping or a list, by key; nothing if it is of other values.

    Raises:
        BadPage: if only some of them are canvases, or a key cannot be part of a name.
    """
    canvases: dict[str | int, Any] = {}
    if isinstance(value, list):
        canvases.update(enumerate(value))
    elif isinstance(value, dict):
        canvases = value
    if not any(isinstance(canvas, Canvas) for canvas in canvases.values()):
        return {}
    for key, canvas in canvases.items():
        if not isinstance(canvas, Canvas):
            raise BadPage(f"{name}={{{key!r}: …}} is {canvas!r}, but others beside it are canvases. Give it two names.")
        if isinstance(key, bool) or not isinstance(key, (str, int)) or not re.fullmatch(r"[A-Za-z0-9_-]+", str(key)):
            raise BadPage(
                f"The canvas {name}={{{key!r}: …}} needs a number for a key, or a word of letters, digits, - and _."
            )
    return canvases


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
