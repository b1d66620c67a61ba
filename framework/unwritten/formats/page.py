"""``Page`` and ``Canvas``: what a page function returns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from starlette.responses import Response

from unwritten_engine import Example

from ..core.bidi import remove_controls
from ..core.errors import BadApp, BadPage
from ..core.paths import page_key
from ..security.headers import Embeds
from .base import Format
from .links import title_from_key
from .registry import UNLINKED_FORMATS, get_format
from .schema import check_schema
from .uploads import MODEL_IMAGES, Upload, media_type_of

DEFAULT_TEMPLATE = "page.html"
DEFAULT_CANVAS = "body"

TEMPLATE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "app": "The app: `app.name`, `app.supports('svg')`, `app.store`, `app.settings` and its other attributes.",
        "page": "The page: its key, title, state and provenance; see below. On an unwritten page, and in `app.render`, "
        "only key and title are set.",
        "unwritten": "The framework's style sheet and scripts, for the `<head>` of a layout.",
        "colophon": "The small print under a page: who wrote it, and what visitors can do with it. Once, at its end.",
        "static": "`static('file.css')`: the URL of a static file, with its version.",
        "link": "`link(key)`, or `key|link`: the URL of a page, for a link to it. It is signed where only signed links "
        "may cause generation.",
        "url_for": "`url_for('article', title='Tea')`: the URL of a page or a route, by its name. If the model has "
        "written a parameter, add `default=none`: it is returned for a text that no page can have.",
        "root_path": "The prefix under which the app is served, often empty, for URLs that you write yourself.",
        "ornament": "`ornament(text, label=None)`: a small abstract picture as inline SVG, computed from the text, so "
        "that equal texts have equal pictures. Say under it that it is an ornament. Without a label, screen readers "
        "skip it.",
        "avatar": '`avatar(name)`: a small face, always the same for a name, in `<span class="avatar">`.',
        "picture": "`picture(prompt, alt, width=512, height=320)`: an `<img>` of fixed size, painted by the program in "
        "the setting `painter`. Without one it is an ornament, and says so.",
        "nonce": 'The nonce of this response, for a `<script nonce="{{ nonce }}">` of your own.',
        "edit_link": "`edit_link('lead')`: a link that opens the forms to change this region, under it. `edit_link()` "
        "opens those of the whole page. Empty where visitors may not edit.",
        "can_edit": "`can_edit()`: true where visitors may edit.",
        "action": "`<form {{ action('reply', id=3) }}>`: the attributes of a form that is sent to an action.",
        "lang": "The language tag of the page: that of `Page(…, lang='de')`, otherwise of `App(…, language='de')`.",
        "gettext": "`_('Save')` or `gettext('Save')`: a text in the language of the page; see "
        "[localization](localization.md).",
        "ngettext": "`ngettext('%(num)s page', '%(num)s pages', count)`: a text that depends on a number.",
        "pgettext": "`pgettext('month', 'May')`: a text in a context, where English has one word for two things.",
        "npgettext": "Both: `npgettext('context', '%(num)s page', '%(num)s pages', count)`.",
        "file_url": "`file_url(photo.file)`: the URL of an upload.",
        "form": "A form that was rejected: `form.value.text`, `form.errors.text`, `form.message`, `form.action`. Empty "
        "otherwise.",
    }
)
"""The framework's names in every template, each with a description in Markdown."""

RESERVED_NAMES = frozenset({*TEMPLATE_NAMES, "self", "super", "loop", "caller"} - {"lang"})
"""Names that a page cannot use for its values: the framework's, and Jinja's own."""


@dataclass(frozen=True)
class Canvas:
    """One region of a page: a prompt, a format and a length.

    ``Canvas("The opening paragraph of the article on lighthouses.")`` is enough.

    Args:
        prompt: What to write, in one short paragraph. The same prompt serves every model.
        format: How the text is parsed and rendered: "markdown" (the default), "text", "html", "svg", "app", "typed"
            (the default with a ``schema``), or a ``Format`` of your own.
        canvases: Maximum length in canvases of the engine, on most engines 256 tokens each.
        tokens: A smaller maximum length in tokens, or None.
        schema: A pydantic model or a dataclass. The text is generated as JSON that matches it, and templates see its
            fields.
        fact: True makes the value a fact of the world: prompts of later pages mention it.
        links: Pages that the text should link to: titles or keys in a list, or keys by title. The prompt names them,
            and ``[[Title]]`` leads to them in any case, and in the plural.
        examples: Prompts with good answers. A base model imitates them, an instruct model is shown them.
        opening: Text that the answer begins with.
        stop: Strings that end the text.
        images: What the model sees with the prompt: an ``ImageUpload``, or the bytes of a PNG, JPEG or WebP file. The
            engine must accept images: ``app.supports("images")``.
        seed: Makes the text repeatable on the same engine, while it generates nothing else: other texts in a batch can
            change it. The engine ``vllm`` refuses seeds. None: random.
        options: Sampling options of the engine, by name.
        fresh: How old the text may become: ``timedelta(days=1)``. Once it is older, the next visit still shows it, and
            has a new one generated in the background. None: what the page says, or the text stays for good.

    Attributes:
        resolved_format: The ``Format`` that ``format`` names.
        named_links: The keys in ``links`` by title. "" where the key follows from the title.

    Raises:
        BadPage: If the prompt is empty, the format is unknown, the schema is invalid, a length is below 1, or ``links``
            has something that is not a title or a key.
        BadApp: If ``fresh`` is not a ``timedelta`` of at least a second.
    """

    prompt: str
    format: str | Format = ""
    _: KW_ONLY
    canvases: int = 1
    tokens: int | None = None
    schema: type[Any] | None = None
    fact: bool = False
    links: Sequence[str] | Mapping[str, str] = ()
    examples: Sequence[Example] = ()
    opening: str = ""
    stop: Sequence[str] = ()
    images: Sequence[Upload | bytes] = ()
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    fresh: timedelta | None = None
    resolved_format: Format = field(init=False, repr=False, compare=False)
    named_links: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise BadPage(f"A canvas needs a prompt as a string that is not empty, but got {self.prompt!r}.")
        if not self.format:
            object.__setattr__(self, "format", "typed" if self.schema else "markdown")
        object.__setattr__(self, "resolved_format", get_format(self.format))
        name = self.resolved_format.name
        if (self.schema is not None) != (name == "typed"):
            raise BadPage(
                f"The canvas {self.prompt!r} has the format {name!r} and the schema {self.schema!r}: "
                "the format 'typed' needs a schema, and the other formats take none."
            )
        if self.fact and self.schema is None:
            raise BadPage(f"The canvas {self.prompt!r} has fact=True, which needs a schema: only values can be facts.")
        if self.schema is not None:
            check_schema(self.schema)
        if self.canvases < 1 or (self.tokens is not None and self.tokens < 1):
            raise BadPage(f"The canvas {self.prompt!r} needs a length (canvases=…, tokens=…) of at least 1.")
        if self.fresh is not None:
            check_fresh(self.fresh, f"The canvas {self.prompt!r}")
        if isinstance(self.images, bytes | Upload):
            raise BadPage("Canvas(images=…) takes a list. Write images=[photo].")
        for image in self.images:
            media_type = image.media_type if isinstance(image, Upload) else media_type_of(image[:16])
            if media_type not in MODEL_IMAGES:
                raise BadPage(f"The canvas {self.prompt!r} has an image that is neither PNG, JPEG nor WebP.")
        object.__setattr__(self, "images", tuple(self.images))
        for name in ("examples", "stop"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise BadPage(f"Canvas({name}=…) takes a list, but got the string {value!r}.")
            object.__setattr__(self, name, tuple(value))
        if self.links and self.resolved_format.name in UNLINKED_FORMATS:
            raise BadPage(
                f"The canvas {self.prompt!r} has links=…, but the format {self.resolved_format.name!r} has no links."
            )
        object.__setattr__(self, "named_links", _named_links(self.links))


def _named_links(links: object) -> Mapping[str, str]:
    """Return the keys of the pages that a canvas names, by title. "" is the key that follows from the title.

    Raises:
        BadPage: If something is not a title or a key.
    """
    if isinstance(links, str):
        raise BadPage(f"Canvas(links=…) takes a list, but got the string {links!r}: write links=[{links!r}].")
    if not isinstance(links, (Mapping, Iterable)):
        raise BadPage(f"Canvas(links=…) takes a list of titles and keys, or keys by title, not {links!r}.")
    named: dict[str, str] = {}
    for item in links:
        key = links[item] if isinstance(links, Mapping) else item
        if not isinstance(item, str) or not isinstance(key, str) or not item.strip():
            raise BadPage(f"Canvas(links=…) takes titles and keys of pages, not {item!r}: pass page.title or page.key.")
        if not key.startswith("/"):
            if isinstance(links, Mapping):
                raise BadPage(f"Canvas(links={{{item!r}: {key!r}}}) needs a key, which begins with a slash.")
            named.setdefault(_link_title(item), "")
            continue
        path = page_key(key)
        if path is None:
            raise BadPage(f"Canvas(links=…): no page can be at {key!r}.")
        named.setdefault(_link_title(item if isinstance(links, Mapping) else title_from_key(path)), path)
    return MappingProxyType(named)


def _link_title(title: str) -> str:
    """Return a title on one line, without characters that have a meaning in ``[[Title|text]]``."""
    return " ".join(re.sub(r"[\[\]|{}]", " ", remove_controls(title)).split()) or "Untitled"


def check_fresh(fresh: object, subject: str) -> None:
    """Check the time after which a text is generated again.

    Args:
        fresh: The time.
        subject: The page or the canvas that has it, for the message.

    Raises:
        BadApp: If it is not a ``timedelta``, or is below a second.
    """
    if not isinstance(fresh, timedelta):
        raise BadApp(f"{subject} has fresh={fresh!r}, which is not a timedelta. Write fresh=timedelta(hours=6).")
    if fresh < timedelta(seconds=1):
        raise BadApp(
            f"{subject} has fresh={fresh!r}, but a stored text is served for at least a second. For what must be new "
            "at every visit, pass a value to the template, which is rendered for each visit, or declare a route "
            "with @app.route."
        )


@dataclass(frozen=True)
class CanvasGroup:
    """Several canvases under one name.

    Attributes:
        regions: The region of each canvas, by its key or its index in the list.
        is_list: True if the canvases were given as a list, False for a mapping.
    """

    regions: Mapping[str | int, str]
    is_list: bool


class Page:
    """A template with its canvases and its other values.

    ``Page("article.html", title="Lighthouse", lead=Canvas("…"), linked_from=[…])``: every keyword argument that is a
    ``Canvas`` becomes a region, rendered by the block of that name. A mapping or a list of canvases becomes several
    regions: ``replies={12: Canvas("…")}`` creates the region ``replies-12``, which ``{{ replies[12] }}`` shows.

    Every other keyword argument is a value for the template. If it has a block of its own name, that block is a region
    too: it is rendered again in every browser when an action changes what it shows.

    Args:
        template: A file in the app's templates folder, or a template of the framework.
        title: The page's title. None: the URL's last parameter.
        embeds: True if the template shows other pages of this app in ``<iframe>`` elements. The page's content
            security policy then allows frames of this app only. Generated text can never contain frames.
        parts: Canvases and values.

    Raises:
        BadPage: If a name is reserved or cannot be a Jinja block, or if two formats have the same name.
    """

    def __init__(
        self, template: str = DEFAULT_TEMPLATE, /, *, title: str | None = None, embeds: bool = False, **parts: Any
    ) -> None:
        self.template = template
        self.title = title
        self.canvases: dict[str, Canvas] = {}
        self.context: dict[str, Any] = {}
        self.canvas_groups: dict[str, CanvasGroup] = {}
        for name, value in parts.items():
            if name in RESERVED_NAMES or name.startswith("_"):
                raise BadPage(f"A page cannot have a value named {name!r}: the name is reserved. Choose another.")
            if isinstance(value, Canvas):
                self.canvases[name] = value
                continue
            members = _group_members(name, value)
            if members:
                regions = {key: f"{name}-{key}" for key in members}
                self.canvas_groups[name] = CanvasGroup(regions, isinstance(value, list))
                self.canvases.update((regions[key], canvas) for key, canvas in members.items())
            else:
                self.context[name] = value
        self.embeds: Embeds = "pages" if embeds else ""
        formats: dict[str, Format] = {}
        for canvas in self.canvases.values():
            format = canvas.resolved_format
            if format.uses_iframe and not self.embeds:
                self.embeds = "boxes"
            if formats.setdefault(format.name, format) != format:
                raise BadPage(f"A page has two formats with the name {format.name!r}: give each its own name.")

    @property
    def lang(self) -> str:
        """The page's language tag, its value ``lang``; "" if it is the app's."""
        return str(self.context.get("lang") or "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Page):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Page({self.template!r}, title={self.title!r}, canvases={list(self.canvases)})"


def _group_members(name: str, value: object) -> dict[str | int, Canvas]:
    """Return the canvases of a mapping or a list by key, or nothing if it holds other values.

    Raises:
        BadPage: If only some members are canvases, or if a key cannot be part of a region's name.
    """
    members: dict[str | int, Any] = {}
    if isinstance(value, list):
        members.update(enumerate(value))
    elif isinstance(value, dict):
        members = value
    if not any(isinstance(member, Canvas) for member in members.values()):
        return {}
    for key, member in members.items():
        if not isinstance(member, Canvas):
            raise BadPage(
                f"{name}={{{key!r}: …}} is {member!r}, but other members are canvases. "
                "Pass canvases and other values under two names."
            )
        if isinstance(key, bool) or not isinstance(key, (str, int)) or not re.fullmatch(r"[A-Za-z0-9_-]+", str(key)):
            raise BadPage(
                f"The canvas {name}={{{key!r}: …}} needs an integer as its key, or a string of letters, digits, "
                "- and _."
            )
    return members


def as_page(result: object, function: str) -> Page | Response:
    """Return the result of a page function as a page. Responses are returned unchanged.

    Args:
        result: A prompt, a canvas, a page, or any Starlette response.
        function: The function's name, for messages.

    Raises:
        BadPage: If it is anything else.
    """
    if isinstance(result, (Page, Response)):
        return result
    if isinstance(result, str):
        if not result.strip():
            raise BadPage(f"The page function {function!r} returned an empty prompt: say what to write.")
        result = Canvas(result)
    if isinstance(result, Canvas):
        parts: dict[str, Any] = {DEFAULT_CANVAS: result}
        return Page(**parts)
    raise BadPage(
        f"The page function {function!r} returned {type(result).__name__} ({str(result)[:60]!r}), which is not a "
        "page. Return a prompt (a string), a Canvas, a Page, or a Starlette Response."
    )
