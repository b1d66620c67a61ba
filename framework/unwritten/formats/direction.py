"""The direction of text: that of a page follows its language, that of a block of generated text its first letter."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from markupsafe import Markup

from ..core.bidi import neutralize_overrides
from .unsettled import FormattedFrame

_RIGHT_TO_LEFT_LANGUAGES = frozenset(
    "ar arc arz ckb dv fa glk he iw khw ks lrc mzn nqo pnb prs ps sd syr ug ur yi".split()
)
_RIGHT_TO_LEFT_SCRIPTS = frozenset("adlm arab hebr mand nkoo rohg samr syrc thaa".split())

# A browser takes the direction of an element from its first letter, but not from elements in it that have a direction.
# So a paragraph at the start of an item inherits that of the item, and lists and tables get theirs here.
_BLOCK = re.compile(
    r'<(p|h[1-6]|li|td|th|dt|dd|blockquote|caption|figcaption|summary|ul|ol|table)((?: [\w-]+="[^"<>]*+")*+)>(\s*+<p>)?'
)
_CONTAINERS = frozenset({"ul", "ol", "table"})
_BEFORE_LETTER = re.compile(r"(?:<(?!/(?:ul|ol|table)>)[^<>]*+>|&[#\w]++;|[^<&\w]|[\d_])*+")
_REACH = 400
"""Number of characters in which the first letter of a list or table is searched for."""


def text_direction(language: str) -> str:
    """Return the direction of a language tag such as ``ar`` or ``az-Arab``: "rtl" or "ltr"."""
    primary, *subtags = language.casefold().replace("_", "-").split("-")
    script = next((subtag for subtag in subtags if len(subtag) == 4 and subtag.isalpha()), None)
    is_right_to_left = script in _RIGHT_TO_LEFT_SCRIPTS if script else primary in _RIGHT_TO_LEFT_LANGUAGES
    return "rtl" if is_right_to_left else "ltr"


class BlockDirections:
    """Gives headings, paragraphs, items and cells each the direction of their text, in the frames of one region."""

    def __init__(self) -> None:
        self._fixed = ""  # the fixed HTML of the previous frame, without and with directions
        self._fixed_result = ""

    def add(self, formatted: FormattedFrame) -> FormattedFrame:
        """Return a rendered frame with directions. Only what was not fixed before is looked at."""
        html = neutralize_overrides(str(formatted.html))
        if formatted.fixed < len(self._fixed) or not html.startswith(self._fixed):
            self._fixed = self._fixed_result = ""
        self._fixed_result += _add_directions(html[len(self._fixed) : formatted.fixed])
        self._fixed = html[: formatted.fixed]
        result = self._fixed_result + _add_directions(html[formatted.fixed :])
        return replace(formatted, html=Markup(result), fixed=len(self._fixed_result))


def _add_directions(html: str) -> str:
    return _BLOCK.sub(_with_direction, html)


def _with_direction(block: re.Match[str]) -> str:
    direction = "auto" if block[1] not in _CONTAINERS else _first_direction(block.string, block.end(2) + 1)
    attribute = "" if ' dir="' in block[2] or not direction else f' dir="{direction}"'
    return f"<{block[1]}{block[2]}{attribute}>{block[3] or ''}"


def _first_direction(html: str, start: int) -> str:
    """Return the direction of the first letter of a list or table. "": it has none yet."""
    before = _BEFORE_LETTER.match(html, start, start + _REACH)
    letter = html[before.end() : before.end() + 1] if before else ""
    return {"L": "ltr", "R": "rtl", "AL": "rtl"}.get(unicodedata.bidirectional(letter), "") if letter else ""
