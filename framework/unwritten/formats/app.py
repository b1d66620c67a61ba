"""Apps: whole HTML documents that the model writes, shown in a box of their own (``boxes``) once they are finished.

While one is written its source is shown, as text: half a program does nothing good.
"""

from __future__ import annotations

import hashlib
import re
from html import unescape
from urllib.parse import urlencode

import nh3
from markupsafe import Markup, escape

from unwritten_engine import Frame

from ..core.errors import PageFailed
from ..core.paths import BOX_PREFIX
from .unsettled import FormattedFrame, clip_spans, insert_marks, render_marks, strip_marks

_SHOWN = 14
"""Lines of the source that are shown while it is written."""


_BEGIN = re.compile(
    r"<!doctype\b|<html\b|<head\b|<body\b|<(?:style|script|main|div|section|button|canvas|h1|title)\b", re.I
)


_DOCTYPE = re.compile(r"<!doctype\b", re.I)


_END = re.compile(r"</html\s*>", re.I)


_TITLE = re.compile(r"<title[^<>]*>([^<]{1,300})</title", re.I)


_ELEMENT = re.compile(r"<[a-z]", re.I)


_words = nh3.Cleaner(tags=set(), clean_content_tags={"script", "style", "template", "noscript"})


class AppFormatter:
    """Draws a frame for a finished app, and its source until then.

    Args:
        page: the page's key.
        region: the region's name.
        ask: what was asked for: the frame's name, if the document has no title.
    """

    def __init__(self, page: str, region: str, ask: str) -> None:
        self._page = page
        self._region = region
        self._ask = ask

    def format(self, frame: Frame) -> FormattedFrame:
        """The frame; or how far the source is, and its last lines.

        Raises:
            PageFailed: for a finished text without a document, or with half of one.
        """
        if not frame.done:
            return FormattedFrame(_preview(frame))
        document = extract_document(frame.text)
        if frame.usage is not None and frame.usage.reason == "length" and not _END.search(frame.text):
            raise PageFailed(
                "The app is longer than its canvas has room for, and half a program does not run. "
                "Its author can give the canvas more room, with canvases=… or tokens=…."
            )
        title = _TITLE.search(document)
        address = (
            f"{BOX_PREFIX}?{urlencode({'page': self._page, 'region': self._region, 'text': text_hash(frame.text)})}"
        )
        html = Markup(
            '<iframe class="box" title="{}" sandbox="allow-scripts" referrerpolicy="no-referrer" src="{}"></iframe>'
        ).format(" ".join(unescape(title[1]).split()) if title else self._ask or "An app", address)
        return FormattedFrame(html, len(html), search_text=app_text(document))


def extract_document(text: str) -> str:
    """The HTML document in a text, without a fence or words around it.

    Raises:
        PageFailed: if there is none.
    """
    text = strip_marks(text)
    begins = [match.start() for match in _DOCTYPE.finditer(text)] or [m.start() for m in _BEGIN.finditer(text)][:1]
    # A model that was given the beginning may still begin again.
    begin = next((at for at in reversed(begins) if not _ELEMENT.search(text, begins[0], at)), None)
    if begin is None or not _ELEMENT.search(text, begin):
        raise PageFailed(
            "The model wrote words where an app belongs. Try again: another seed often helps, "
            "and a larger model writes better programs."
        )
    end = _END.search(text, begin)
    document = text[begin : end.end() if end else len(text)].rstrip()
    return document.removesuffix("```").rstrip()


def text_hash(text: str) -> str:
    """A short name for a text, so that the address of a box changes with it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def app_text(document: str) -> str:
    """The words of a document that people read, for search."""
    # Words of two elements are two words.
    return " ".join(unescape(_words.clean(document.replace("<", " <"))).split())


def _preview(frame: Frame) -> Markup:
    text = strip_marks(frame.text)
    count = text.count("\n") + 1 if text.strip() else 0
    start = 0
    for _ in range(max(0, count - _SHOWN)):
        start = text.index("\n", start) + 1
    soft = insert_marks(text[start:], clip_spans(frame.unsettled, start, len(text)))
    source = Markup(render_marks(str(escape(soft))))
    lines = "one line" if count == 1 else f"{count} lines"
    return Markup(
        '<p class="quiet">An app is being written: {} so far.</p><pre class="source"><code>{}</code></pre>'
    ).format(lines, source)
