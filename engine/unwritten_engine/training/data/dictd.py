"""Dictionaries of dictd: an index of words with places, and a file of texts.

A line of the index is a word, where its text begins and how long it is, with tabs between them; the numbers are in
base 64. The texts are packed by dictzip, which any gunzip reads.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Final

from ...errors import EngineError

_DIGITS: Final = {
    digit: value for value, digit in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_ABOUT: Final = "00"
"""How the names begin under which a dictionary speaks about itself."""


def read_dictd(index: bytes, texts: bytes) -> Iterator[tuple[tuple[str, ...], str]]:
    """The entries of a dictionary, in the order of its texts: the words that lead to each, and its text.

    Args:
        index: the ``.index`` file.
        texts: the ``.dict.dz`` file.

    Raises:
        EngineError: if these are no such files.
    """
    try:
        whole = gzip.decompress(texts)
        words: dict[tuple[int, int], list[str]] = {}
        for line in index.decode("utf-8").splitlines():
            word, start, length = line.split("\t")[:3]
            words.setdefault((_number(start), _number(length)), []).append(word)
    except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        raise EngineError(f"This is no dictionary of dictd ({error}). Fetch its package again.") from None
    for (at, size), leading in sorted(words.items()):
        if not leading[0].startswith(_ABOUT):
            yield tuple(leading), whole[at : at + size].decode("utf-8", "replace")


def _number(digits: str) -> int:
    """A number in base 64, its highest digit first."""
    value = 0
    for digit in digits:
        value = value * 64 + _DIGITS[digit]
    return value
