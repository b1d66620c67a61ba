"""Bidirectional control characters, which can make text look like other text.

An override or an embedding that is never closed changes the order of what follows it, up to the end of the paragraph:
``exe.[U+202E]gpj`` looks like a picture. Generated text and visitors' text are shown beside other text, so titles,
links and search results have no such characters, and the text of a page has none that reach beyond it.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
_UNSAFE = re.compile("[\u202a-\u202e]")
_UNSAFE_IN_VALUES = re.compile(
    "[\u202a-\u202e\u2066-\u2069]|(?<!\\\\)((?:\\\\\\\\)*+\\\\u)(?:202[a-e]|206[6-9])", re.IGNORECASE
)
_INVISIBLE: Final = "\u2060"
"""The word joiner, which has no direction and no width."""


def remove_controls(text: str) -> str:
    """Return text without bidirectional control characters, for titles, links and search results."""
    return text if text.isascii() else text.translate(_CONTROLS)


def neutralize_overrides(text: str) -> str:
    """Return text of the same length in which overrides and embeddings have no effect. Isolates and marks are kept.

    A browser ends isolates with the paragraph.
    """
    return text if text.isascii() else _UNSAFE.sub(_INVISIBLE, text)


def neutralize_json(text: str) -> str:
    """Return JSON of the same length whose strings have no controls with an effect beyond the string."""
    if text.isascii() and "\\u20" not in text:
        return text
    return _UNSAFE_IN_VALUES.sub(lambda found: f"{found[1]}2060" if found[1] else _INVISIBLE, text)
