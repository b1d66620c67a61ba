"""Read WordNet's database: meanings of words, hypernyms and parts.

A line of ``data.noun`` is a *synset*: synonyms, pointers to other synsets, and after a bar the gloss, with quoted
examples. ``index.noun`` has the synsets of each word, most common first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from unwritten_engine.errors import EngineError

from .entries import Dropped, Entry, capital
from .packages import Package

PARTS: Final = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
"""File endings of the database, and the parts of speech."""
_RELATIONS: Final = {"@": "kind_of", "~": "kinds", "%p": "parts", "#p": "part_of", "@i": "instance_of"}
_CREATURES: Final = {"05", "20"}
"""Files of animals and plants, where capitalized names are Latin."""
_PERSONS: Final = "18"
"""File of people."""
_EXAMPLE: Final = re.compile(r';?\s*"([^"]*)"(?:;?\s*-[^;]*)?')
_LABEL: Final = re.compile(r"^\(([A-Za-z][^()]*)\)\s*")
_BEGINS: Final = re.compile(r"(?:an?|the|any|one|some|all|either|each|several|something|someone|that|those)\b")
_SENSES: Final = 4
"""Maximum number of meanings per word."""
_NAMED: Final = 4
"""Maximum number of related things."""


@dataclass(slots=True)
class Synset:
    """A set of synonyms.

    Attributes:
        words: the synonyms.
        file: number of the lexicographer file, which is a subject: "05" is animals.
        meaning: the gloss without label and examples.
        label: subject label, such as "telecommunication"; "" for none.
        examples: sentences.
        related: ids of other synsets by relation.
    """

    words: list[str]
    file: str
    meaning: str
    label: str
    examples: list[str]
    related: dict[str, list[str]] = field(default_factory=dict)


def read_wordnet(package: Package, dropped: Dropped) -> Iterator[Entry]:
    """Yield one article per noun synset, and one definition per word with several meanings.

    Raises:
        EngineError: the package has an unexpected format.
    """
    try:
        nouns = dict(_synsets(package, "noun"))
        for synset in nouns.values():
            if reason := _unfit(synset):
                dropped(reason, synset.words[0])
            else:
                yield _article(synset, nouns)
        yield from _definitions(package, nouns)
    except (ValueError, IndexError) as error:
        raise EngineError(f"{package.path}: its files have another form than they had ({error}).") from None


def _synsets(package: Package, part: str) -> Iterator[tuple[str, Synset]]:
    for line in package.file(f"wordnet/data.{part}").decode("utf-8").splitlines():
        if line.startswith("  "):
            continue  # the licence at the beginning
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        count = int(fields[3], 16)
        words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
        at = 4 + 2 * count
        pointers = [fields[at + 1 + 4 * n : at + 5 + 4 * n] for n in range(int(fields[at]))]
        related: dict[str, list[str]] = {}
        for symbol, target, kind, _ in pointers:
            if symbol in _RELATIONS and kind == "n":
                related.setdefault(_RELATIONS[symbol], []).append(target)
        yield fields[0], Synset(words, fields[1], *_parted(gloss), related)


def _parted(gloss: str) -> tuple[str, str, list[str]]:
    """Split a gloss into meaning, label and examples."""
    gloss = gloss.replace("`", "'")
    examples = [found.strip() for found in _EXAMPLE.findall(gloss) if found.strip()]
    meaning = _EXAMPLE.sub("", gloss).strip(" ;,")
    label = _LABEL.match(meaning)
    return meaning[label.end() :] if label else meaning, label[1] if label else "", examples


def _unfit(synset: Synset) -> str:
    """Return why there is no article for a synset; "" if there is one."""
    if "instance_of" in synset.related or (synset.file == _PERSONS and synset.words[0][0].isupper()):
        return "the name of somebody or of a place"
    if synset.file in _CREATURES and synset.words[0][0].isupper():
        return "a Latin name"
    if not synset.meaning:
        return "no meaning"
    return ""


def _article(synset: Synset, nouns: Mapping[str, Synset]) -> Entry:
    word, *others = synset.words
    above = [name for name in _names(synset, "kind_of", nouns) if name != word]
    statements = [_is(synset, above)]
    if others:
        statements.append(f"It is also called {_listed(others[:_NAMED], 'or')}.")
    kinds, parts, whole = (_names(synset, relation, nouns) for relation in ("kinds", "parts", "part_of"))
    if kinds:
        several = "One kind is the" if len(kinds) == 1 else "Among its kinds are"
        statements.append(f"{several} {_listed(kinds)}.")
    if parts:
        statements.append(f"{'A part of it is the' if len(parts) == 1 else 'Its parts include'} {_listed(parts)}.")
    if whole:
        statements.append(f"It is a part of the {_listed(whole[:1])}.")
    if above and above[0] not in statements[0]:
        statements.insert(1, f"It is a kind of {above[0]}.")
    record: list[tuple[str, str | tuple[str, ...]]] = [("name", capital(word)), ("kind", above[0] if above else "")]
    record += [("also_called", tuple(others[:_NAMED])), ("kinds", tuple(kinds)), ("parts", tuple(parts))]
    record.append(("part_of", whole[0] if whole else ""))
    quoted = f" One might say: {_quoted(synset.examples[0])}" if synset.examples else ""
    return Entry(
        capital(word),
        " ".join(statements) + quoted,
        "wordnet",
        "article",
        short=capital(synset.meaning) if len(synset.meaning) < 80 else "",
        links=tuple(dict.fromkeys([*above[:1], *kinds, *parts, *whole[:1]])),
        facts=tuple(statements) if len(statements) > 2 else (),
        record=tuple((name, value) for name, value in record if value) if len(statements) > 2 else (),
    )


def _is(synset: Synset, above: Sequence[str]) -> str:
    """Return the sentence that says what something is."""
    subject, meaning = capital(synset.words[0]), synset.meaning
    where = f", in {synset.label}," if synset.label else ""
    if _BEGINS.match(meaning):
        return f"{subject}{where} is {meaning}."
    if above:
        again = meaning.startswith(above[0])
        return f"{subject}{where} is a kind of {meaning if again else f'{above[0]}: {meaning}'}."
    return f"{subject}{where}: {meaning}."


def _names(synset: Synset, relation: str, synsets: Mapping[str, Synset]) -> list[str]:
    """Return the names of related synsets, without Latin names."""
    names = [synsets[target].words[0] for target in synset.related.get(relation, ()) if not _unfit(synsets[target])]
    return list(dict.fromkeys(names))[:_NAMED]


def _listed(names: Sequence[str], last: str = "and") -> str:
    *most, end = names
    return f"{', '.join(most)} {last} {end}" if most else end


def _definitions(package: Package, nouns: Mapping[str, Synset]) -> Iterator[Entry]:
    meanings: dict[str, list[tuple[str, Synset]]] = {}
    for part, called in PARTS.items():
        synsets = nouns if part == "noun" else dict(_synsets(package, part))
        for line in package.file(f"wordnet/index.{part}").decode("utf-8").splitlines():
            if not line.startswith("  "):
                word, *fields = line.split()
                count = int(fields[1])
                for place in fields[-count:]:
                    if not _unfit(synsets[place]):
                        meanings.setdefault(word.replace("_", " "), []).append((called, synsets[place]))
    for word, found in meanings.items():
        if len(found) == 1 and found[0][0] == "noun":
            continue  # same as its article
        lines = [_sense(called, synset) for called, synset in found[:_SENSES]]
        if len(lines) > 1:
            lines = [f"{number}. {line}" for number, line in enumerate(lines, 1)]
        yield Entry(capital(word), "\n".join(lines), "wordnet")


def _sense(called: str, synset: Synset) -> str:
    shown = f" {_quoted(synset.examples[0])}" if synset.examples else ""
    return f"({called}) {capital(synset.meaning)}.{shown}"


def _quoted(example: str) -> str:
    return f"“{capital(example)}{'' if example.endswith(('.', '!', '?')) else '.'}”"
