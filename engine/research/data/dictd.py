"""Dictionaries of dictd: an index of words with places, and a file of texts.

A line of the index is a word, where its text begins and how long it is, with tabs between them; the numbers are in
base 64. The texts are packed by dictzip, which any gunzip reads.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from unwritten_engine.errors import EngineError

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


_REFERENCE: Final = re.compile(r"\{\s*([^{}]+?)\s*\}")
_URL: Final = re.compile(r"https?:|ftp:|www\.|@\w+\.|\b\w+\.(?:com|org|net|edu)\b")
_SEE: Final = re.compile(
    r"(?:^|(?<=[.;,!?)”\"])\s+)\(?(?:also )?(?:see also|see|compare|contrast|cf\.?|syn\.?(?: with)?|synonyms?:?|"
    r"same as|antonyms?:?|opposite:|oppose|ant\.) [^.;]*(?:\.|;|$)\)?",
    re.IGNORECASE,
)
_ENDS: Final = re.compile(r"[.!?…][\"'”’)]*$")


def references(text: str) -> tuple[str, tuple[str, ...]]:
    """A text without the braces around names of other entries, and these names. White space becomes single spaces."""
    found: list[str] = []

    def name(match: re.Match[str]) -> str:
        words = " ".join(match[1].split())
        found.append(words)
        return words

    return " ".join(_REFERENCE.sub(name, text).split()), tuple(dict.fromkeys(found))


def has_address(text: str) -> bool:
    """Whether there is an address of the web or of a mailbox in a text."""
    return _URL.search(text) is not None


def without_see(text: str) -> str:
    """A text without the sentences that only send the reader elsewhere."""
    left = " ".join(_SEE.sub("", text).split())
    return re.sub(r"[;,]$", ".", left)


def ends(text: str) -> bool:
    """Whether a text ends as a sentence does."""
    return _ENDS.search(text) is not None


def in_order(senses: Sequence[tuple[bool, str]]) -> str:
    """Paragraphs as one text. Those that begin a meaning of their own are numbered, if there are several."""
    several = sum(first for first, _ in senses) > 1
    text, number = "", 0
    for first, words in senses:
        number += first
        gap = "\n" if first and text.startswith("1. ") and "\n\n" not in text else "\n\n"
        text += (gap if text else "") + (f"{number}. {words}" if first and several else words)
    return text


def without_brackets(text: str) -> str:
    """A text without what stands in square brackets, such as remarks of editors and origins of words."""
    depth, kept = 0, []
    for character in text:
        depth += character == "["
        if not depth:
            kept.append(character)
        depth -= character == "]" and depth > 0
    closed = re.sub(r"\s+([.,;:])", r"\1", " ".join("".join(kept).split()))
    return re.sub(r"(?<!\.)\.\.(?!\.)", ".", closed)  # of a sentence that was followed by nothing but a remark


def paragraphs(text: str) -> list[str]:
    """What stands between empty lines, with its line ends and its indentation."""
    return [part for part in re.split(r"\n[ \t]*\n", text.strip("\n")) if part.strip()]


def indentation(paragraph: str) -> int:
    """How far the first line of a paragraph is from the left edge, in characters."""
    return len(paragraph) - len(paragraph.lstrip(" "))
