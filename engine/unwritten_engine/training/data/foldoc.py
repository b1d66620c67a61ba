"""The Free On-line Dictionary of Computing: its articles without tables, programs, addresses and notes to editors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .dictd import read_dictd
from .entries import Dropped, Entry, capital
from .markup import ends, has_address, in_order, indentation, paragraphs, references, without_brackets, without_see
from .packages import Package

_DATE: Final = re.compile(r"\(\d{4}-\d\d-\d\d\)")
_FOLDOC_SENSE: Final = re.compile(r"\s*\d+\.\s+")
_SUBJECT: Final = re.compile(r"<([^<>]{2,60})>\s*")
_SHORT: Final = re.compile(r"\((?:[^()]|\([^()]*\))*\)\s*")
"""What stands in parentheses at the beginning: what it is short for, its plural, or how it is spoken."""
_FOLDOC_SPOKEN: Final = re.compile(r"/[^/\n]{1,40}/\s*(?:or\s*/[^/\n]{1,40}/\s*)?(?:[a-z]{1,4}\.\s*)?")
_CITED: Final = re.compile(r'\s*"[^"]{8,}",\s[^a-z].*$')
"""A book or a paper, up to the end of the paragraph."""
_STANDARD: Final = re.compile(r"\s*\(rfc:\d+\)\.?")
_BODY: Final = 3
"""The indentation of running text; what stands further in is a table, a list or a program."""


def read_foldoc(package: Package, dropped: Dropped) -> Iterator[Entry]:
    """The entries, each meaning of a word as a paragraph.

    Raises:
        EngineError: if the package is not what it was.
    """
    index, texts = package.file("foldoc.index"), package.file("foldoc.dict.dz")
    for _, text in read_dictd(index, texts):
        title = text.partition("\n")[0].strip()
        kept: list[tuple[bool, str]] = []
        links: list[str] = []
        for paragraph in paragraphs(text)[1:]:
            words, named = references(_clean_foldoc(paragraph))
            if words:
                kept.append((_FOLDOC_SENSE.match(paragraph) is not None, words))
                links += named
            elif not _DATE.fullmatch(paragraph.strip()) and not kept:
                break  # what begins with a table or a remark does not go on as a text
        if not kept or not re.search(r"[A-Za-z]{2}", title) or len(title) > 50:
            dropped("nothing but tables, addresses or references", title)
            continue
        yield Entry(capital(title), in_order(kept), "foldoc", links=tuple(dict.fromkeys(links)))


def _clean_foldoc(paragraph: str) -> str:
    """A paragraph as plain words, still with references in braces; "" if it is none."""
    if indentation(paragraph) != _BODY or "\t" in paragraph or re.search(r"\n {4,}\S|\S {3,}\S", paragraph):
        return ""
    words = " ".join(paragraph.split())
    if has_address(words) or _DATE.fullmatch(words):
        return ""
    words = without_brackets(words)
    for front in (_FOLDOC_SENSE, _SUBJECT, _SHORT, _FOLDOC_SPOKEN, _FOLDOC_SENSE):
        words = re.sub(f"^{front.pattern}", "", words)
    words = without_see(_CITED.sub("", _STANDARD.sub("", words))).replace(" -- ", " – ").lstrip(" .,;:")
    words = re.sub(r"(?<=[.!?])[^.!?]*\b(?:in|by|of|at|from|and|the|a|to|for|see)\.$", "", words)
    # A stray bracket, or a number that was cut off its list, is what is left of something else.
    return "" if re.search(r"[<>\[\]|\\~^]|::", words) or len(words) < 12 or not ends(words) else capital(words)
