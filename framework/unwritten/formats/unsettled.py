"""Unsettled spans: how they pass through a parser and become ``<span class="unsettled">`` in its HTML.

Two private-use characters, the marks, are put around each span before the text is parsed, and replaced by elements
afterwards. Parsers pass them through like letters.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from markupsafe import Markup

from unwritten_engine import Span

OPEN, CLOSE = "\ue000", "\ue001"
"""The marks at the start and end of an unsettled span."""

PIPE = "\ue002"
"""Replaces the ``|`` of ``[[Title|text]]`` while Markdown parses tables. Also marks unsettled numbers in JSON."""

_MARKS = re.compile(f"[{OPEN}{CLOSE}]")
_RESERVED = re.compile(f"[{OPEN}{CLOSE}{PIPE}\0\ud800-\udfff]")
_TAG = re.compile(r"(<[^<>]*>)")
_MARK = re.compile(f"([{OPEN}{CLOSE}])")


@dataclass(frozen=True, slots=True)
class FormattedFrame:
    """A frame rendered by a format.

    Attributes:
        html: Safe, balanced HTML.
        fixed: Number of leading characters of ``html`` that no later frame will change.
        value: For a canvas with a schema, its value so far.
        search_text: The plain text of a finished frame for search, if it differs from the text of ``html``.
    """

    html: Markup
    fixed: int = 0
    value: Any = None
    search_text: str | None = None


def strip_marks(text: str) -> str:
    """Replace marks, zero bytes and half surrogate pairs by spaces: HTML cannot hold them. The length stays."""
    return _RESERVED.sub(" ", text)


def insert_marks(text: str, spans: Sequence[Span]) -> str:
    """Return the text with marks around the spans, which must be in order and not overlap."""
    if not spans:
        return text
    parts: list[str] = []
    position = 0
    for start, end in spans:
        if start < end:
            parts += [text[position:start], OPEN, text[start:end], CLOSE]
            position = end
    parts.append(text[position:])
    return "".join(parts)


def render_marks(html: str) -> str:
    """Replace marks in HTML: the text between them is put into ``<span class="unsettled">``.

    Marks inside tags, for example in an attribute, are removed. A span that crosses elements becomes one span in each.
    """
    if OPEN not in html and CLOSE not in html:
        return html
    parts: list[str] = []
    unsettled = False
    for piece in _TAG.split(html):
        if piece.startswith("<") and piece.endswith(">"):
            parts.append(_MARKS.sub("", piece))
            continue
        for token in _MARK.split(piece):
            if token == OPEN:
                unsettled = True
            elif token == CLOSE:
                unsettled = False
            elif unsettled and token and not token.isspace():
                parts.append(f'<span class="unsettled">{token}</span>')
            else:
                parts.append(token)
    return "".join(parts)


def clip_spans(spans: Sequence[Span], start: int, end: int) -> tuple[Span, ...]:
    """Return the parts of spans inside ``start:end``, as offsets from ``start``. The spans must be in order."""
    clipped: list[Span] = []
    for index in range(bisect_right(spans, start, key=itemgetter(1)), len(spans)):
        a, b = spans[index]
        if a >= end:
            break
        if a < b:
            clipped.append((max(a, start) - start, min(b, end) - start))
    return tuple(clipped)


def unlink_unsettled(
    text: str,
    spans: Sequence[Span],
    *patterns: re.Pattern[str],
    around: Callable[[re.Match[str]], tuple[str, str]] = lambda match: ("", ""),
) -> tuple[str, Sequence[Span]]:
    """Replace links that are not fully settled by their text: only settled links can be followed.

    Args:
        text: Generated text.
        spans: Its unsettled spans.
        patterns: Match links. The last group that matched is the link's text.
        around: Returns what is put before and after a link's text.

    Returns:
        The new text and its unsettled spans.
    """
    if not spans or "[" not in text:
        return text, spans
    links = sorted((match for pattern in patterns for match in pattern.finditer(text)), key=lambda match: match.start())
    parts: list[str] = []
    moved: list[Span] = []
    position = length = index = 0

    def keep(end: int) -> None:
        """Copy the text up to ``end``, with its spans."""
        nonlocal position, length, index
        shift = length - position
        while index < len(spans) and spans[index][0] < end:
            a, b = max(spans[index][0], position), min(spans[index][1], end)
            if a < b:
                moved.append((a + shift, b + shift))
            if spans[index][1] > end:
                break
            index += 1
        parts.append(text[position:end])
        position, length = end, end + shift

    for match in links:
        start, end = match.span()
        if start < position:
            continue
        keep(start)
        if index < len(spans) and spans[index][0] < end:
            label = match[match.lastindex or 0]
            before, after = around(match)
            parts += [before, label, after]
            length += len(before)
            moved.append((length, length + len(label)))
            position, length = end, length + len(label) + len(after)
    keep(len(text))
    return "".join(parts), moved
