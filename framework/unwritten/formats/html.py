"""HTML that the model writes: cleaned by an allow-list as one growing prefix."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from unwritten_engine import Frame, Span

from .links import WIKI_LINK, Linker
from .sanitize_html import clean_html
from .unsettled import FormattedFrame, clip_spans, insert_marks, render_marks, strip_marks, unlink_unsettled

# Models like to wrap HTML in a code fence, with or without a word before it.
_FENCE_START = re.compile(r"^\s*```(?:html)?[ \t]*\n?", re.I)
_FENCE_END = re.compile(r"\n?```\s*$")
_LINK_TAG = re.compile(r"<a[\s/](?:[^<>\"']|\"[^\"]*\"|'[^']*')*>", re.I)
_LINK_END = re.compile(r"</a", re.I)
# At the end of a prefix: half a tag, half an entity, half a fence.
_TAIL = re.compile(r"(?:<[^<>]{0,2000}|&[#\w]{0,31}|`{1,3})$")


class HTMLFormatter:
    """Draws HTML, or any prefix of it."""

    def __init__(self, linker: Linker) -> None:
        self._linker = linker

    def format(self, frame: Frame) -> FormattedFrame:
        """HTML of the text so far. Nothing of it is fixed before the end: a later tag may move it."""
        text = strip_marks(frame.text)
        fence = _FENCE_START.match(text)
        start = fence.end() if fence else 0
        body = text[start:]
        if fence and frame.done:
            body = _FENCE_END.sub("", body)
        if not frame.done:
            body = _TAIL.sub("", body)
        here: Sequence[Span] = clip_spans(frame.unsettled, start, start + len(body))
        body, here = unlink_unsettled(_without_addresses(body, here), here, WIKI_LINK)
        spans = [_outside_tags(body, span) for span in here]
        html = clean_html(insert_marks(body, [span for span in spans if span]), self._linker)
        html = Markup(render_marks(render_wiki_links(str(html), self._linker)))
        return FormattedFrame(html, len(html) if frame.done else 0)


def _without_addresses(text: str, spans: Sequence[Span]) -> str:
    """Links that are not settled from their tag to their end lose their address: a link works as soon as it is
    settled, and not before. The length stays the same, so that spans fit."""
    if not spans:
        return text
    parts: list[str] = []
    done = 0
    for match in _LINK_TAG.finditer(text):
        closing = _LINK_END.search(text, match.end())
        end = closing.start() if closing else len(text)
        if any(a < end and b > match.start() for a, b in spans):
            parts += [text[done : match.start()], "<a", " " * (len(match[0]) - 3), ">"]
            done = match.end()
    return "".join([*parts, text[done:]])


def _outside_tags(text: str, span: Span) -> Span:
    """The span moved out of a tag at either end, so that no mark breaks one."""
    start, end = max(span[0], 0), min(span[1], len(text))
    if text.rfind("<", 0, start) > text.rfind(">", 0, start):
        start = _past(text.find(">", start), start)
    if end > start and text.rfind("<", 0, end) > text.rfind(">", 0, end):
        end = max(start, text.rfind("<", 0, end))
    return (start, max(start, end))


def _past(position: int, otherwise: int) -> int:
    return position + 1 if position >= 0 else otherwise


def render_wiki_links(html: str, linker: Linker) -> str:
    """``[[Title]]`` in the text of cleaned HTML, as links. Not inside a link, where one more would be wrong."""
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
            piece = WIKI_LINK.sub(lambda m: _unescaped_anchor(m, linker), piece)
        parts.append(piece)
    return "".join(parts)


def _unescaped_anchor(match: re.Match[str], linker: Linker) -> str:
    title = Markup(match[1]).unescape()
    return str(linker.anchor(title, Markup(match[2]).unescape() if match[2] else title))
