"""The format "app": HTML documents that the model writes and that run in a sandboxed iframe (``web.boxes``).

Until the document is complete, its source is shown as text, because an incomplete program does not work.
"""

from __future__ import annotations

import hashlib
import re
from html import unescape
from urllib.parse import urlencode

from markupsafe import Markup, escape

from unwritten_engine import Frame

from ..core.errors import PageFailed
from ..core.localization import gettext_lazy as _
from ..core.paths import BOX_PREFIX
from .links import unescape_line
from .text_ends import CUT_REASONS
from .unsettled import FormattedFrame, clip_spans, insert_marks, render_marks, strip_marks

_PREVIEW_LINES = 14
"""Number of lines of the source shown while it is generated."""

# Where a document without a doctype may begin.
_DOCUMENT_START = re.compile(
    r"<!doctype\b|<html\b|<head\b|<body\b|<(?:style|script|main|div|section|button|canvas|h1|title)\b", re.I
)
_DOCTYPE = re.compile(r"<!doctype\b", re.I)
_DOCUMENT_END = re.compile(r"</html\s*>", re.I)
_TITLE = re.compile(r"<title[^<>]*>([^<]{1,300})</title", re.I)
_ELEMENT = re.compile(r"<[a-z]", re.I)
# A comment, an element that shows no text (without its end tag), or a tag.
_INVISIBLE = re.compile(
    r"<!--(?:[^-]++|-(?!->))*+(?:-->)?|<(script|style|template|noscript)(?=[\s/>])[^<]*+(?:<(?!/\1(?=[\s/>]))[^<]*+)*+"
    r"|<[A-Za-z/!?][^<>]*+>?",
    re.I,
)


class AppFormatter:
    """Renders an ``<iframe>`` for a finished app, and a preview of its source before.

    Args:
        page: The page's key.
        region: The region's name.
        prompt: The region's prompt, used as the iframe's title if the document has none.
        root_path: The prefix under which the app is served, percent-encoded.
    """

    def __init__(self, page: str, region: str, prompt: str, root_path: str = "") -> None:
        self._page = page
        self._region = region
        self._prompt = prompt
        self._box_url = root_path + BOX_PREFIX

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the iframe of a finished app, or the last lines of its source.

        Raises:
            PageFailed: If a finished text has no document, or an incomplete one.
        """
        if not frame.done:
            return FormattedFrame(_preview(frame))
        document = extract_document(frame.text)
        if frame.usage is not None and frame.usage.reason in CUT_REASONS and not _DOCUMENT_END.search(frame.text):
            raise PageFailed(
                _(
                    "The app did not fit into its canvas and is incomplete. "
                    "Its author can make the canvas longer, with canvases=… or tokens=…."
                )
            )
        title = _TITLE.search(document)
        name = " ".join(unescape(title[1]).split()) if title else self._prompt or self._region
        query = urlencode({"page": self._page, "region": self._region, "text": text_hash(frame.text)})
        html = Markup(
            '<iframe class="box" title="{}" sandbox="allow-scripts" referrerpolicy="no-referrer" src="{}"></iframe>'
        ).format(name, f"{self._box_url}?{query}")
        return FormattedFrame(html, len(html), search_text=app_text(document))


def extract_document(text: str) -> str:
    """Return the HTML document in a text, without code fences or prose around it.

    Raises:
        PageFailed: If there is none.
    """
    text = strip_marks(text)
    starts = [match.start() for match in _DOCTYPE.finditer(text)]
    starts = starts or [match.start() for match in _DOCUMENT_START.finditer(text)][:1]
    # A model may repeat the opening that it was given: take the last doctype that no element precedes.
    first = _ELEMENT.search(text, starts[0]) if starts else None
    if first is None:
        raise PageFailed(
            _(
                "The model wrote text instead of an app. Try again: another seed often helps, "
                "and a larger model writes better programs."
            )
        )
    start = max(at for at in starts if at <= first.start())
    end = _DOCUMENT_END.search(text, start)
    document = text[start : end.end() if end else len(text)].rstrip()
    return document.removesuffix("```").rstrip()


def text_hash(text: str) -> str:
    """Return 20 hex digits that identify a text. They make a box's URL change with its text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def app_text(document: str) -> str:
    """Return the visible text of a document on one line, for search."""
    return " ".join(unescape_line(_INVISIBLE.sub(" ", document)).split())


def _preview(frame: Frame) -> Markup:
    text = strip_marks(frame.text)
    start = 0
    for _line in range(max(0, text.count("\n") + 1 - _PREVIEW_LINES)):
        start = text.index("\n", start) + 1
    marked = insert_marks(text[start:], clip_spans(frame.unsettled, start, len(text)))
    source = Markup(render_marks(str(escape(marked))))
    return Markup('<pre class="source"><code>{}</code></pre>').format(source)
