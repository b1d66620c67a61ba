"""Drawings: SVG that the model writes, shown while it is drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from unwritten_engine import Frame, Span

from ..core.errors import PageFailed
from .sanitize_svg import ElementCache, SVGSanitizer
from .unsettled import FormattedFrame, clip_spans, strip_marks

_BEGIN = re.compile(r"<svg(?=[\s>/])", re.I)
_TAG_NAME = re.compile(r"<[A-Za-z][A-Za-z0-9]*")
_ANY_SHAPE = re.compile(r"<(?:path|rect|circle|ellipse|line|polyline|polygon|text|use|g|defs)\b", re.I)
# A tag that has not ended, with its whole attributes, and what has come of the next one.
_HALF = re.compile(
    r"<(?:path|polyline|polygon)\b((?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'))*)(\s+(d|points)\s*=\s*[\"']([^\"'<>]*)|[^<>]*)$",
    re.I,
)
_COMMAND = re.compile(r"[MmLlHhVvCcSsQqTtAaZz][^MmLlHhVvCcSsQqTtAaZz]*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)")
# What may stand cut off at the end of a prefix besides a tag.
_TAIL = re.compile(r"&[#\w]{0,31}$")

_REMEMBERED = 4000
"""Tags that a drawer knows from earlier frames, at most."""


class SVGFormatter:
    """Draws the first SVG in a text, or any prefix of it. What stands around it, a fence or words, is left out.

    Args:
        region: the region's name, for ids.
        ask: what was asked for, for the text alternative.
    """

    def __init__(self, region: str, ask: str) -> None:
        self._region = region
        self._ask = ask
        self._known: ElementCache = {}

    def format(self, frame: Frame) -> FormattedFrame:
        """The drawing so far. Nothing of it is fixed before the end.

        Raises:
            PageFailed: for a finished text without a drawing.
        """
        text = strip_marks(frame.text)
        begin = _begin(text)
        if begin is None or (not frame.done and ">" not in text[begin:]):
            if frame.done:
                raise PageFailed(
                    "The model wrote words where a drawing belongs. Try again: another seed often helps, "
                    "and a larger model draws better."
                )
            return FormattedFrame(Markup(""))
        body = complete_prefix(text[begin:], stroke_partial=not frame.done)
        body = _softened(body, clip_spans(frame.unsettled, begin, begin + len(body)))
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        drawing = SVGSanitizer(body, self._region, self._ask, self._known)
        if frame.done and not drawing.element_count:
            raise PageFailed(
                "The model began a drawing and drew nothing. Try again: another seed often helps, "
                "and a larger model draws better."
            )
        return FormattedFrame(drawing.html, len(drawing.html) if frame.done else 0)


def _begin(text: str) -> int | None:
    """Where the drawing begins. A model that was given the beginning may still begin again."""
    begins = [match.start() for match in _BEGIN.finditer(text)]
    for at in reversed(begins[1:]):
        if not _ANY_SHAPE.search(text, begins[0], at):
            return at
    return begins[0] if begins else None


def complete_prefix(text: str, *, stroke_partial: bool) -> str:
    """A prefix of a drawing without the half of a tag at its end; of a path, what is whole of it stays.

    Args:
        text: begins with ``<svg``.
        pen: show half a path as a line, until it says what it looks like.
    """
    open_, close = text.rfind("<"), text.rfind(">")
    if open_ <= close:
        return _TAIL.sub("", text)
    before, half = text[:open_], text[open_:]
    match = _HALF.fullmatch(half)
    if not match:
        return before
    head = half[: match.start(2)]
    if match[3]:
        line = _whole_points(match[4]) if match[3].lower() == "points" else _whole_path(match[4])
        head += f' {match[3]}="{line}"' if line else ""
    if not re.search(r"\s(?:d|points)\s*=", head, re.I):
        return before
    look = "".join(
        f' {name}="{value}"'
        for name, value in (("fill", "none"), ("stroke", "currentColor"))
        if stroke_partial and not re.search(rf"\s{name}\s*=", head, re.I)
    )
    return f"{before}{head}{look}/>"


def _whole_path(data: str) -> str:
    """Path data up to its last command that is certainly whole; "" if that draws nothing."""
    commands = _COMMAND.findall(data)[:-1]
    return "".join(commands) if len(commands) > 1 else ""


def _whole_points(data: str) -> str:
    numbers = _NUMBER.findall(data)[:-1]
    pairs = len(numbers) // 2
    return " ".join(numbers[: 2 * pairs]) if pairs > 1 else ""


def _softened(text: str, spans: Sequence[Span]) -> str:
    """The text with a class on every tag that may still change, in itself or in the words after it."""
    if not spans:
        return text
    parts: list[str] = []
    position = 0
    for match in _TAG_NAME.finditer(text):
        following = text.find("<", match.end())
        end = len(text) if following < 0 else following
        if any(a < end and b > match.start() for a, b in spans):
            parts += [text[position : match.end()], ' class="unsettled"']
            position = match.end()
    return "".join([*parts, text[position:]])
