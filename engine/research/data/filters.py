"""What must not be learned: texts that repeat themselves, break off, are no English, have broken marks, or hurt."""

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
"""HTML, fences, addresses, footnotes, entities, TeX, and what stands for a letter that was lost."""
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_FUNCTION: Final = frozenset(
    "a an the of and or to in on at by for from with as is are was were be been it its he she they we you i that "
    "this which who whose than then there these those not no but if so do does did has have had one any some used "
    "such".split()
)
_ENGLISH: Final = 0.12
"""The share of English function words below which a text of some length is taken for something else."""
_LONG_ENOUGH: Final = 16
"""Words from which on a language, or a share of repetition, can be told."""
_NAMES: Final = frozenset({"name", "title", "heading"})
"""Properties of a record that may well be what its title is."""
_LEADING: Final = frozenset("a an the of and or to at from with as is are was were that this its".split())
"""Words that no value ends with, unless it was cut off."""
_SHORT_WORD, _OFTEN, _ONE_THING = 3, 5, 0.2
"""Letters, times, and the share of a record's longer words, beyond which one word is too much."""
_TITLE: Final = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|Gen|Lt)\.$")
"""A dot that ends no sentence, since a name was to follow."""
_LINKED: Final = 2
"""How often a text may link to the same thing."""
_REPEATED: Final = 0.15
"""The share of sequences of four words that may have come before."""
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
"""Words about which a tiny model has little but slander to say. In texts that people have checked they may stand."""


def needs_care(text: str) -> bool:
    """Whether a text has rude words, or some that call for care: a small model is not asked about such titles."""
    return bool(_RUDE.search(text) or _CARE.search(text))


def fault(text: str, *, care: bool = False) -> str:
    """Why a text must not be learned; "" if it may.

    Args:
        text: whole, with its links and marks.
        care: whether it was written by a model, so that nobody has checked what it says of people.
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


def record_fault(text: str, *, title: str = "", care: bool = False) -> str:
    """Why a record, which is a line of JSON, must not be learned; "" if it may.

    Args:
        text: the line.
        title: what it is about, if a value that only says this again is a fault.
        care: see ``fault``.
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
    """Whether a mark has no partner, or a link is empty, too long, or inside another one."""
    links = re.findall(r"\[\[([^\[\]\n]*)\]\]", text)
    if len(links) != text.count("[[") or len(links) != text.count("]]") or text.count("**") % 2:
        return True
    return any(not 0 < len(link.strip()) <= 60 for link in links)


def repetition(text: str) -> str:
    """The fault of a text that says something again and again; "" if it does not."""
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
    """Whether each paragraph ends as a sentence does. Headings and items of lists need not."""
    paragraphs = [part.strip() for part in text.split("\n") if part.strip()]
    prose = [part for part in paragraphs if not re.match(r"#{1,6} |[-*] ", part)]
    if not prose or paragraphs[-1].startswith("#"):
        return bool(paragraphs) and not paragraphs[-1].startswith("#")
    return all(ends(part.rstrip("*]")) and not _TITLE.search(part) for part in prose)


def _cut_off(value: str) -> bool:
    """Whether a value breaks off since there was no more room: after a space, or a word that something must follow."""
    words = value.split()
    return value != value.rstrip() or (len(words) > 2 and words[-1].casefold() in _LEADING)


def _one_thing_only(values: list[str], title: str) -> bool:
    """Whether one word, which is none of the title's, stands again and again in the values."""
    known = {*_FUNCTION, *title.casefold().split()}
    words = [word.casefold() for value in values for word in _WORD.findall(value)]
    told = [word for word in words if len(word) > _SHORT_WORD and word not in known]
    count = max(Counter(told).values(), default=0)
    return count >= _OFTEN and count > _ONE_THING * len(told)


def _twice_in_a_list(value: Any) -> bool:
    """Whether a list says something twice."""
    if isinstance(value, dict):
        return any(_twice_in_a_list(inner) for inner in value.values())
    if isinstance(value, list):
        said = [inner.casefold() for inner in value if isinstance(inner, str)]
        return len(set(said)) < len(said) or any(_twice_in_a_list(inner) for inner in value)
    return False


def _texts(value: Any, left_out: frozenset[str] = frozenset()) -> Iterator[str]:
    """All texts in a value of JSON, but for those of some properties."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in left_out:
                yield from _texts(inner, left_out)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, left_out)
