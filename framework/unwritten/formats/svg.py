"""The format "svg": a drawing that the model writes, shown while it grows."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

from markupsafe import Markup

from unwritten_engine import Frame, Span

from ..core.errors import PageFailed
from ..core.localization import gettext_lazy as _
from .sanitize_svg import ElementCache, SVGSanitizer
from .unsettled import FormattedFrame, clip_spans, strip_marks

_START = re.compile(r"<svg(?=[\s>/])", re.I)
_TAG_START = re.compile(r"<[A-Za-z][A-Za-z0-9]*")
_ANY_SHAPE = re.compile(r"<(?:path|rect|circle|ellipse|line|polyline|polygon|text|use|g|defs)\b", re.I)
# An incomplete path, polyline or polygon tag: its complete attributes, then the incomplete one.
_INCOMPLETE_SHAPE = re.compile(
    r"<(?:path|polyline|polygon)\b((?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'))*)(\s+(d|points)\s*=\s*[\"']([^\"'<>]*)|[^<>]*)$",
    re.I,
)
_COMMAND = re.compile(r"[MmLlHhVvCcSsQqTtAaZz][^MmLlHhVvCcSsQqTtAaZz]*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)")
_INCOMPLETE_ENTITY = re.compile(r"&[#\w]{0,31}$")

_CACHE_SIZE = 4000
"""Number of tags above which a formatter's cache is cleared."""


class SVGFormatter:
    """Renders the first SVG in a text, or any prefix of it. Code fences and prose around it are ignored.

    Args:
        region: The region's name, for ids.
        prompt: The region's prompt, for the text alternative.
    """

    def __init__(self, region: str, prompt: str) -> None:
        self._region = region
        self._prompt = prompt
        self._cache: ElementCache = {}

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the drawing so far as one ``<svg>`` element. No part of a draft is fixed.

        Raises:
            PageFailed: If a finished text has no drawing, or an empty one.
        """
        text = strip_marks(frame.text)
        start = _find_start(text)
        if start is None or (not frame.done and ">" not in text[start:]):
            if frame.done:
                raise PageFailed(
                    _(
                        "The model wrote text instead of a drawing. Try again: another seed often helps, "
                        "and a larger model draws better."
                    )
                )
            return FormattedFrame(Markup(""))
        body = complete_prefix(text[start:], stroke_partial=not frame.done)
        body = _mark_unsettled_tags(body, clip_spans(frame.unsettled, start, start + len(body)))
        if len(self._cache) > _CACHE_SIZE:
            self._cache.clear()
        drawing = SVGSanitizer(body, self._region, self._prompt, self._cache)
        if frame.done and not drawing.element_count:
            raise PageFailed(
                _(
                    "The model wrote an empty drawing. Try again: another seed often helps, "
                    "and a larger model draws better."
                )
            )
        return FormattedFrame(drawing.html, len(drawing.html) if frame.done else 0)


def _find_start(text: str) -> int | None:
    """Return the position of the first drawing, or None. A repeated opening before any shape is skipped."""
    starts = [match.start() for match in _START.finditer(text)]
    if not starts:
        return None
    shape = _ANY_SHAPE.search(text, starts[0])
    return starts[bisect_right(starts, shape.start() if shape else len(text)) - 1]


def complete_prefix(text: str, *, stroke_partial: bool) -> str:
    """Return a prefix of a drawing without an incomplete tag at its end. Complete parts of a path are kept.

    Args:
        text: Begins with ``<svg``.
        stroke_partial: Show an incomplete path as a line until it has a fill or stroke.
    """
    last_open, last_close = text.rfind("<"), text.rfind(">")
    if last_open <= last_close:
        return _INCOMPLETE_ENTITY.sub("", text)
    before, partial = text[:last_open], text[last_open:]
    match = _INCOMPLETE_SHAPE.fullmatch(partial)
    if not match:
        return before
    tag = partial[: match.start(2)]
    if match[3]:
        data = _complete_points(match[4]) if match[3].lower() == "points" else _complete_path(match[4])
        tag += f' {match[3]}="{data}"' if data else ""
    if not re.search(r"\s(?:d|points)\s*=", tag, re.I):
        return before
    style = "".join(
        f' {name}="{value}"'
        for name, value in (("fill", "none"), ("stroke", "currentColor"))
        if stroke_partial and not re.search(rf"\s{name}\s*=", tag, re.I)
    )
    return f"{before}{tag}{style}/>"


def _complete_path(data: str) -> str:
    """Return path data without its last command, which may be incomplete, or "" if nothing visible is left."""
    commands = _COMMAND.findall(data)[:-1]
    return "".join(commands) if len(commands) > 1 else ""


def _complete_points(data: str) -> str:
    """Return points without the last number, which may be incomplete, or "" if fewer than two points are left."""
    numbers = _NUMBER.findall(data)[:-1]
    pairs = len(numbers) // 2
    return " ".join(numbers[: 2 * pairs]) if pairs > 1 else ""


def _mark_unsettled_tags(text: str, spans: Sequence[Span]) -> str:
    """Add ``class="unsettled"`` to every tag that is not settled, or that is followed by unsettled text."""
    if not spans:
        return text
    parts: list[str] = []
    position = 0
    for match in _TAG_START.finditer(text):
        following = text.find("<", match.end())
        end = len(text) if following < 0 else following
        span = bisect_right(spans, match.start(), key=itemgetter(1))  # the first that ends after the tag begins
        if span < len(spans) and spans[span][0] < end:
            parts += [text[position : match.end()], ' class="unsettled"']
            position = match.end()
    return "".join([*parts, text[position:]])
