"""How an article of our encyclopedias begins: with its title between ``**``, and then what it is."""

from __future__ import annotations

import re
from typing import Final

from .entries import Entry, sentences

_IS: Final = r"(?:is|are|was|were|refers to|means|denotes|describes)"
_WITHIN: Final = re.compile(rf"^(In (?:the )?[\w ,’'-]{{3,60}}?), (?:an?|the)?\s*(.{{2,60}}?) ({_IS}) (.*)$", re.DOTALL)
_SUBJECT: Final = re.compile(r"^(.{2,110}?),? (is|was|are|were) ((?:an?|the|one|any|some)\b.*)$", re.DOTALL)
_ARTICLE: Final = re.compile(r"^(?:An?|The) ", re.IGNORECASE)
_PART: Final = re.compile(r"^(?:1\. )?(?:\((\w+)\) )?")
_STEM: Final = 4
"""Letters that a word of the title and a word of the first sentence share, if both name the same thing."""


def name_of(title: str) -> str:
    """A title without the meaning in parentheses at its end."""
    return re.sub(r" \([^()]*\)$", "", title)


def lead(entry: Entry) -> str:
    """The text of an entry as an article begins; "" if it cannot be made to.

    Of an article all paragraphs come, of a definition the first meaning, if it says what something is.
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
    """Whether a subject names the same thing: all that is longer in the name has a word in it that begins alike."""
    stems = [word[:_STEM].casefold() for word in re.findall(r"[^\W\d_]+", name) if len(word) >= _STEM]
    words = [word.casefold() for word in re.findall(r"[^\W\d_]+", subject)]
    return bool(stems) and any(word.startswith(stem) for stem in stems for word in words)
