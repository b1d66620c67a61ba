"""Formats of authors: a function from a text to HTML, which is cleaned whatever it returns."""

from __future__ import annotations

import logging
from collections.abc import Callable

from markupsafe import Markup

from unwritten_engine import Frame

from ..errors import PageFailed
from ..showing.links import Linker
from ..showing.sanitize import clean_html
from .drawn import FormattedFrame
from .html import wiki_links
from .marks import CLOSE, OPEN, insert_marks, render_marks, strip_marks

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
        self._last = Markup(render_marks(wiki_links(cleaned, self._linker)))
        return FormattedFrame(self._last, len(self._last) if frame.done else 0)

    def _html(self, text: str) -> str:
        html = self._draw(text)
        if not isinstance(html, str):
            raise TypeError(f"draw returned {type(html).__name__}, and not HTML as a string")
        return str(html)


def _bare(html: str) -> str:
    return html.replace(OPEN, "").replace(CLOSE, "")
