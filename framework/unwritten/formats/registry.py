"""The built-in formats, and which of them an engine is able to write."""

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

_BUILT_IN = [
    Format(
        "markdown",
        formatter=lambda context: MarkdownFormatter(context.linker),
        instructions=(
            "Every text is short, calm and complete. Names of things that deserve a page of their own stand in double "
            "square brackets, like [[copper]] or [[night market]]."
        ),
        prose=True,
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
        formatter=lambda context: TextFormatter(),
        instructions="Every text is short, calm and complete, and has no markup.",
        prose=True,
        examples_file="text",
    ),
    Format(
        "html",
        formatter=lambda context: HTMLFormatter(context.linker),
        instructions=(
            "Every text is short, calm and complete, in simple HTML: headings, paragraphs, lists, and links such as "
            '<a href="Copper">copper</a>.'
        ),
        examples_file="html",
    ),
    Format(
        "svg",
        formatter=lambda context: SVGFormatter(context.region, context.prompt),
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
        formatter=lambda context: AppFormatter(
            context.linker.page, context.region, context.prompt, context.linker.root_path
        ),
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
        formatter=lambda context: SchemaFormatter(context.schema),
        instructions="Every record is one line of JSON with short, plain values.",
    ),
]

FORMATS: Mapping[str, Format] = MappingProxyType({format.name: format for format in _BUILT_IN})
"""The built-in formats by name."""

MARKUP_FORMATS = frozenset({"svg", "app"})
"""Formats that need a large enough instruction-following model. Every engine can write the others."""

UNLINKED_FORMATS = frozenset({"text", "svg", "app", "typed"})
"""Formats without links to other pages."""


def get_format(format: str | Format) -> Format:
    """Return a built-in format by its name, or an author's format unchanged.

    Raises:
        BadPage: If no format has this name, or the author's format has the name of a built-in one.
    """
    if isinstance(format, Format):
        if FORMATS.get(format.name, format) is not format:
            raise BadPage(f"{format.name!r} is the name of a built-in format: give yours another name.")
        return format
    if format not in FORMATS:
        raise BadPage(f"There is no format {format!r}.{suggestion(str(format), FORMATS)}")
    return FORMATS[format]


def supports(format: str, about: About, settings: Settings) -> bool:
    """Return True if an engine is able to write a format, or to see "images".

    The setting ``markup`` overrules it. See ``App.supports``.

    Raises:
        BadPage: If there is no such format.
    """
    if format == "images":
        return about.abilities.images
    get_format(format)
    if format not in MARKUP_FORMATS:
        return True
    return about.abilities.markup if settings.markup == "auto" else settings.markup == "on"
