"""What a format makes of a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup


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
    words: str | None = None
