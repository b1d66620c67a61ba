"""From entries to training pages: each entry is asked for in several ways, and answered in the manner of each.

In a share of the pages the prompt is one that an app really sends (``forms``), with its system part and its examples;
in others it has a system part of ours, two or three other entries as examples, something known, or nothing of all that.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from unwritten_engine.frames import Example, Prompt
from unwritten_engine.training.dataset import TrainingPage, is_held_out

from .entries import Entry, sentences
from .links import EntryLinker, lead, name_of
from .prompt_forms import ARTICLE, COMPUTING, DEFINITION, JARGON, LIST, PLAIN, RECORD, SHORT, TITLE, Form, Way

LONGEST: Final = 1200
"""Characters of a text; a longer one ends at the last sentence that has room."""
_BEGINNING: Final = 420
"""Characters of the beginning of an article, as the apps have it."""
_EXAMPLE: Final = 300
"""Characters of a text that may be an example."""
_SYSTEM, _EXAMPLES, _OPENING, _FACT = 0.5, 0.3, 0.7, 0.25
"""The shares of pages with a system part, with examples, with the title as opening, and with something known."""
_TRIED: Final = 12
"""How many of them are looked at for one page."""
_ROOM: Final = 400
"""How many entries of a source stand ready to be examples."""


class Writer:
    """Writes the pages of entries.

    Args:
        entries: all of them; some are taken as examples in the prompts of others, and never those held out.
        forms: prompts that an app sends.
        seed: the same entries with the same seed give the same pages.
    """

    def __init__(self, entries: Sequence[Entry], forms: Sequence[Form], seed: int) -> None:
        self._forms = forms
        self._seed = seed
        encyclopedia = [entry for entry in entries if entry.source == "wikipedia"]
        self._linker = EntryLinker([entry.title for entry in encyclopedia], [entry.text for entry in encyclopedia])
        self._examples: Mapping[tuple[str, str], list[Entry]] = defaultdict(list)
        ready = [entry for entry in entries if len(entry.text) <= _EXAMPLE and not is_held_out(entry.title)]
        random.Random(seed).shuffle(ready)  # noqa: S311 - a repeatable order, no secret
        for entry in ready:
            group = self._examples[entry.source, entry.kind]
            if len(group) < _ROOM:
                group.append(entry)

    def pages(self, entry: Entry) -> Iterator[TrainingPage]:
        """The pages of an entry, always the same ones."""
        chance = random.Random(f"{self._seed}/{entry.source}/{entry.kind}/{entry.title}")  # noqa: S311 - as above
        begun = lead(entry)
        if entry.source == "wikipedia":
            if begun and self._forms:
                yield self._in_form(entry, begun, chance)
            yield self._page(entry, ARTICLE if begun and chance.random() < 0.5 else PLAIN, chance)
            if entry.short and chance.random() < 0.4:
                yield self._page(entry, SHORT, chance)
            if chance.random() < 0.3:
                yield self._continued(entry, chance)
        elif entry.kind == "article":
            in_form = begun and self._forms and chance.random() < 0.4
            yield (
                self._in_form(entry, begun, chance)
                if in_form
                else self._page(entry, ARTICLE if begun and chance.random() < 0.6 else PLAIN, chance)
            )
            if entry.facts and chance.random() < 0.3:
                yield self._page(entry, LIST, chance)
            if entry.record and chance.random() < 0.3:
                yield self._page(entry, RECORD, chance)
        else:
            yield self._page(entry, {"foldoc": COMPUTING, "jargon": JARGON}.get(entry.source, DEFINITION), chance)
            if begun and self._forms and chance.random() < 0.5:
                yield self._in_form(entry, begun, chance)

    def _in_form(self, entry: Entry, begun: str, chance: random.Random) -> TrainingPage:
        """The beginning of an article, asked for as an app does it."""
        form, name = chance.choice(self._forms), name_of(entry.title)
        prompt = Prompt(
            form.ask.replace(TITLE, name), system=form.system, examples=form.examples, opening=f"**{name}**"
        )
        text = shortened(begun, _BEGINNING)
        page = TrainingPage(prompt, text, entry.title, ARTICLE.kind, entry.source)
        if chance.random() < _FACT:
            page = self._knowing(page, entry, chance)
        return replace(page, text=self._linker.link(text, name, entry.links, chance))

    def _page(self, entry: Entry, way: Way, chance: random.Random) -> TrainingPage:
        """A page asked for in words of ours."""
        ask = chance.choice(way.asks)
        others = self._others(entry, way, chance) if chance.random() < _EXAMPLES else ()
        examples = tuple(Example(_asked(ask, other), self._answer(other, way, chance)) for other in others)
        name = name_of(entry.title)
        text = self._answer(entry, way, chance)
        page = TrainingPage(
            Prompt(
                _asked(ask, entry),
                system=chance.choice(way.systems) if chance.random() < _SYSTEM else "",
                examples=examples,
                opening=f"**{name}**" if way.bold and chance.random() < _OPENING else "",
            ),
            text,
            entry.title,
            way.kind,
            entry.source,
        )
        return self._knowing(page, entry, chance) if way is PLAIN and chance.random() < _FACT else page

    def _others(self, entry: Entry, way: Way, chance: random.Random) -> list[Entry]:
        """Two or three other entries that can be examples for the page of an entry."""
        group = self._examples[entry.source, entry.kind]
        drawn = chance.sample(group, min(_TRIED, len(group)))
        fit = [other for other in drawn if other.title != entry.title and _can(other, way)]
        return fit[: chance.randint(2, 3)]

    def _answer(self, entry: Entry, way: Way, chance: random.Random) -> str:
        """What is answered about an entry in the manner of a way."""
        if way is ARTICLE:
            return self._linker.link(shortened(lead(entry), LONGEST), name_of(entry.title), entry.links, chance)
        if way is SHORT:
            return entry.short.rstrip(".") + "."
        if way is LIST:
            return "\n".join(f"- {fact}" for fact in entry.facts)
        if way is RECORD:
            return json.dumps(dict(entry.record), ensure_ascii=False, separators=(",", ":"))
        return shortened(entry.text, LONGEST)

    def _continued(self, entry: Entry, chance: random.Random) -> TrainingPage:
        """A text of which the first words are given, as the apps give some words for a small model to go on from."""
        words = entry.text.split(" ")
        given = " ".join(words[: chance.randint(2, min(9, len(words) - 1))]) if len(words) > 3 else ""
        page = self._page(entry, PLAIN, chance)
        return replace(page, prompt=replace(page.prompt, opening=given.partition("\n")[0]))

    def _knowing(self, page: TrainingPage, entry: Entry, chance: random.Random) -> TrainingPage:
        """The page, told beforehand one or two of the things that its text says."""
        name = name_of(entry.title)
        told = [_about(name, sentence) for sentence in sentences(page.text.partition("\n")[0])[1:]]
        facts = [fact for fact in told if 30 <= len(fact) <= 240 and fact[0].isalpha()]
        if not facts:
            return page
        chosen = chance.sample(facts, min(len(facts), chance.randint(1, 2)))
        if chance.random() < 0.5 and entry.links:
            chosen = [f'The page "{chance.choice(entry.links)}" says: {fact}' for fact in chosen]
        return replace(page, prompt=replace(page.prompt, facts=tuple(chosen)))


def shortened(text: str, longest: int) -> str:
    """The paragraphs of a text as far as there is room, the last one up to its last sentence; never less than one."""
    if len(text) <= longest:
        return text
    kept, room = "", longest
    for number, paragraph in enumerate(text.split("\n\n")):
        gap = "\n\n" if number else ""
        if len(gap + paragraph) <= room:
            kept, room = kept + gap + paragraph, room - len(gap + paragraph)
            continue
        fitting = ""
        for sentence in sentences(paragraph):
            if len(gap + fitting) + 1 + len(sentence) > room and (fitting or number):
                break
            fitting = f"{fitting} {sentence}".strip()
        return kept + gap + fitting if fitting else kept
    return kept


def _can(entry: Entry, way: Way) -> bool:
    """Whether an entry can be told in a manner."""
    if way is ARTICLE:
        return bool(lead(entry))
    return bool({SHORT.kind: entry.short, LIST.kind: entry.facts, RECORD.kind: entry.record}.get(way.kind, entry.text))


def _asked(ask: str, entry: Entry) -> str:
    return ask.replace(TITLE, name_of(entry.title))


def _about(name: str, sentence: str) -> str:
    """A sentence of a text as a statement that can stand alone."""
    first, _, rest = sentence.partition(" ")
    return f"{name} {rest}" if first in {"It", "They", "He", "She"} else sentence
