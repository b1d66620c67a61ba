"""Trust: whether what an engine writes in a format is worth showing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from unwritten_engine import About
from unwritten_engine.errors import suggestion

from ..core.errors import BadPage
from ..core.settings import Settings
from .app import AppFormatter
from .base import Format, TextFormatter
from .html import HTMLFormatter
from .markdown import MarkdownFormatter
from .schema import SchemaFormatter
from .svg import SVGFormatter

_ROWS = [
    Format(
        "markdown",
        formatter=lambda place: MarkdownFormatter(place.linker),
        instructions=(
            "Every text is short, calm and complete. Names of things that deserve a page of their own stand in double "
            "square brackets, like [[copper]] or [[night market]]."
        ),
        prose=True,
        index_html=False,
        examples_file="note",
        topic_examples={
            "recipe": ("recipe", "recipes"),
            "letter": ("letter", "postcard", "e-mail", "email"),
            "thread": ("thread", "forum", "conversation", "chat", "dialogue"),
            "story": ("story", "tale", "legend", "fable", "chapter"),
            "article": ("encyclopedia", "encyclopaedia", "wiki", "article", "entry"),
        },
    ),
    Format(
        "text",
        formatter=lambda place: TextFormatter(),
        instructions="Every text is short, calm and complete, and has no markup.",
        prose=True,
        index_html=False,
        examples_file="text",
    ),
    Format(
        "html",
        formatter=lambda place: HTMLFormatter(place.linker),
        instructions=(
            "Every text is short, calm and complete, in simple HTML: headings, paragraphs, lists, and links such as "
            '<a href="Copper">copper</a>.'
        ),
        examples_file="html",
    ),
    Format(
        "svg",
        formatter=lambda place: SVGFormatter(place.region, place.prompt),
        instructions=(
            "Every drawing is one small SVG with a viewBox: a title, and then a few simple shapes. Lines and words "
            "have the colour currentColor; other colours are few and have names."
        ),
        opening='<svg viewBox="0 0 120 80">\n<title>',
        stop=("</svg>",),
        placeholder_lines=8,
        examples_file="svg",
    ),
    Format(
        "app",
        formatter=lambda place: AppFormatter(place.linker.page, place.region, place.prompt),
        instructions=(
            "Every app is one short and complete HTML document with its style and script inside. It has no network: "
            "no links, frames, fonts or pictures from elsewhere. It keeps a small state with box.save(state), and "
            "finds it again with await box.load(), which is null at first."
        ),
        opening="<!doctype html>\n",
        stop=("</html>",),
        placeholder_lines=8,
        examples_file="app",
        uses_iframe=True,
    ),
    Format(
        "typed",
        formatter=lambda place: SchemaFormatter(place.schema),
        instructions="Every record is one line of JSON with short, plain values.",
        index_html=False,
    ),
]


FORMATS: Mapping[str, Format] = MappingProxyType({row.name: row for row in _ROWS})
"""Our formats by name."""


def get_format(format: str | Format) -> Format:
    """A format by its name, or an author's own.

    Raises:
        BadPage: if there is none of that name, or the author's has the name of one of ours.
    """
    if isinstance(format, Format):
        if FORMATS.get(format.name, format) is not format:
            raise BadPage(f"There is a format {format.name!r} already: give yours a name of its own.")
        return format
    if format not in FORMATS:
        raise BadPage(f"There is no format {format!r}.{suggestion(str(format), FORMATS)}")
    return FORMATS[format]


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
