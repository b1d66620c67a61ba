"""The direction of text: that of a page follows its language, that of a block of generated text its first letter."""

from __future__ import annotations

import re
from dataclasses import replace

from markupsafe import Markup

from .unsettled import FormattedFrame

_RIGHT_TO_LEFT_LANGUAGES = frozenset(
    "ar arc arz ckb dv fa glk he iw khw ks lrc mzn nqo pnb prs ps sd syr ug ur yi".split()
)
_RIGHT_TO_LEFT_SCRIPTS = frozenset("adlm arab hebr mand nkoo rohg samr syrc thaa".split())

# A browser takes the direction of an element from its first letter, but not from elements in it that have a direction.
# So a paragraph at the start of an item inherits that of the item.
_BLOCK = re.compile(
    r'<(p|h[1-6]|li|td|th|dt|dd|blockquote|caption|figcaption|summary)((?: [\w-]+="[^"<>]*+")*+)>(\s*+<p>)?'
)


def text_direction(language: str) -> str:
    """Return the direction of a language tag such as ``ar`` or ``az-Arab``: "rtl" or "ltr"."""
    primary, *subtags = language.casefold().replace("_", "-").split("-")
    script = next((subtag for subtag in subtags if len(subtag) == 4 and subtag.isalpha()), None)
    is_right_to_left = script in _RIGHT_TO_LEFT_SCRIPTS if script else primary in _RIGHT_TO_LEFT_LANGUAGES
    return "rtl" if is_right_to_left else "ltr"


def with_directions(formatted: FormattedFrame) -> FormattedFrame:
    """Return rendered text whose headings, paragraphs, items and cells each have the direction of their text."""
    fixed = _add_directions(formatted.html[: formatted.fixed])
    rest = _add_directions(formatted.html[formatted.fixed :])
    return replace(formatted, html=Markup(fixed + rest), fixed=len(fixed))


def _add_directions(html: str) -> str:
    return _BLOCK.sub(_with_direction, html)


def _with_direction(block: re.Match[str]) -> str:
    direction = "" if ' dir="' in block[2] else ' dir="auto"'
    return f"<{block[1]}{block[2]}{direction}>{block[3] or ''}"
