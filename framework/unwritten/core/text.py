"""Checks of text from outside."""

from __future__ import annotations

import re

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def is_text(value: str) -> bool:
    """True if a string can be sent and stored: it has no NUL, and no half of a character, as JSON can contain."""
    return _NO_TEXT.search(value) is None
