"""Links: names of other entries put into double square brackets, where a text first mentions them."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_NAME_BEFORE: Final = re.compile(
    r"\b(?!(?:The|An?|In|On|At|By|From|Of|To|For|Its?|His|Her|This|While|When|After|Before|Since|During|As|Like)\b)"
    r"[A-Z][\w.'’-]*(?: of| of the| and the)? $"
)
_NAME_AFTER: Final = re.compile(r"(?: of| of the)? [A-Z]")
_LONGEST: Final = 4
"""Words that a linked name may have."""
_MOST: Final = 4
_SHORTEST: Final = 4
"""Letters that a name must have, if its source has not marked it."""
_COMMON: Final = 0.01
"""The share of texts from which on a word that they mention is one of everyday, and leads nowhere."""
_FEW: Final = 500
"""Texts from which on such shares say something."""


class EntryLinker:
    """Knows the titles of articles.

    Args:
        titles: what may be linked where it is mentioned.
        texts: the articles, from which is seen which of the titles are words of everyday.
    """

    def __init__(self, titles: Sequence[str], texts: Sequence[str]) -> None:
        self._titles = {title.casefold(): title for title in titles if len(title) >= _SHORTEST}
        self._first = _first_words(self._titles)
        if len(texts) < _FEW:
            return
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(
                {text[start:end].casefold().removesuffix("s") for start, end in self._mentions(text, "", set())}
            )
        for key in list(self._titles):
            if counts[key.removesuffix("s")] > _COMMON * len(texts):
                del self._titles[key]

    def link(self, text: str, title: str, marked: Sequence[str], chance: random.Random) -> str:
        """A text with two to four links, or with fewer if it mentions less.

        Args:
            text: with its title between ``**`` at its beginning, or plain.
            title: what it is about; it never links to itself.
            marked: names that its source has marked; they come before others.
            chance: which of them.
        """
        own = {name.casefold() for name in marked}
        spans = self._mentions(text, title.casefold(), own)
        chance.shuffle(spans)
        # What the source has marked, then names of several words: they say most about where a link leads.
        spans.sort(key=lambda span: (text[span[0] : span[1]].casefold() not in own, " " not in text[span[0] : span[1]]))
        for start, end in sorted(spans[: chance.randint(2, _MOST)], reverse=True):
            text = f"{text[:start]}[[{text[start:end]}]]{text[end:]}"
        return text

    def _mentions(self, text: str, title: str, own: set[str]) -> list[tuple[int, int]]:
        """Where names stand, each at its first mention, the longest of those that begin at the same word."""
        words = list(_WORD.finditer(text, text.find("**", 2) + 2 if text.startswith("**") else 0))
        first = _first_words(own)
        spans: list[tuple[int, int]] = []
        seen, at = {title, f"{title}s"}, 0
        while at < len(words):
            taken = 1
            small = words[at][0].casefold()
            names = {small, small.removesuffix("s")}
            if names.isdisjoint(self._first) and names.isdisjoint(first):
                at += 1
                continue
            for count in range(min(_LONGEST, len(words) - at), 0, -1):
                start, end = words[at].start(), words[at + count - 1].end()
                found = self._named(text[start:end], own)
                if found and found not in seen and (found in own or not _in_a_name(text, start, end)):
                    spans.append((start, end))
                    seen.add(found)
                    taken = count
                    break
            at += taken
        return spans

    def _named(self, words: str, own: set[str]) -> str:
        """What is named by some words, in small letters; "" if nothing is."""
        small = words.casefold()
        for key in (small, small.removesuffix("s")):
            if key in own:
                return key
            known = self._titles.get(key, "")
            # A capital inside a name must be there: "polish" is not "Polish".
            if known and words.startswith((known, known[:1].lower() + known[1:])):
                return key
        return ""


def _first_words(names: Iterable[str]) -> set[str]:
    """The words with which names begin: where none of them stands, none of the names does."""
    return {found[0] for name in names if (found := _WORD.search(name))}


def _in_a_name(text: str, start: int, end: int) -> bool:
    """Whether words are a part of a longer name, as "Lake" in "Lake Texcoco" and "Valley" in "Valley of Mexico"."""
    if not text[start].isupper():
        return False
    return bool(_NAME_BEFORE.search(text[:start]) or _NAME_AFTER.match(text[end:]))
