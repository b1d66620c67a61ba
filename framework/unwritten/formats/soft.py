"""Values of a shape that may still change: ordinary texts and numbers, of which the unsettled parts look unsettled.

A value is found by marking it in the JSON before that is parsed (``marks.py``). What comes out is a ``str``, an
``int`` or a ``float`` like any other for an author's template, and only when it is printed does it have marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup, escape

from unwritten_engine import Span

from .marks import BAR, CLOSE, OPEN, render_marks

_VALUE = re.compile(r'"(?:[^"\\]|\\.)*("?)|-?\d[\d.eE+-]*', re.S)
# One character of a JSON string, escaped or not, perhaps cut off; two escapes where one character is written so.
_CHARACTER = re.compile(r"\\u[dD][89abAB]..(?:\\(?:u.{0,4})?)?|\\u.{0,4}|\\.?|.", re.S)


class _Unsettled:
    html: Markup

    def __html__(self) -> Markup:
        return self.html


class UnsettledText(_Unsettled, str):
    """A text with unsettled parts."""


class Chosen(str):
    """A text that is one of several, as an enum's value is."""

    @property
    def value(self) -> str:
        """The text, as a finished enum has it."""
        return str(self)


class UnsettledChoice(_Unsettled, Chosen):
    """The same with unsettled parts."""


def chosen(text: str) -> Chosen:
    """A text as a choice, unsettled where it is."""
    if not isinstance(text, UnsettledText):
        return Chosen(text)
    soft = UnsettledChoice(text)
    soft.html = text.html
    return soft


class UnsettledInt(_Unsettled, int):
    """An unsettled whole number."""


class UnsettledFloat(_Unsettled, float):
    """An unsettled number."""


def marked_json(text: str, spans: Sequence[Span]) -> str:
    """JSON, or a prefix of it, with marks in the values that the spans touch: around the unsettled characters of
    texts, and numbers as marked texts. Keys stay as they are.

    Args:
        text: JSON without marks.
        spans: its unsettled parts, in order.
    """
    parts: list[str] = []
    done = 0
    for match in _VALUE.finditer(text):
        start, end = match.span()
        here = [span for span in spans if span[0] < end and span[1] > start]
        if not here or text[end:].lstrip()[:1] == ":":
            continue
        parts.append(text[done:start])
        done = end
        if text[start] == '"':
            closed = bool(match[1])
            parts += ['"', *_marked_characters(text, start + 1, end - closed, here)]
            # Nothing may follow an escape that is cut off.
            parts += [f'{CLOSE}"'] if closed else []
        elif end < len(text):
            parts.append(f'"{BAR}{match[0]}"')
        else:
            parts.append(match[0])  # more digits may follow
    return "".join([*parts, text[done:]])


def _marked_characters(text: str, start: int, end: int, spans: Sequence[Span]) -> Iterator[str]:
    soft = False
    for match in _CHARACTER.finditer(text, start, end):
        now = any(a < match.end() and b > match.start() for a, b in spans)
        if now != soft:
            yield OPEN if now else CLOSE
            soft = now
        yield match[0]


def unsettled_values(data: Any) -> Any:
    """Parsed JSON with the marked texts in it as soft values."""
    if isinstance(data, dict):
        return {name: unsettled_values(value) for name, value in data.items()}
    if isinstance(data, list):
        return [unsettled_values(item) for item in data]
    if not isinstance(data, str):
        return data
    if data.startswith(BAR):
        return _number(data.removeprefix(BAR))
    if OPEN not in data and CLOSE not in data:
        return data
    text = UnsettledText(data.replace(OPEN, "").replace(CLOSE, ""))
    text.html = Markup(render_marks(str(escape(data))))
    return text


def _number(digits: str) -> Any:
    try:
        number: UnsettledInt | UnsettledFloat = UnsettledInt(digits)
    except ValueError:
        try:
            number = UnsettledFloat(digits)
        except ValueError:
            return None
    number.html = Markup(render_marks(f"{OPEN}{escape(digits)}{CLOSE}"))
    return number
