"""Readers of three dictionaries: GCIDE, FOLDOC and the Jargon File.

GCIDE is a dictionary of 1913 with additions. Pronunciations, etymologies, quotations, obsolete meanings, and parts from
WordNet (a separate source) are removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .dictd import (
    ends,
    has_address,
    in_order,
    indentation,
    paragraphs,
    read_dictd,
    references,
    without_brackets,
    without_see,
)
from .entries import Dropped, Entry, capital
from .packages import Package

_LETTERS: Final = {
    "[ae]": "æ", "[AE]": "Æ", "[oe]": "œ", "[OE]": "Œ", "['e]": "é", "[`e]": "è", "[^e]": "ê", "['a]": "á", "[`a]": "à",
    "[^a]": "â", "['o]": "ó", "[^o]": "ô", "['i]": "í", "[^i]": "î", "[^u]": "û", '["u]': "ü", '["o]': "ö", '["a]': "ä",
    '["e]': "ë", '["i]': "ï", "[,c]": "ç", "[~n]": "ñ", "[deg]": "°", "[frac12]": "½", "[frac14]": "¼", "[times]": "×",
    "[pounds]": "£",
}  # fmt: skip
_TAG: Final = re.compile(
    r"\[(?:1913 Webster|Webster 1913 Suppl\.|PJC|WordNet 1\.5|[^\[\]]*\+\s*\w+|Century[^\[\]]*)[^\[\]]*\]"
)
_BORROWED: Final = re.compile(r"\[WordNet")
_OLD: Final = re.compile(
    r"\[(?:Obs|R\.|Archaic|Prov|Scot|Poetic|Local|Slang|Low|Vulgar|Rare|Cant|Colloq|Obsoles|Dial|Ir\.|Eng|"
    r"Humorous|Jocose|Nonce|Written also|Anglo)[^\[\]]*\]"
)
_GONE: Final = re.compile(r"\[(?:Obs|R\.|Archaic|Prov|Scot|Poetic|Low|Vulgar|Rare|Cant|Obsoles|Dial|Nonce)")
_SPELT: Final = re.compile(r"\\[^\\]*\\")
_PART: Final = re.compile(
    r"[\s,;]*\b(prop\. n|n|v\. t|v\. i|v|a|adj|adv|p\. a|prep|interj|conj|pron|n\. pl|pl)\.(?=[\s;,]|$)"
)
_PARTS: Final = {"n": "noun", "prop. n": "noun", "n. pl": "noun", "v. t": "verb", "v. i": "verb", "v": "verb",
                 "a": "adjective", "adj": "adjective", "p. a": "adjective", "adv": "adverb"}  # fmt: skip
_FIELD: Final = re.compile(r"^\(([A-Z][A-Za-z. &]{1,24})\)\s*")
_SENSE: Final = re.compile(r"\s*\d+\.?\s+")
_QUOTED: Final = re.compile(r"\s*(?:\"[^\"]*\"|“[^”]*”)?\s*--\s?[A-Z(].*$")
_USED: Final = re.compile(r"[;:,]\s+as,? .*$")
_HENCE: Final = re.compile(r"\s*--\s+.*$")
_ODD: Final = re.compile(r"^\W|^[A-Za-z]\. |,\.$|[\[\]{}\\<>|~*^`?=]|\(\)|--|\b(?:q\. v|fig|Fig|Illust|imp|p\. p)\b\.?")
_SUBENTRY: Final = re.compile(r"^\{([A-Z][\w' -]{3,40})\}(?:\s*\(([A-Z][A-Za-z. &]{1,24})\))?,\s+((?:an?|the) .{30,})$")
_QUOTATION: Final = 6
"""Indentation of quotations relative to the meaning, in characters."""


def read_gcide(package: Package, dropped: Dropped) -> Iterator[Entry]:
    """Yield the entries of GCIDE with their plain meanings, and entries for terms below them.

    Raises:
        EngineError: the package has an unexpected format.
    """
    for _, text in read_dictd(package.file("gcide.index"), package.file("gcide.dict.dz")):
        title = text.partition("\\")[0].strip(" ,\n")
        if not re.fullmatch(r"[A-Za-z][A-Za-z' -]{1,40}", title):
            dropped("a title with other letters", title[:60])
            continue
        for code, letter in _LETTERS.items():
            text = text.replace(code, letter)
        part, body = _head(text)
        senses: list[tuple[bool, str]] = []
        reason = "no word of its part of speech" if not part else ""
        for paragraph in paragraphs(body) if part else ():
            sense, reason = _sense(paragraph)
            if sense:
                senses.append((_SENSE.match(paragraph) is not None or not senses, sense))
            yield from _under(paragraph)
        if not senses:
            dropped(reason or "no meaning", title)
            continue
        told = [(first, *references(f"({part}) {sense}")) for first, sense in senses]
        links = dict.fromkeys(link for _, _, named in told for link in named if link != title)
        yield Entry(capital(title), in_order([(first, words) for first, words, _ in told]), "gcide", links=tuple(links))


def _head(text: str) -> tuple[str, str]:
    """Return the part of speech and the text after the head of an entry; "" if unknown."""
    at = max((match.end() for match in _SPELT.finditer(text.partition("\n\n")[0])), default=0)
    at = _skipped(text, at, "(")
    found = _PART.match(text, at)
    if found is None or found[1] not in _PARTS:
        return "", ""
    at = found.end()
    while True:  # inflected forms, where the word is from, its plural
        after = _skipped(text, _skipped(text, at, "["), "(") if text[at:].lstrip()[:1] == "[" else at
        more = re.compile(r"[\s;,]*(?:pl\.|&|p\. a\.)\s*(?:\{[^{}]*\}[\s.,;]*)*(?:\(pl\.\)|or)?").match(text, after)
        after = more.end() if more else after
        if after == at:
            break
        at = after
    return _PARTS[found[1]], text[at:].lstrip(" ,;.")


def _skipped(text: str, at: int, bracket: str) -> int:
    """Return the position after a bracket that starts at ``at``, with nested brackets."""
    start = at + len(text[at:]) - len(text[at:].lstrip())
    if text[start : start + 1] != bracket:
        return at
    depth, other = 0, {"[": "]", "(": ")"}[bracket]
    for place in range(start, len(text)):
        depth += (text[place] == bracket) - (text[place] == other)
        if depth == 0:
            # A field of knowledge stands in parentheses too, and belongs to the meaning.
            return at if bracket == "(" and _FIELD.match(text[start : place + 1] + " ") else place + 1
    return len(text)


def _sense(paragraph: str) -> tuple[str, str]:
    """Return a meaning in plain words, or "" with the reason why it is dropped."""
    if _BORROWED.search(paragraph):
        return "", "from WordNet"
    lead = paragraph.lstrip("\n")
    if indentation(lead) > _QUOTATION or re.match(r"\s*(?:Note:|Syn:|Usage:|\{|--|\([a-z]\))", lead):
        return "", "a quotation, a note or an entry of its own"
    if _GONE.search(paragraph):
        return "", "obsolete"
    words = " ".join(_OLD.sub("", _TAG.sub("", " ".join(paragraph.split()))).split())
    words = _FIELD.sub("", re.sub(f"^{_SENSE.pattern}", "", words))
    for what in (_QUOTED, _HENCE, _USED):
        words = what.sub("", words)
    words = without_see(words).strip(" ;:,")
    words = re.sub(r"\s*;?\s*(?:etc|&c)\.?$", "", words)
    plain, _ = references(words)
    if len(plain) < 12 or len(plain.split()) < 3 or plain.startswith(("Called also", "Also called")):
        return "", "nothing but references"
    if _ODD.search(plain):
        return "", "signs that are not plain"
    return capital(words) if words.endswith((".", '."')) else f"{capital(words)}.", ""


def _under(paragraph: str) -> Iterator[Entry]:
    """Yield the article of a paragraph that explains a term: "{Zodiacal light}, a luminous tract …"."""
    found = _SUBENTRY.match(" ".join(_TAG.sub("", paragraph).split()))
    plural = found and re.search(r"[^isu]s$", found[1])
    if found and not plural and " " in found[1] and not _GONE.search(paragraph):
        plain, reason = _sense(" " * 3 + found[3])
        if plain and not reason:
            words, links = references(f"{found[1]} is {plain[:1].lower()}{plain[1:]}")
            yield Entry(found[1], words, "gcide", "article", links=links)


_DATE: Final = re.compile(r"\(\d{4}-\d\d-\d\d\)")
_FOLDOC_SENSE: Final = re.compile(r"\s*\d+\.\s+")
_SUBJECT: Final = re.compile(r"<([^<>]{2,60})>\s*")
_SHORT: Final = re.compile(r"\((?:[^()]|\([^()]*\))*\)\s*")
"""Leading parentheses: an abbreviation, a plural or a pronunciation."""
_FOLDOC_SPOKEN: Final = re.compile(r"/[^/\n]{1,40}/\s*(?:or\s*/[^/\n]{1,40}/\s*)?(?:[a-z]{1,4}\.\s*)?")
_CITED: Final = re.compile(r'\s*"[^"]{8,}",\s[^a-z].*$')
"""A citation of a book or paper, up to the end of the paragraph."""
_STANDARD: Final = re.compile(r"\s*\(rfc:\d+\)\.?")
_BODY: Final = 3
"""Indentation of running text; deeper text is a table, a list or a program."""


def read_foldoc(package: Package, dropped: Dropped) -> Iterator[Entry]:
    """Yield the entries of the Free On-line Dictionary of Computing, each meaning as a paragraph.

    Raises:
        EngineError: the package has an unexpected format.
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
    """Return a paragraph as plain text, with references in braces; "" for other contents."""
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


_JARGON_PART: Final = re.compile(
    r"^(?:(?:n|v|vt|vi|adj|adv|interj|excl|pl|prov|abbrev|obs|quant|cmd|suff|pref|imp)\.[\s,/]*)+"
)
_JARGON_SENSE: Final = re.compile(r"\s*\d+\.\s+")
_JARGON_SPOKEN: Final = re.compile(r"(?<=\s)/[^/\n]{1,40}/(?:\s*,)?\s*")


def read_jargon(package: Package, dropped: Dropped) -> Iterator[Entry]:
    """Yield the entries of the Jargon File, each meaning as a paragraph.

    Raises:
        EngineError: the package has an unexpected format.
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
    """Return a paragraph as plain text; "" if nothing remains."""
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
