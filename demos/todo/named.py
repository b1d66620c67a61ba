"""Finds the fields that a request names: two in "books with author and rating", none in "a picnic with my mother".

What follows "with", "including", "each with" or "by" may be a list of fields, or describe something else. Its form
decides, together with the usual names of fields in named.txt. The rules for each part:

* A name in the lexicon is a field, whatever precedes it ("with a rating", "with its author").
* Company ("with friends", "with care"), "my", "our", numbers, capitalized names and whole sentences are not fields. Nor
  is a person with an article ("with a teacher"), unless another part is a field ("with a teacher and a room").
* Any other word without an article is a field if something else shows that the list is one of fields: it begins with
  "each with", "its" or "with fields"; one of its parts is in the lexicon ("grape and price"); or, except in German, the
  subject is a plural and all of two or more parts are singulars ("bikes with frame and fork", but not "burgers with
  chips and peas" or "a picnic with wine and cheese").
* After "by", only a name in the lexicon without an article is a field ("expenses by category", but not "by train" or
  "by the end of June"), unless it is "sorted by" or "grouped by".
"""

import re
from dataclasses import dataclass

from . import fields, lexicon
from .fields import Column

_FIELDS = r"(?:columns?|fields?|spalten?|felder?n?|columnas?|campos?)(?:\ (?:for|called|für|para))?:?\ "
_OPENERS = re.compile(
    rf"""(?<![\w-])(?:
    (?P<strong>(?:each\ (?:one\ )?|jeweils\ |je\ |cada\ un[oa]\ )(?:with|mit|con)\ (?:{_FIELDS})?
      |(?:with|mit|con)\ (?:the\ )?{_FIELDS}
      |(?:sorted|grouped|ordered|split)\ by\ |(?:sortiert|gruppiert|geordnet)\ nach\ |(?:ordenad|agrupad)[oa]s\ por\ )
    |(?P<weak>(?:with|including|mit|inklusive|einschließlich|con|incluyendo|incluidos?)\ )
    |(?P<by>(?:by|nach|por)\ ))""",
    re.IGNORECASE | re.VERBOSE,
)
_AND = re.compile(r"\s*[,;&+]\s*(?:(?:and|und|y|e)\s+)?|\s+(?:and|und|y|e|plus|sowie|as\ well\ as)\s+", re.IGNORECASE)
_END = re.compile(
    r"""[.!?:()]|\s(?:for|so|because|in|on|at|to|from|that|which|before|after|until|between
    |für|von|im|am|auf|zu|bei|damit|para|en|desde|hasta)\s""",
    re.IGNORECASE | re.VERBOSE,
)
_BEFORE = re.compile(
    r"""(?:(?P<theirs>its|their|each|ihre[mnr]?|deren|dessen|jeweils|sus?)
    |(?P<ours>my|our|your|his|her|meine?[mnrs]?|unsere?[mnrs]?|mis?|nuestr[oa]s?)
    |(?P<article>the|an?|some|all|any|eine?[mnrs]?|de[mnr]|die|das|el|la|los|las|una?))\s""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_NOUN = set(
    "who what when where how why if it we i you he she they is are was all everything things it them me us not no "
    "wer was wann wo wie es wir ich quién qué cuándo dónde cómo".split()
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part of a list of fields.

    Attributes:
        name: Its words, without a determiner.
        before: The kind of determiner: "", "article", "ours" (my, our) or "theirs" (its, each).
        column: The field with this name in the lexicon, or None.
        open: True if it may be a field although it is not in the lexicon.
    """

    name: str
    before: str
    column: Column | None
    open: bool


def named(sentence: str, language: str) -> tuple[list[tuple[int, Column]], int]:
    """Return the fields that a sentence names.

    Args:
        sentence: A request on one line.
        language: Its language: en, de or es.

    Returns:
        The position and column of each field, and the position of the first list of fields. Without one, that is the
        length of the sentence.
    """
    found: list[tuple[int, Column]] = []
    begin = len(sentence)
    openers = list(_OPENERS.finditer(sentence))
    ends = [*(opener.start() for opener in openers), len(sentence)][1:]
    for opener, end in zip(openers, ends, strict=True):
        text = sentence[opener.end() : end]
        parts = [_part(part, language) for part in _AND.split(_END.split(f"{text} ")[0]) if part.strip()]
        accepted = [column for part in parts if (column := _accepted(part, parts, opener, sentence, language))]
        for column in accepted:
            if all(other.label.casefold() != column.label.casefold() for _, other in found):
                taken = [other for _, other in found]
                if not column.id or any(other.id == column.id for other in taken):
                    column.id = fields.name_of(column.label, taken)
                found.append((opener.end(), column))
        if accepted:
            begin = min(begin, opener.start())
    return found, begin


def field(name: str, language: str) -> Column | None:
    """Return the field with this name in the lexicon, labelled as it was typed; None if there is none."""
    standard, meaning = lexicon.known(name, language), lexicon.meaning(name)
    words = name.casefold().split()
    as_said = bool(words) and not lexicon.MEANINGS.keys().isdisjoint({words[-1], " ".join(words)})
    label = _label(name if as_said else _singular(name, language))
    if standard is not None:
        if name.casefold() in lexicon.MEANINGS:
            standard.label = label  # "price" is a cost, and is called a price
        return standard
    return meaning.column(label, language) if meaning else None


def _part(text: str, language: str) -> Part:
    name, before = text.strip(" '’-"), ""
    found = _BEFORE.match(f"{name} ")
    if found:
        name, before = name[found.end() :].strip(), found.lastgroup or ""
    words = name.casefold().split()
    if not 0 < len(words) < 5 or len(name) > 30 or re.search(r"\d", name):
        return Part(name, before, None, open=False)
    column = field(name, language)
    company = column is None and not lexicon.COMPANY.isdisjoint({words[0], words[-1]})
    proper = language != "de" and name[:1].isupper() and not name.isupper()
    sentence = len(words) > 3 or not _NO_NOUN.isdisjoint(words)
    return Part(name, before, column, open=not (company or proper or sentence))


def _accepted(part: Part, parts: list[Part], opener: re.Match[str], sentence: str, language: str) -> Column | None:
    """Return the field that a part names, or None."""
    others = [other for other in parts if other is not part]
    strong = bool(opener["strong"]) or any(other.before == "theirs" for other in parts)
    if opener["by"]:
        return part.column if not part.before and part.name.casefold() in lexicon.MEANINGS else None
    if part.column is not None:
        accompanies = part.column.kind == "person" and part.before in {"article", "ours"}
        return part.column if strong or not accompanies or _have_field(others) else None
    if not part.open or part.before == "ours" or (part.before == "article" and not strong):
        return None
    if strong or _have_field(others) or (language != "de" and _each_has(parts, sentence[: opener.start()])):
        return Column(id="", label=_label(_singular(part.name, language)))
    return None


def _have_field(parts: list[Part]) -> bool:
    return any(part.column is not None and (part.column.kind != "person" or not part.before) for part in parts)


def _each_has(parts: list[Part], subject: str) -> bool:
    """True if a plural is followed by several singulars: "bikes with frame and fork"."""
    words = subject.rstrip(" ,;:").casefold().split()[-4:]
    plural = any(_singular(word, "en") != word for word in words)
    bare = all(part.open and not part.before and _singular(part.name, "en") == part.name for part in parts)
    return plural and bare and len(parts) > 1


def _label(name: str) -> str:
    return name[:1].upper() + name[1:30].strip()


def _singular(name: str, language: str) -> str:
    """Return an English name in the singular: "authors" names the field "author"."""
    if language != "en" or re.search(r"(ss|us|is)$", name) or not name.endswith("s") or len(name) < 4:
        return name
    return f"{name[:-3]}y" if name.endswith("ies") and len(name) > 4 else name[:-1]
