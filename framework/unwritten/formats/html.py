"""The format "html": HTML that the model writes, sanitized by an allow-list as one growing prefix."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from unwritten_engine import Frame, Span

from .links import WIKI_LINK, Linker
from .sanitize_html import clean_html
from .unsettled import FormattedFrame, clip_spans, insert_marks, render_marks, strip_marks, unlink_unsettled

# Models often wrap HTML in a code fence.
_FENCE_START = re.compile(r"^\s*```(?:html)?[ \t]*\n?", re.I)
_FENCE_END = re.compile(r"\n?```\s*$")
_LINK_TAG = re.compile(r"<a[\s/](?:[^<>\"']|\"[^\"]*\"|'[^']*')*>", re.I)
_LINK_END = re.compile(r"</a", re.I)
# An incomplete tag, entity or fence at the end of a prefix.
_INCOMPLETE_END = re.compile(r"(?:<[^<>]{0,2000}|&[#\w]{0,31}|`{1,3})$")


class HTMLFormatter:
    """Renders HTML, or any prefix of it."""

    def __init__(self, linker: Linker) -> None:
        self._linker = linker

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the sanitized HTML. No part of a draft is fixed, because later tags can move earlier elements."""
        text = strip_marks(frame.text)
        fence = _FENCE_START.match(text)
        start = fence.end() if fence else 0
        body = text[start:]
        if fence and frame.done:
            body = _FENCE_END.sub("", body)
        if not frame.done:
            body = _INCOMPLETE_END.sub("", body)
        spans: Sequence[Span] = clip_spans(frame.unsettled, start, start + len(body))
        body, spans = unlink_unsettled(_blank_unsettled_links(body, spans), spans, WIKI_LINK)
        spans = [_move_out_of_tags(body, span) for span in spans]
        html = clean_html(insert_marks(body, spans), self._linker)
        html = Markup(render_marks(render_wiki_links(str(html), self._linker)))
        return FormattedFrame(html, len(html) if frame.done else 0)


def _blank_unsettled_links(text: str, spans: Sequence[Span]) -> str:
    """Replace the attributes of links that are not fully settled by spaces: only settled links can be followed.

    The length stays the same, so the spans stay valid.
    """
    if not spans:
        return text
    parts: list[str] = []
    position = 0
    for match in _LINK_TAG.finditer(text):
        closing = _LINK_END.search(text, match.end())
        end = closing.start() if closing else len(text)
        if any(a < end and b > match.start() for a, b in spans):
            parts += [text[position : match.start()], "<a", " " * (len(match[0]) - 3), ">"]
            position = match.end()
    return "".join([*parts, text[position:]])


def _move_out_of_tags(text: str, span: Span) -> Span:
    """Shorten a span that begins or ends inside a tag, so that its marks stand outside."""
    start, end = max(span[0], 0), min(span[1], len(text))
    if text.rfind("<", 0, start) > text.rfind(">", 0, start):
        tag_end = text.find(">", start)
        start = tag_end + 1 if tag_end >= 0 else start
    if end > start and text.rfind("<", 0, end) > text.rfind(">", 0, end):
        end = max(start, text.rfind("<", 0, end))
    return (start, max(start, end))


def render_wiki_links(html: str, linker: Linker) -> str:
    """Replace ``[[Title]]`` in the text of sanitized HTML by links, except inside ``<a>`` elements."""
    if "[[" not in html:
        return html
    parts: list[str] = []
    depth = 0
    for piece in re.split(r"(<[^<>]*>)", html):
        if piece.startswith("<a"):
            depth += not piece.startswith(("<abbr", "<address", "<article", "<aside"))
        elif piece == "</a>":
            depth -= 1
        elif not depth and not piece.startswith("<"):
            piece = WIKI_LINK.sub(lambda match: _wiki_anchor(match, linker), piece)
        parts.append(piece)
    return "".join(parts)


def _wiki_anchor(match: re.Match[str], linker: Linker) -> str:
    title = Markup(match[1]).unescape()
    return str(linker.anchor(title, Markup(match[2]).unescape() if match[2] else title))
