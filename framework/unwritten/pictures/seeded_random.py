"""Seeds: the same numbers for the same text, on every machine and with every Python, for what is drawn from a text."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


HUES = 12
"""Colours that a seeded picture may have; the style sheet knows them as ``hue-0`` and on."""


class SeededRandom:
    """Numbers that are drawn from a text, one after the other. Case, and how Unicode spells a letter, do not matter.

    Args:
        text: what they depend on.
        purpose: what they are for, so that two pictures of one text have nothing in common.
    """

    def __init__(self, text: str, purpose: str) -> None:
        plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
        self._key = hashlib.sha256(f"{purpose}\0{plain}".encode("utf-8", "surrogatepass")).digest()
        self._drawn = 0

    def below(self, end: int) -> int:
        """A whole number from 0 to before ``end``."""
        self._drawn += 1
        digest = hashlib.sha256(self._key + self._drawn.to_bytes(4, "big")).digest()
        return int.from_bytes(digest[:8], "big") % end

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + self.below(high - low + 1)

    def between(self, low: float, high: float) -> float:
        """A number between two others."""
        return low + (high - low) * self.below(10_001) / 10_000

    def chance(self, share: float) -> bool:
        """True in this share of all cases."""
        return self.between(0, 1) < share

    def one_of(self, things: Sequence[T]) -> T:
        """One of several."""
        return things[self.below(len(things))]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """All of them, in another order."""
        left = list(things)
        return [left.pop(self.below(len(left))) for _ in things]


def n(number: float) -> str:
    """A number as SVG has it: one digit behind the point, and nothing that says nothing."""
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def at(x: float, y: float) -> str:
    """A point, as path data has it."""
    return f"{n(x)} {n(y)}"
