"""The Jargon File: how hackers speak, without its ways of pronouncing and its remarks on where a word is from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .dictd import read_dictd
from .entries import Dropped, Entry, capital
from .markup import ends, has_address, in_order, paragraphs, references, without_brackets, without_see
from .packages import Package

_JARGON_PART: Final = re.compile(
    r"^(?:(?:n|v|vt|vi|adj|adv|interj|excl|pl|prov|abbrev|obs|quant|cmd|suff|pref|imp)\.[\s,/]*)+"
)
_JARGON_SENSE: Final = re.compile(r"\s*\d+\.\s+")
_JARGON_SPOKEN: Final = re.compile(r"(?<=\s)/[^/\n]{1,40}/(?:\s*,)?\s*")


def read_jargon(package: Package, dropped: Dropped) -> Iterator[Entry]:
    """The entries, each meaning of a word as a paragraph.

    Raises:
        EngineError: if the package is not what it was.
    """
    index, texts = package.file("jargon.index"), package.file("jargon.dict.dz")
    for _, text in read_dictd(index, texts):
        title = text.partition("\n")[0].strip()
        kept: list[tuple[bool, str]] = []
        links: list[str] = []
        for paragraph in paragraphs(text)[1:]:
            words, named = references(paragraph)
            words = _clean_jargon(words)
            if words:
                kept.append((_JARGON_SENSE.match(paragraph) is not None, words))
                links += named
            elif not kept and has_address(paragraph):
                break
        if kept and re.search(r"[A-Za-z]{2}", title) and len(title) <= 50:
            yield Entry(capital(title), in_order(kept), "jargon", links=tuple(dict.fromkeys(links)))
        else:
            dropped("nothing but references", title)


def _clean_jargon(words: str) -> str:
    """A paragraph as plain words; "" if nothing is left of it."""
    if has_address(words):
        return ""
    words = without_brackets(words)
    for _ in range(2):  # "1. vi. To succeed", and "n. 1. A program"
        words = _JARGON_PART.sub("", re.sub(f"^{_JARGON_SENSE.pattern}", "", words))
    words = without_see(_JARGON_SPOKEN.sub("", words))
    words = re.sub(r"^\((?:alt|also|var|from|pl)\b[^()]*\)\s*", "", re.sub(r"([“‘(]) ", r"\1", words))
    words = words.replace(".:", ":")
    return (
        ""
        if re.search(r"[<>\[\]|\\~^{}]|\*\*|\s[),.]|/\w+['\"]\w*/", words) or len(words) < 12 or not ends(words)
        else capital(words)
    )
