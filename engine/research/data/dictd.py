"""Read dictd dictionaries (an index and a text file) and clean their markup.

A line of the index has a word, the offset and the length of its text, separated by tabs; the numbers are in base 64.
The texts are compressed with dictzip, which is compatible with gzip.
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
"""Prefix of entries about the dictionary itself."""


def read_dictd(index: bytes, texts: bytes) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the entries in the order of their texts: the words that lead to each, and its text.

    Args:
        index: the ``.index`` file.
        texts: the ``.dict.dz`` file.

    Raises:
        EngineError: the files have another format.
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
    """Parse a big-endian number in base 64."""
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
    """Return a text without the braces around references, and the references. White space becomes single spaces."""
    found: list[str] = []

    def name(match: re.Match[str]) -> str:
        words = " ".join(match[1].split())
        found.append(words)
        return words

    return " ".join(_REFERENCE.sub(name, text).split()), tuple(dict.fromkeys(found))


def has_address(text: str) -> bool:
    """True if the text has a web or mail address."""
    return _URL.search(text) is not None


def without_see(text: str) -> str:
    """Return a text without sentences that only refer to other entries."""
    left = " ".join(_SEE.sub("", text).split())
    return re.sub(r"[;,]$", ".", left)


def ends(text: str) -> bool:
    """True if the text ends like a sentence."""
    return _ENDS.search(text) is not None


def in_order(senses: Sequence[tuple[bool, str]]) -> str:
    """Join paragraphs. Paragraphs that start a meaning are numbered, if there are several."""
    several = sum(first for first, _ in senses) > 1
    text, number = "", 0
    for first, words in senses:
        number += first
        gap = "\n" if first and text.startswith("1. ") and "\n\n" not in text else "\n\n"
        text += (gap if text else "") + (f"{number}. {words}" if first and several else words)
    return text


def without_brackets(text: str) -> str:
    """Return a text without square brackets and their contents, such as editor's notes and etymologies."""
    depth, kept = 0, []
    for character in text:
        depth += character == "["
        if not depth:
            kept.append(character)
        depth -= character == "]" and depth > 0
    closed = re.sub(r"\s+([.,;:])", r"\1", " ".join("".join(kept).split()))
    return re.sub(r"(?<!\.)\.\.(?!\.)", ".", closed)  # of a sentence that was followed by nothing but a remark


def paragraphs(text: str) -> list[str]:
    """Split a text at empty lines, keeping line ends and indentation."""
    return [part for part in re.split(r"\n[ \t]*\n", text.strip("\n")) if part.strip()]


def indentation(paragraph: str) -> int:
    """Return the indentation of the first line in characters."""
    return len(paragraph) - len(paragraph.lstrip(" "))
