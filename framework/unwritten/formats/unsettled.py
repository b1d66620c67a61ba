"""Marks: carrying the unsettled spans of a text through a parser, into the HTML that it makes.

Two private-use characters are put around each span before the text is parsed, and turned into
``<span class="unsettled">`` afterwards. A parser that knows nothing of them passes them through as letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from unwritten_engine import Span

OPEN, CLOSE = "\ue000", "\ue001"


PIPE = "\ue002"
"""Stands for the bar in ``[[Title|text]]`` while Markdown looks for the bars of a table."""


_MARKS = re.compile(f"[{OPEN}{CLOSE}]")


_OURS = re.compile(f"[{OPEN}{CLOSE}{PIPE}\0]")


_PIECES = re.compile(r"(<[^<>]*>)")


_TOKENS = re.compile(f"([{OPEN}{CLOSE}])")


def strip_marks(text: str) -> str:
    """A text of the model without characters that would look like our marks, and without zero bytes, which no HTML
    can hold. The length stays the same."""
    return _OURS.sub(" ", text)


def insert_marks(text: str, spans: Sequence[Span]) -> str:
    """The text with marks around the spans, which are in order and do not overlap."""
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
    """HTML with marks in it, as HTML in which the text between marks is in ``<span class="unsettled">``.

    Marks inside tags (in an attribute, say) vanish. A span that crosses elements becomes one span in each.
    """
    if OPEN not in html and CLOSE not in html:
        return html
    parts: list[str] = []
    soft = False
    for piece in _PIECES.split(html):
        if piece.startswith("<") and piece.endswith(">"):
            parts.append(_MARKS.sub("", piece))
            continue
        for token in _TOKENS.split(piece):
            if token == OPEN:
                soft = True
            elif token == CLOSE:
                soft = False
            elif soft and token and not token.isspace():
                parts.append(f'<span class="unsettled">{token}</span>')
            else:
                parts.append(token)
    return "".join(parts)


def clip_spans(spans: Iterable[Span], start: int, end: int) -> tuple[Span, ...]:
    """The parts of spans that lie in ``start:end``, counted from ``start``."""
    cut = ((max(a, start) - start, min(b, end) - start) for a, b in spans if a < end and b > start)
    return tuple((a, b) for a, b in cut if a < b)


def unlink_unsettled(text: str, spans: Sequence[Span], *patterns: re.Pattern[str]) -> tuple[str, Sequence[Span]]:
    """The text with those links that are not settled as mere words, and its spans: a link works as soon as it is
    settled, and not before.

    Args:
        text: of the model.
        spans: its unsettled parts.
        patterns: what links look like; the last group that matched is their words.
    """
    if not spans or "[" not in text:
        return text, spans
    links = [match for pattern in patterns for match in pattern.finditer(text)]
    for match in sorted(links, key=lambda match: match.start(), reverse=True):
        a, b = match.span()
        if any(start < b and end > a for start, end in spans):
            words = match[match.lastindex or 0]
            text = text[:a] + words + text[b:]
            spans = _replaced(spans, a, b, a + len(words))
    return text, spans


def _replaced(spans: Sequence[Span], start: int, old_end: int, new_end: int) -> list[Span]:
    """Spans after ``start:old_end`` became ``start:new_end``; the new text is unsettled as a whole."""
    shift = new_end - old_end
    before = [(a, min(b, start)) for a, b in spans if a < start]
    after = [(max(a, old_end) + shift, b + shift) for a, b in spans if b > old_end]
    return [*before, (start, new_end), *after]


@dataclass(frozen=True, slots=True)
class FormattedFrame:
    """One drawn frame.

    Attributes:
        html: safe, balanced HTML.
        fixed: how many leading characters of ``html`` no later frame will change.
        value: for a shape, what has arrived of it.
        words: of a finished text, the words for search, if they are not those of ``html``.
    """

    html: Markup
    fixed: int = 0
    value: Any = None
    search_text: str | None = None
