"""Filters for training texts: repetition, truncation, foreign languages, broken markup, and offensive words."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from .dictd import ends

_STRAY: Final = re.compile(
    r"<\|?/?\w*(?:turn|eos|bos|unused|image|pad|div|span|br|p|a|b|i)\b[^<>]*\|?>|```|https?:|www\.|={4,}|\ufffd|\]\("
    r"|[,;:][?!.](?!\w)|(?<!\[)\[\d+\](?!\])|&\w+;|\\[a-z{}()\[\]]|[\x00-\x09\x0b-\x1f]"
)
"""HTML, fences, addresses, footnotes, entities, TeX, and replacement characters."""
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_FUNCTION: Final = frozenset(
    "a an the of and or to in on at by for from with as is are was were be been it its he she they we you i that "
    "this which who whose than then there these those not no but if so do does did has have had one any some used "
    "such".split()
)
_ENGLISH: Final = 0.12
"""Minimum share of English function words in texts of some length."""
_LONG_ENOUGH: Final = 16
"""Minimum number of words for checks of language and repetition."""
_NAMES: Final = frozenset({"name", "title", "heading"})
"""Properties of a record that may equal its title."""
_LEADING: Final = frozenset("a an the of and or to at from with as is are was were that this its".split())
"""Words that a complete value never ends with."""
_SHORT_WORD, _OFTEN, _ONE_THING = 3, 5, 0.2
"""Limits for repeated words in a record: minimum letters, count, and share of the longer words."""
_TITLE: Final = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|Gen|Lt)\.$")
"""Dots that do not end a sentence because a name follows."""
_LINKED: Final = 2
"""Maximum number of links to the same target."""
_REPEATED: Final = 0.15
"""Maximum share of repeated sequences of four words."""
_FOREIGN: Final = re.compile(r"[^\u0000-\u024f\u1e00-\u1eff\u2000-\u206f\u20a0-\u20bf\u2100-\u214f\u2190-\u22ff]")
_RUDE: Final = re.compile(
    r"\b(?:fuck\w*|motherfuck\w*|shit\w*|bullshit\w*|cunt\w*|cocksuck\w*|dickhead\w*|asshole\w*|arsehole\w*|bitch\w*"
    r"|bastard\w*|whore\w*|slut\w*|wank\w*|pussy|tits|titty|blow ?jobs?|porn\w*|masturbat\w*|orgasm\w*|fellatio"
    r"|nigg\w*|fag|fags|faggot\w*|dyke|dykes|spic|spics|chink|chinks|gook|gooks|kike|kikes|wetback\w*|coon|coons"
    r"|darkie\w*|darky|raghead\w*|towelhead\w*|tranny|trannies|retard|retards|retarded|redskins?|squaws?|half-breed|negress\w*"
    r"|negro\w*|mulatto\w*|pickaninn\w*|jap|japs|jewess\w*|hottentot\w*|papist\w*|paedophil\w*|pedophil\w*|incest\w*"
    r"|gang ?bang\w*|dildo\w*|penis\w*|vagina\w*|vulva\w*|clitoris\w*|testicles?|scrotum|semen|sodom\w*|bugger\w*"
    r"|pee-?pee|turd\w*|fart\w*|piss\w*|crap|crappy|dago|dagos|wop|wops|kraut|krauts|limey|frogs? eater)\b",
    re.IGNORECASE,
)
_CARE: Final = re.compile(
    r"\b(?:jews?|jewish|muslims?|islam\w*|christians?|catholics?|hindus?|nazis?|hitler|holocaust|slaves?|slavery"
    r"|rap(?:e|ed|es|ing|ist|ists)|terroris\w+|genocid\w+|murder\w*|suicid\w+|gay|gays|homosexual\w*|lesbian\w*|blacks"
    r"|black (?:people|man|men|woman|women)|immigrants?|refugees?|prostitut\w+|drunkards?|sex|sexual\w*|naked"
    r"|kill(?:ed|s|ing)?|affairs?|addict\w*|heroin|cocaine|drugs?|cancer|corrupt\w*|fraud\w*|criminals?|convicted|arrested|accused)\b",
    re.IGNORECASE,
)
"""Words about which tiny models tend to produce slander. They are allowed in reviewed texts."""


def needs_care(text: str) -> bool:
    """True if a text has offensive or sensitive words. Small models are not asked about such titles."""
    return bool(_RUDE.search(text) or _CARE.search(text))


def find_fault(text: str, *, care: bool = False) -> str:
    """Return why a text is not suitable for training; "" if it is.

    Args:
        text: the text, with links and markup.
        care: whether it was generated, so that statements about people are not reviewed.
    """
    plain = re.sub(r"\[\[|\]\]|\*\*", "", text)
    words = _WORD.findall(plain)
    if len(words) < 2:
        return "too short"
    if _RUDE.search(plain):
        return "rude words"
    if care and _CARE.search(plain):
        return "words that call for care"
    if _STRAY.search(text) or broken_marks(text):
        return "broken marks"
    if any(count > _LINKED for count in Counter(re.findall(r"\[\[(.*?)\]\]", text.casefold())).values()):
        return "repetition"
    return _language(plain, words) or repetition(plain) or ("" if _has_ends(text) else "no end")


def find_record_fault(text: str, *, title: str = "", care: bool = False) -> str:
    """Return why a record, a line of JSON, is not suitable for training; "" if it is.

    Args:
        text: the line.
        title: its subject; values that only repeat it are a fault.
        care: see ``find_fault``.
    """
    try:
        given = json.loads(text)
        values = list(_texts(given))
    except (ValueError, RecursionError):
        return "no JSON"
    whole = " . ".join(values)
    if not values or any(not value.strip() for value in values):
        return "empty values"
    if _RUDE.search(whole):
        return "rude words"
    if care and _CARE.search(whole):
        return "words that call for care"
    if _STRAY.search(whole) or any(re.search(r"[\[\]{}<>|\\*_]", value) for value in values):
        return "broken marks"
    if _FOREIGN.search(whole):
        return "no English"
    counts = Counter(value.casefold() for value in values if len(value) > 3)
    if any(_cut_off(value) for value in values):
        return "no end"
    again = _twice_in_a_list(given) or max(counts.values(), default=0) > 2 or _one_thing_only(values, title)
    return "repetition" if again or title.casefold() in map(str.casefold, _texts(given, _NAMES)) else ""


def broken_marks(text: str) -> bool:
    """True if a mark has no partner, or a link is empty, too long or nested."""
    links = re.findall(r"\[\[([^\[\]\n]*)\]\]", text)
    if len(links) != text.count("[[") or len(links) != text.count("]]") or text.count("**") % 2:
        return True
    return any(not 0 < len(link.strip()) <= 60 for link in links)


def repetition(text: str) -> str:
    """Return "repetition" for a text that repeats itself; else ""."""
    words = [word.casefold() for word in _WORD.findall(text)]
    if any(a == b == c for a, b, c in zip(words, words[1:], words[2:], strict=False)):
        return "repetition"
    said = [re.sub(r"\W+", " ", part).strip().casefold() for part in re.split(r"(?<=[.!?])\s+|\n+", text)]
    if any(count > 1 and len(part.split()) > 3 for part, count in Counter(said).items()):
        return "repetition"
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    if len(words) >= _LONG_ENOUGH and 1 - len(set(grams)) / len(grams) > _REPEATED:
        return "repetition"
    return ""


def _language(text: str, words: list[str]) -> str:
    if _FOREIGN.search(text):
        return "no English"
    if len(words) < _LONG_ENOUGH:
        return ""
    known = sum(word.casefold() in _FUNCTION for word in words)
    return "no English" if known / len(words) < _ENGLISH else ""


def _has_ends(text: str) -> bool:
    """True if each paragraph ends like a sentence. Headings and list items need not."""
    paragraphs = [part.strip() for part in text.split("\n") if part.strip()]
    prose = [part for part in paragraphs if not re.match(r"#{1,6} |[-*] ", part)]
    if not prose or paragraphs[-1].startswith("#"):
        return bool(paragraphs) and not paragraphs[-1].startswith("#")
    return all(ends(part.rstrip("*]")) and not _TITLE.search(part) for part in prose)


def _cut_off(value: str) -> bool:
    """True if a value is truncated: it ends with a space, or with a word that needs a continuation."""
    words = value.split()
    return value != value.rstrip() or (len(words) > 2 and words[-1].casefold() in _LEADING)


def _one_thing_only(values: list[str], title: str) -> bool:
    """True if a word that is not in the title occurs too often in the values."""
    known = {*_FUNCTION, *title.casefold().split()}
    words = [word.casefold() for value in values for word in _WORD.findall(value)]
    told = [word for word in words if len(word) > _SHORT_WORD and word not in known]
    count = max(Counter(told).values(), default=0)
    return count >= _OFTEN and count > _ONE_THING * len(told)


def _twice_in_a_list(value: Any) -> bool:
    """True if a list has duplicates."""
    if isinstance(value, dict):
        return any(_twice_in_a_list(inner) for inner in value.values())
    if isinstance(value, list):
        said = [inner.casefold() for inner in value if isinstance(inner, str)]
        return len(set(said)) < len(said) or any(_twice_in_a_list(inner) for inner in value)
    return False


def _texts(value: Any, left_out: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield all strings in a JSON value, except those of some properties."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in left_out:
                yield from _texts(inner, left_out)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, left_out)
