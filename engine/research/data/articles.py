"""Convert entries to training pages with various prompts and matching answers.

Some prompts are those of an app (``prompt_forms``), with system text and examples. Others have our own system text,
other entries as examples, facts, or none of these.
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
from .prompt_forms import (
    ARTICLE,
    COMPUTING,
    DEFINITION,
    JARGON,
    LIST,
    PLAIN,
    RECORD,
    SHORT,
    TITLE,
    AnswerStyle,
    PromptForm,
)

LONGEST: Final = 1200
"""Maximum characters of a text; a longer one is cut after a sentence."""
_BEGINNING: Final = 420
"""Maximum characters of an article's lead."""
_EXAMPLE: Final = 300
"""Maximum characters of a text that is used as an example."""
_SYSTEM, _EXAMPLES, _OPENING, _FACT = 0.5, 0.3, 0.7, 0.25
"""Shares of pages with system text, examples, an opening, and facts."""
_TRIED: Final = 12
"""Candidate examples per page."""
_ROOM: Final = 400
"""Maximum number of candidate examples per source and kind."""


class PageBuilder:
    """Builds the pages of entries.

    Args:
        entries: all entries; some are used as examples in other prompts, except held-out ones.
        forms: prompts of an app.
        seed: random seed.
    """

    def __init__(self, entries: Sequence[Entry], forms: Sequence[PromptForm], seed: int) -> None:
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
        """Yield the pages of an entry. They are deterministic."""
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
        """Return the lead of an article for a prompt of an app."""
        form, name = chance.choice(self._forms), name_of(entry.title)
        prompt = Prompt(
            form.ask.replace(TITLE, name), system=form.system, examples=form.examples, opening=f"**{name}**"
        )
        text = shorten(begun, _BEGINNING)
        page = TrainingPage(prompt, text, entry.title, ARTICLE.kind, entry.source)
        if chance.random() < _FACT:
            page = self._knowing(page, entry, chance)
        return replace(page, text=self._linker.link(text, name, entry.links, chance))

    def _page(self, entry: Entry, way: AnswerStyle, chance: random.Random) -> TrainingPage:
        """Return a page for one of our prompts."""
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

    def _others(self, entry: Entry, way: AnswerStyle, chance: random.Random) -> list[Entry]:
        """Return two or three other entries as examples."""
        group = self._examples[entry.source, entry.kind]
        drawn = chance.sample(group, min(_TRIED, len(group)))
        fit = [other for other in drawn if other.title != entry.title and _can(other, way)]
        return fit[: chance.randint(2, 3)]

    def _answer(self, entry: Entry, way: AnswerStyle, chance: random.Random) -> str:
        """Return the answer about an entry in a style."""
        if way is ARTICLE:
            return self._linker.link(shorten(lead(entry), LONGEST), name_of(entry.title), entry.links, chance)
        if way is SHORT:
            return entry.short.rstrip(".") + "."
        if way is LIST:
            return "\n".join(f"- {fact}" for fact in entry.facts)
        if way is RECORD:
            return json.dumps(dict(entry.record), ensure_ascii=False, separators=(",", ":"))
        return shorten(entry.text, LONGEST)

    def _continued(self, entry: Entry, chance: random.Random) -> TrainingPage:
        """Return a text whose first words are the opening."""
        words = entry.text.split(" ")
        given = " ".join(words[: chance.randint(2, min(9, len(words) - 1))]) if len(words) > 3 else ""
        page = self._page(entry, PLAIN, chance)
        return replace(page, prompt=replace(page.prompt, opening=given.partition("\n")[0]))

    def _knowing(self, page: TrainingPage, entry: Entry, chance: random.Random) -> TrainingPage:
        """Return the page with one or two statements of its text as facts."""
        name = name_of(entry.title)
        told = [_about(name, sentence) for sentence in sentences(page.text.partition("\n")[0])[1:]]
        facts = [fact for fact in told if 30 <= len(fact) <= 240 and fact[0].isalpha()]
        if not facts:
            return page
        chosen = chance.sample(facts, min(len(facts), chance.randint(1, 2)))
        return replace(page, prompt=replace(page.prompt, facts=tuple(chosen)))


def shorten(text: str, longest: int) -> str:
    """Return the leading paragraphs up to a length, the last one cut after a sentence; at least one sentence."""
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


def _can(entry: Entry, way: AnswerStyle) -> bool:
    """True if the entry has an answer in this style."""
    if way is ARTICLE:
        return bool(lead(entry))
    return bool({SHORT.kind: entry.short, LIST.kind: entry.facts, RECORD.kind: entry.record}.get(way.kind, entry.text))


def _asked(ask: str, entry: Entry) -> str:
    return ask.replace(TITLE, name_of(entry.title))


def _about(name: str, sentence: str) -> str:
    """Return a sentence that is understandable on its own."""
    first, _, rest = sentence.partition(" ")
    return f"{name} {rest}" if first in {"It", "They", "He", "She"} else sentence
