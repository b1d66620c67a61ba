"""``Format``: how a canvas's text is requested and rendered, and the interface that every formatter implements."""

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
from .text_ends import finalize_html, finalize_text
from .unsettled import CLOSE, OPEN, FormattedFrame, clip_spans, insert_marks, render_marks, strip_marks

log = logging.getLogger("unwritten")

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, as JSON can contain. No text with it can be sanitized or sent."""
_PARAGRAPH_BREAK = re.compile(r"\n[ \t]*\n\s*")


@dataclass(frozen=True, slots=True)
class RegionContext:
    """What a formatter knows about the region that it renders.

    Attributes:
        linker: Decides where links lead. It knows the page's key.
        region: The region's name, unique on its page.
        prompt: The region's prompt.
        schema: The canvas's schema, or None.
    """

    linker: Linker
    region: str = "body"
    prompt: str = ""
    schema: type[Any] | None = None


class Formatter(Protocol):
    """Renders the frames of one region in order. It may keep state between frames."""

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the frame as safe, balanced HTML. The text may be any prefix of any text.

        Raises:
            PageFailed: If a finished text is not valid in this format.
        """
        ...


MakeFormatter: TypeAlias = Callable[[RegionContext], Formatter]


@dataclass(frozen=True)
class Format:
    """How the text of a canvas is requested and rendered: ``Canvas("…", format=Format("poem", render=verses))``.

    Args:
        name: A short, unique name. It is stored with every text.
        render: Returns the HTML of a text, which may be cut off anywhere. The HTML is sanitized like that of the
            format "html", also if it is ``Markup``, and ``[[Title]]`` in it becomes a link.
        instructions: One or two sentences for the model about the form: "Every text is a poem of four lines."
        examples: Prompts with good answers, for canvases that have none.
        opening: The text that every answer begins with, for canvases that have no opening.
        stop: Strings that end a text, for canvases that have none.
        css_classes: Class names that the HTML may use.
        prose: True if texts are prose. A text that ran out of tokens is then cut back to where it ends well,
            and visitors can edit it sentence by sentence.
        formatter: Creates a ``Formatter`` from a ``RegionContext``. Replaces ``render`` for formats that keep state
            between frames. **Its HTML is not sanitized.**
        placeholder_lines: Height of the placeholder in lines. 0: estimated from the canvas's length.
        examples_file: The file in ``templates/prompts`` with the built-in examples, without its suffix.
        topic_examples: Other files of examples. Each is used if the prompt contains one of its words.
        uses_iframe: True if the HTML contains an ``<iframe>``, which the page's content security policy must allow.

    Raises:
        BadPage: If the name is invalid, an argument has the wrong type, or not exactly one of ``render`` and
            ``formatter`` is given.
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
    placeholder_lines: int = 0
    examples_file: str = ""
    topic_examples: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    uses_iframe: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise BadPage(f"A format needs a short name in lower-case letters, such as 'poem', but got {self.name!r}.")
        if callable(self.render) == callable(self.formatter):
            raise BadPage(
                f"The format {self.name!r} needs exactly one of render=…, a function from a text to its HTML, "
                "and formatter=…."
            )
        for name in ("examples", "stop", "css_classes"):
            if isinstance(getattr(self, name), str):
                raise BadPage(f"Format({name}=…) takes a list, but got the string {getattr(self, name)!r}.")
        object.__setattr__(self, "examples", tuple(self.examples))
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "css_classes", frozenset(self.css_classes))

    def __hash__(self) -> int:
        return hash(self.name)

    def finalize(self, text: str, reason: str) -> str:
        """Return a finished text without an incomplete end. See ``text_ends``."""
        if self.prose:
            return finalize_text(text, reason)
        return finalize_html(text, reason) if self.name == "html" else text

    def create_formatter(self, context: RegionContext) -> Formatter:
        """Return a new formatter for one region."""
        if self.formatter is not None:
            return self.formatter(context)
        assert self.render is not None
        return CustomFormatter(self.name, self.render, frozenset(self.css_classes), context.linker)


class CustomFormatter:
    """Renders with an author's function and sanitizes what it returns.

    The function first gets the plain text, then the text with marks around its unsettled spans. The second result is
    used if it differs from the first only in the marks, so that unsettled words are shown as such.
    """

    def __init__(self, name: str, render: Callable[[str], str], css_classes: frozenset[str], linker: Linker) -> None:
        self._name = name
        self._render = render
        self._css_classes = css_classes
        self._linker = linker
        self._last = Markup("")
        self._warned = False

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the sanitized HTML of the frame. If a draft cannot be rendered, return the previous HTML.

        Raises:
            PageFailed: If the author's function raises for a finished text.
        """
        text = strip_marks(frame.text)
        try:
            html = self._html(text)
            marked = insert_marks(text, frame.unsettled)
            if marked != text:
                marked_html = self._html(marked)
                html = marked_html if marked_html.replace(OPEN, "").replace(CLOSE, "") == html else html
        except PageFailed:
            if frame.done:
                raise
            return FormattedFrame(self._last)
        except Exception as error:
            problem = f"The format {self._name!r} could not render the text: {type(error).__name__}: {error}"
            if frame.done:
                raise PageFailed(problem) from error
            if not self._warned:
                log.warning("%s. A format must be able to render any prefix of a text.", problem, exc_info=True)
            self._warned = True
            return FormattedFrame(self._last)
        cleaned = str(clean_html(html, self._linker, self._css_classes, growing=not frame.done))
        self._last = Markup(render_marks(render_wiki_links(cleaned, self._linker)))
        return FormattedFrame(self._last, len(self._last) if frame.done else 0)

    def _html(self, text: str) -> str:
        html = self._render(text)
        if not isinstance(html, str):
            raise TypeError(f"render returned {type(html).__name__}, expected a string of HTML")
        return _SURROGATE.sub("\ufffd", html)


class TextFormatter:
    """Renders plain text as paragraphs."""

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the text as ``<p>`` elements, with ``<br>`` for single line breaks."""
        text = strip_marks(frame.text)
        html: list[str] = []
        length = fixed = position = 0
        ends = [(match.start(), match.end()) for match in _PARAGRAPH_BREAK.finditer(text)] + [(len(text), len(text))]
        for end, following in ends:
            body = text[position:end].strip()
            if body:
                start = text.index(body, position)
                marked = insert_marks(body, clip_spans(frame.unsettled, start, start + len(body)))
                lines = str(escape(marked)).replace("\n", "<br>\n")
                html.append(f"<p>{render_marks(lines)}</p>\n")
                length += len(html[-1])
                # A paragraph ends where the next one begins. Until then it may get another line.
                if following < len(text) and following <= frame.fixed:
                    fixed = length
            position = following
        if frame.done:
            fixed = length
        return FormattedFrame(Markup("".join(html)), fixed)
