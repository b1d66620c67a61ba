"""Remove what chat models add to a text: a repeated opening, and text around JSON."""

from __future__ import annotations

import json
from typing import Final

_ORNAMENTS: Final = frozenset(" \t\n\r*_#`\"'“”‘’>")
"""Characters that a model may add to or drop from a requested opening."""
_MOST_ORNAMENTS: Final = 64
_CLOSING: Final = frozenset(",.;:!?)]’”…")
"""Characters that follow a word without a space."""


def find_continuation(text: str, opening: str, *, final: bool) -> tuple[int, str] | None:
    """Return where the text goes on after a repeated opening, and what separates it from the opening.

    Case and ornaments such as ``**`` around the opening are ignored. A text that does not repeat it goes on from its
    beginning.

    Args:
        text: the model's text so far.
        opening: the requested opening.
        final: nothing follows. Otherwise the result is None while the text may still be a part of the opening.
    """
    wanted = [char.casefold() for char in opening if char not in _ORNAMENTS]
    if not wanted:
        return 0, ""
    matched = begin = end = 0
    for at, char in enumerate(text[: 2 * len(opening) + _MOST_ORNAMENTS]):
        if char in _ORNAMENTS:
            continue
        if matched == len(wanted):
            return end + _closing_ornament(opening, text[:begin].strip(), text[end:at]), ""
        if char.casefold() != wanted[matched]:
            break
        begin, end = (begin if matched else at), at + 1
        matched += 1
    else:
        if not final and len(text) < 2 * len(opening) + _MOST_ORNAMENTS:
            return None
        if matched == len(wanted):
            return len(text), ""
    rest = text.lstrip()
    gap = rest and rest[0] not in _CLOSING and not opening[-1:].isspace()
    return len(text) - len(rest), " " if gap else ""


def _closing_ornament(opening: str, before: str, after: str) -> int:
    """Return the length of the ornament after the opening that closes one before it."""
    own = opening[len(opening.rstrip("".join(_ORNAMENTS))) :]
    for mark in (own, own.rstrip(), before):
        if mark and after.startswith(mark):
            return len(mark)
    return 0


class JSONFilter:
    """Removes white space, fences and text before and after a JSON value.

    Args:
        starts: the characters that the value may begin with; ``{`` for an object.
    """

    def __init__(self, starts: str) -> None:
        self._starts = starts
        self._depth = 0
        self._quoted = self._escaped = self._begun = False
        self.done = False
        """The value is complete."""

    def push(self, piece: str) -> str:
        """Add output; return its part of the value."""
        shown = []
        for char in piece:
            if self.done or (not self._begun and char not in self._starts):
                continue
            self._begun = True
            if self._quoted:
                self._quoted = self._escaped or char != '"'
                self._escaped = char == "\\" and not self._escaped
            elif char.isspace():
                continue
            else:
                self._quoted = char == '"'
                self._depth += (char in "{[") - (char in "}]")
            shown.append(char)
            if char in '}]"' and not self._quoted and self._depth == 0:
                self.done = True
        return "".join(shown)


def is_json(text: str) -> bool:
    """True if a text is valid JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_start_characters(schema: object) -> str:
    """Return the characters that a value of this schema may begin with."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    return {"object": "{", "array": "[", "string": '"'}.get(str(kind), '{["-0123456789tfn')
