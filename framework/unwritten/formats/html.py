"""The format "html": HTML that the model writes, sanitized by an allow-list as one growing prefix."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from markupsafe import Markup

from unwritten_engine import Frame, Span

from .links import MAX_LINKS, WIKI_LINK, Linker
from .sanitize_html import clean_html
from .unsettled import FormattedFrame, clip_spans, insert_marks, render_marks, strip_marks, unlink_unsettled

_LINK_TAG = re.compile(r"<a[\s/](?:[^<>\"']++|\"[^\"]*+\"|'[^']*+')*+>", re.I)
_LINK_END = re.compile(r"</a", re.I)
_TAG = re.compile(r"<[A-Za-z/!?][^<>]*+>?")
# An incomplete entity at the end of a prefix. Incomplete tags are left out by ``clean_html``.
_INCOMPLETE_END = re.compile(r"&#?\w{0,31}\Z")
# A bracket that is escaped forms no link. The sanitizer replaces the entity by a bracket, so it is hidden from it.
_ESCAPED_BRACKET = re.compile(r"&(?:#0*91|#x0*5b|lbrack|lsqb);?", re.I)
_BRACKET = "\ue003"
_RENDERED_TAG = re.compile(r"(<[^<>]*>)")
_TAG_NAME = re.compile(r"</?([a-z0-9]+)")
_UNLINKED_ELEMENTS = frozenset({"a", "code", "kbd", "pre", "samp"})


class HTMLFormatter:
    """Renders HTML, or any prefix of it."""

    def __init__(self, linker: Linker) -> None:
        self._linker = linker

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the sanitized HTML. No part of a draft is fixed, because later tags can move earlier elements."""
        body = strip_marks(frame.text).replace(_BRACKET, " ")
        if not frame.done:
            body = _INCOMPLETE_END.sub("", body)
        spans: Sequence[Span] = clip_spans(frame.unsettled, 0, len(body))
        body, spans = unlink_unsettled(_blank_unsettled_links(body, spans), spans, WIKI_LINK)
        marked = insert_marks(body, _move_out_of_tags(body, spans))
        html = clean_html(_ESCAPED_BRACKET.sub(_BRACKET, marked), self._linker, growing=not frame.done)
        linked = render_marks(render_wiki_links(str(html), self._linker)).replace(_BRACKET, "[")
        return FormattedFrame(Markup(linked), len(linked) if frame.done else 0)


def _blank_unsettled_links(text: str, spans: Sequence[Span]) -> str:
    """Replace the attributes of links that are not fully settled by spaces: only settled links can be followed.

    The length stays the same, so the spans stay valid.
    """
    if not spans:
        return text
    parts: list[str] = []
    position = 0
    ends = [*(match.start() for match in _LINK_END.finditer(text)), len(text)]
    for match in _LINK_TAG.finditer(text):
        end = ends[bisect_left(ends, match.end())]
        first = bisect_left(spans, match.start(), key=lambda span: span[1] - 1)
        if first < len(spans) and spans[first][0] < end:
            parts += [text[position : match.start()], "<a", " " * (len(match[0]) - 3), ">"]
            position = match.end()
    return "".join([*parts, text[position:]])


def _move_out_of_tags(text: str, spans: Sequence[Span]) -> list[Span]:
    """Shorten spans that begin or end inside a tag, so that their marks stand outside."""
    tags = [match.span() for match in _TAG.finditer(text)] if spans else []
    moved: list[Span] = []
    for start, end in spans:
        for tag_start, tag_end in _tag_around(tags, start):
            start = tag_end if text[tag_end - 1] == ">" else tag_start
        for tag_start, _ in _tag_around(tags, end):
            end = tag_start
        moved.append((start, max(start, end)))
    return moved


def _tag_around(tags: Sequence[Span], position: int) -> Sequence[Span]:
    """Return the tag that a position is inside of, if any."""
    index = bisect_left(tags, (position,)) - 1
    return tags[index : index + 1] if index >= 0 and position < tags[index][1] else ()


def render_wiki_links(html: str, linker: Linker) -> str:
    """Replace ``[[Title]]`` in the text of sanitized HTML by links, except inside links and code."""
    if "[[" not in html:
        return html
    parts: list[str] = []
    depth = 0
    left = MAX_LINKS
    for piece in _RENDERED_TAG.split(html):
        name = _TAG_NAME.match(piece)
        if name:
            if name[1] in _UNLINKED_ELEMENTS:
                depth += -1 if piece.startswith("</") else 1
        elif not depth and left and "[[" in piece:
            piece, count = WIKI_LINK.subn(lambda match: _wiki_anchor(match, linker), piece, count=left)
            left -= count
        parts.append(piece)
    return "".join(parts)


def _wiki_anchor(match: re.Match[str], linker: Linker) -> str:
    title = Markup(match[1]).unescape()
    return str(linker.anchor(title, Markup(match[2]).unescape() if match[2] else title))
