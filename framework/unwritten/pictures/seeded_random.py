"""Seeded random numbers: the same text gives the same numbers on every machine and Python version."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

HUES = 12
"""Hues of ornaments and avatars. The style sheet has the classes ``hue-0`` to ``hue-11``."""


class SeededRandom:
    """A sequence of random numbers. Case and Unicode normalization of the text do not matter.

    Args:
        text: The seed.
        purpose: Makes the numbers for an ornament and for an avatar of the same text independent.
    """

    def __init__(self, text: str, purpose: str) -> None:
        plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
        self._key = hashlib.sha256(f"{purpose}\0{plain}".encode("utf-8", "surrogatepass")).digest()
        self._count = 0

    def below(self, end: int) -> int:
        """Return an integer from 0 to ``end - 1``."""
        self._count += 1
        digest = hashlib.sha256(self._key + self._count.to_bytes(4, "big")).digest()
        return int.from_bytes(digest[:8], "big") % end

    def integer(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def uniform(self, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``."""
        return low + (high - low) * self.below(10_001) / 10_000

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.uniform(0, 1) < probability

    def choice(self, options: Sequence[T]) -> T:
        """Return one of several options."""
        return options[self.below(len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return all options in random order."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in options]


def fmt(number: float) -> str:
    """Return a number for SVG, with at most one decimal."""
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def fmt_xy(x: float, y: float) -> str:
    """Return a point for SVG path data."""
    return f"{fmt(x)} {fmt(y)}"
