"""A page: what an author's function says that a URL needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import Any

from starlette.responses import Response

from unwritten_engine import Example

from ..core.errors import BadPage
from ..security.headers import Embeds
from .base import Format
from .registry import get_format
from .schema import check_schema

DEFAULT_TEMPLATE = "page.html"


DEFAULT_CANVAS = "body"


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


@dataclass(frozen=True)
class Canvas:
    """One region of a page: a prompt, a format, and a length.

    ``Canvas("The opening paragraph of the article on lighthouses.")`` is enough.

    Args:
        prompt: what to write, in one short paragraph. The same words serve every model.
        format: how the text is read and drawn: "markdown" (the default), "text", "html", "svg", "app", with a
            ``shape`` "typed", or a ``Format`` of your own.
        canvases: the longest length, in canvases of the engine (256 tokens each on most).
        tokens: a shorter length, in tokens.
        shape: a pydantic model or a dataclass; the text is held to it, and templates see its fields.
        fact: the value of the shape is a fact of the world, which later pages are told of.
        examples: asks with good answers. A base model imitates them; an instruct model is shown them.
        opening: text that the answer begins with.
        stop: strings that end the text.
        seed: makes the text repeatable on the same engine; None draws one.
        options: sampling options of the engine, by name.

    Raises:
        BadPage: for a prompt without words, an unknown format, something that is no shape, or a length below 1.
    """

    prompt: str
    format: str | Format = ""
    _: KW_ONLY
    canvases: int = 1
    tokens: int | None = None
    schema: type[Any] | None = None
    fact: bool = False
    examples: Sequence[Example] = ()
    opening: str = ""
    stop: Sequence[str] = ()
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise BadPage(f"A canvas needs a prompt in words, but this one has {self.prompt!r}.")
        if not self.format:
            object.__setattr__(self, "format", "typed" if self.schema else "markdown")
        name = get_format(self.format).name
        if (self.schema is not None) != (name == "typed"):
            raise BadPage(
                f"The canvas {self.prompt!r} has the format {name!r} and the shape {self.schema!r}: "
                "a shape goes with the format 'typed', and every other format goes without one."
            )
        if self.fact and self.schema is None:
            raise BadPage(
                f"The canvas {self.prompt!r} is a fact, but only the value of a shape can be one: give it one."
            )
        if self.schema is not None:
            check_schema(self.schema)
        if self.canvases < 1 or (self.tokens is not None and self.tokens < 1):
            raise BadPage(f"The canvas {self.prompt!r} has no room: its length must be at least 1.")
        for name in ("examples", "stop"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise BadPage(f"Canvas({name}=…) takes a list, but got the string {value!r}.")
            object.__setattr__(self, name, tuple(value))


TEMPLATE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "app": "The app: `app.name`, `app.supports('svg')`, `app.store`, `app.settings`, and whatever else it has.",
        "page": "The page: its key, title, state and provenance; see below. On a page that is not written, and in "
        "`app.render`, only key and title say something.",
        "unwritten": "Our style sheet and scripts. It belongs into the `<head>` of a layout.",
        "colophon": "The small print under a page: who wrote it, and what can be done with it. Once, at its end.",
        "static": "`static('file.css')`: the address of a static file, with its version.",
        "link": "`link(key)`, or `key|link`: the address of a page for a link to it. It matters on the open web, where "
        "only links that were offered cause writing.",
        "ornament": "`ornament(text, label=None)`: a small abstract picture as inline SVG, made from the text alone, "
        "always the same for it. Say under it that it is an ornament; without a label screen readers pass over it.",
        "avatar": '`avatar(name)`: a small face for a name, always the same; it stands in `<span class="avatar">`.',
        "picture": "`picture(prompt, alt, width=512, height=320)`: an `<img>` of fixed size. The setting `painter` "
        "names who paints it; without one it is an ornament, and says so.",
        "nonce": 'The nonce of this response, for a `<script nonce="{{ nonce }}">` of your own.',
        "edit_link": "`edit_link('lead')`: a link that opens the forms which change this region, right under it; "
        "`edit_link()` leads to those of the whole page. Nothing where visitors may not change what is written.",
        "action": "`<form {{ action('reply', id=3) }}>`: the attributes of a form that is sent to an action.",
        "form": "A form that was sent and could not be taken: `form.value.text`, `form.errors.text`, `form.message`, "
        "`form.action`. Empty otherwise.",
    }
)
"""Name and what it is, in one line."""


RESERVED_NAMES = frozenset({*TEMPLATE_NAMES, "self", "super", "loop", "caller"})
"""Names that a page cannot give to its parts: ours, and those that Jinja keeps for itself."""
