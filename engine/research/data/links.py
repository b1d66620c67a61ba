"""Links and leads: mark mentions of other entries, and write the lead of an article."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from .entries import Entry, sentences

_WORD: Final = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_NAME_BEFORE: Final = re.compile(
    r"\b(?!(?:The|An?|In|On|At|By|From|Of|To|For|Its?|His|Her|This|While|When|After|Before|Since|During|As|Like)\b)"
    r"[A-Z][\w.'’-]*(?: of| of the| and the)? $"
)
_NAME_AFTER: Final = re.compile(r"(?: of| of the)? [A-Z]")
_LONGEST: Final = 4
"""Maximum words of a linked name."""
_MOST: Final = 4
_SHORTEST: Final = 4
"""Minimum letters of a name that its source has not marked."""
_COMMON: Final = 0.01
"""Share of texts above which a mentioned word counts as common and is not linked."""
_FEW: Final = 500
"""Minimum number of texts for this statistic."""


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
    """Return the first words of names, for a quick check."""
    return {found[0] for name in names if (found := _WORD.search(name))}


def _in_a_name(text: str, start: int, end: int) -> bool:
    """True if the words are part of a longer name, such as "Lake" in "Lake Texcoco"."""
    if not text[start].isupper():
        return False
    return bool(_NAME_BEFORE.search(text[:start]) or _NAME_AFTER.match(text[end:]))


_IS: Final = r"(?:is|are|was|were|refers to|means|denotes|describes)"
_WITHIN: Final = re.compile(rf"^(In (?:the )?[\w ,’'-]{{3,60}}?), (?:an?|the)?\s*(.{{2,60}}?) ({_IS}) (.*)$", re.DOTALL)
_SUBJECT: Final = re.compile(r"^(.{2,110}?),? (is|was|are|were) ((?:an?|the|one|any|some)\b.*)$", re.DOTALL)
_ARTICLE: Final = re.compile(r"^(?:An?|The) ", re.IGNORECASE)
_PART: Final = re.compile(r"^(?:1\. )?(?:\((\w+)\) )?")
_STEM: Final = 4
"""Letters that a title word and a word of the first sentence must share to name the same thing."""


def name_of(title: str) -> str:
    """Return a title without a disambiguation in parentheses."""
    return re.sub(r" \([^()]*\)$", "", title)


def lead(entry: Entry) -> str:
    """Return an entry's text in the form of an article; "" if that is impossible.

    Articles are used completely, definitions up to their first meaning if it says what something is.
    """
    name = name_of(entry.title)
    if "*" in name or "[" in name:
        return ""
    return _of_article(name, entry.text) if entry.kind == "article" else _of_definition(name, entry.text)


def _of_article(name: str, text: str) -> str:
    for said in (text, _ARTICLE.sub("", text)):
        rest = said[len(name) :]
        if said[: len(name)].casefold() == name.casefold() and not rest.removeprefix("s")[:1].isalnum():
            return f"**{name}**{rest}"
    within = _WITHIN.match(text)
    if within:
        place, subject, verb, rest = within.groups()
        if subject.casefold() in {name.casefold(), f"{name.casefold()}s"}:
            return f"**{name}** {verb}, {place[:1].lower()}{place[1:]}, {rest}"
        return ""
    found = _SUBJECT.match(text)
    if found and not text.startswith("In ") and _same(name, found[1]):
        return f"**{name}** {found[2]} {found[3]}"
    return ""


def _of_definition(name: str, text: str) -> str:
    first = re.split(r"\n+(?=2\. )", text)[0]
    part = _PART.match(first)
    said = first[part.end() :] if part else first
    if part and part[1] not in {None, "noun"}:
        return ""
    if not re.match(r"(?:An?|The|One|Any) ", said):
        return ""
    if not re.search(r"[a-z]", sentences(said)[0]):
        return ""
    said = said.split("\n\nTo ")[0]  # what one does with it is another meaning
    return f"**{name}** is {said[:1].lower()}{said[1:]}"


def _same(name: str, subject: str) -> bool:
    """True if a subject names the same thing as the title, judged by common word stems."""
    stems = [word[:_STEM].casefold() for word in re.findall(r"[^\W\d_]+", name) if len(word) >= _STEM]
    words = [word.casefold() for word in re.findall(r"[^\W\d_]+", subject)]
    return bool(stems) and any(word.startswith(stem) for stem in stems for word in words)
