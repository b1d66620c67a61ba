"""A format: how a text is asked for, how it is drawn while it grows, and what holds for it besides.

Every format is one ``Format``, ours (``FORMATS``, in the package's ``__init__``) and those of authors alike.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from markupsafe import Markup, escape

from unwritten_engine import Example, Frame

from ..core.errors import BadPage, PageFailed
from .html import render_wiki_links
from .links import Linker
from .sanitize_html import clean_html
from .unsettled import CLOSE, OPEN, FormattedFrame, clip_spans, insert_marks, render_marks, strip_marks


@dataclass(frozen=True, slots=True)
class RegionContext:
    """Where a region stands: what its drawer may know of the page around it.

    Attributes:
        linker: decides where links lead; it knows the page's key.
        region: the region's name, which is unique on its page.
        ask: what was asked for, in words.
        shape: the canvas's shape, if it has one.
    """

    linker: Linker
    region: str = "body"
    prompt: str = ""
    schema: type[Any] | None = None


class Formatter(Protocol):
    """Draws the frames of one region, one after another, and may remember what it has drawn before."""

    def format(self, frame: Frame) -> FormattedFrame:
        """Safe and balanced HTML of the text so far, whatever the text, and whichever prefix of it has arrived.

        Raises:
            PageFailed: for a finished text that this format cannot accept.
        """
        ...


MakeFormatter: TypeAlias = Callable[[RegionContext], Formatter]


_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Format:
    """How the text of a canvas is asked for, read and drawn: ``Canvas("…", format=Format("poem", draw=verses))``.

    Args:
        name: a short word of its own; it is kept with every text.
        draw: from the text so far, whole or cut off anywhere, to HTML. What it returns is cleaned by the allow-list
            of the format "html", whether it is declared safe or not, and ``[[Title]]`` in it becomes a link.
        manner: one or two sentences for the model about the form of such texts: "Every text is a poem of four lines."
        examples: asks with good answers, for canvases that bring none.
        opening: what every text begins with, for canvases that bring no opening.
        stop: strings that end a text, for canvases that bring none.
        classes: class names that the HTML may carry, for your style sheet.
        prose: whether a text whose room ran out is cut back to its last whole sentence.
        drawer: in place of ``draw``, for formats that remember what they drew before or know what is fixed of it: from
            a ``Place`` to a ``Drawer``. **What a drawer returns is not cleaned again.**
        drawn_words: whether the words and links of a text are those of its HTML, or those of the text itself.
        lines: how many lines high its placeholder is; 0 for as many as its length makes likely.
        sheet: the file in ``templates/prompts`` with our examples.
        sheets: other such files, each with the words in an author's prompt that ask for it.
        frames: whether the HTML may hold a frame, which the policy of its page must allow.

    Raises:
        BadPage: for a name that is none, or without exactly one of ``draw`` and ``drawer``.
    """

    name: str
    _: KW_ONLY
    render: Callable[[str], str] | None = None
    instructions: str = ""
    examples: Sequence[Example] = ()
    opening: str = ""
    stop: Sequence[str] = ()
    css_classes: Collection[str] = ()
    prose: bool = False
    formatter: MakeFormatter | None = None
    index_html: bool = True
    placeholder_lines: int = 0
    examples_file: str = ""
    topic_examples: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    uses_iframe: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise BadPage(
                f"A format has a short name in lower-case letters, such as 'poem', but this has {self.name!r}."
            )
        if callable(self.render) == callable(self.formatter):
            raise BadPage(f"The format {self.name!r} takes draw=…, a function from a text to its HTML (or a drawer=…).")
        for name in ("examples", "stop", "classes"):
            if isinstance(getattr(self, name), str):
                raise BadPage(f"Format({name}=…) takes a list, but got the string {getattr(self, name)!r}.")
        object.__setattr__(self, "examples", tuple(self.examples))
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "classes", frozenset(self.css_classes))

    def __hash__(self) -> int:
        return hash(self.name)

    def create_formatter(self, context: RegionContext) -> Formatter:
        """A drawer for the region at a place."""
        if self.formatter is not None:
            return self.formatter(context)
        assert self.render is not None
        return CustomFormatter(self.name, self.render, frozenset(self.css_classes), context.linker)


log = logging.getLogger("unwritten")


class CustomFormatter:
    """Draws with an author's function.

    The function gets the text with marks around what is not settled, if it leaves them alone, so that its words look
    unsettled too. It does if what it returns for the text without marks is the same without marks.

    Args:
        name: the format's name, for messages.
        draw: the author's function.
        classes: class names that its HTML may carry.
        linker: decides where links lead.
    """

    def __init__(self, name: str, draw: Callable[[str], str], classes: frozenset[str], linker: Linker) -> None:
        self._name = name
        self._draw = draw
        self._classes = classes
        self._linker = linker
        self._last = Markup("")
        self._told = False

    def format(self, frame: Frame) -> FormattedFrame:
        """HTML of the text so far. While a draft cannot be drawn, the one before it stays.

        Raises:
            PageFailed: if the author's function raises for a finished text.
        """
        text = strip_marks(frame.text)
        try:
            html = self._html(text)
            soft = insert_marks(text, frame.unsettled)
            if soft != text:
                drawn = self._html(soft)
                html = drawn if _bare(drawn) == html else html
        except PageFailed:
            if frame.done:
                raise
            return FormattedFrame(self._last)
        except Exception as error:
            problem = f"The format {self._name!r} could not draw the text: {type(error).__name__}: {error}"
            if frame.done:
                raise PageFailed(problem) from error
            if not self._told:
                log.warning("%s. A format must draw any beginning of a text.", problem, exc_info=True)
            self._told = True
            return FormattedFrame(self._last)
        cleaned = str(clean_html(html, self._linker, self._classes))
        self._last = Markup(render_marks(render_wiki_links(cleaned, self._linker)))
        return FormattedFrame(self._last, len(self._last) if frame.done else 0)

    def _html(self, text: str) -> str:
        html = self._draw(text)
        if not isinstance(html, str):
            raise TypeError(f"draw returned {type(html).__name__}, and not HTML as a string")
        return str(html)


def _bare(html: str) -> str:
    return html.replace(OPEN, "").replace(CLOSE, "")


_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")


class TextFormatter:
    """Draws text as paragraphs."""

    def format(self, frame: Frame) -> FormattedFrame:
        """HTML of the text so far."""
        text = strip_marks(frame.text)
        html: list[str] = []
        length = fixed = position = 0
        ends = [(m.start(), m.end()) for m in _PARAGRAPH.finditer(text)] + [(len(text), len(text))]
        for end, following in ends:
            body = text[position:end].strip()
            if body:
                start = text.index(body, position)
                soft = insert_marks(body, clip_spans(frame.unsettled, start, start + len(body)))
                lines = str(escape(soft)).replace("\n", "<br>\n")
                html.append(f"<p>{render_marks(lines)}</p>\n")
                length += len(html[-1])
                # A paragraph is over when the next one has begun: until then a line may still join it.
                if following < len(text) and following <= frame.fixed:
                    fixed = length
            position = following
        if frame.done:
            fixed = length
        return FormattedFrame(Markup("".join(html)), fixed)
