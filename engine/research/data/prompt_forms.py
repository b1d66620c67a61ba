"""Prompts for training pages: our own phrasings, and the prompts of an app."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from unwritten_engine.frames import Example

from .page_prompts import PagePrompt

TITLE: Final = "{title}"
"""Placeholder of the title."""


@dataclass(frozen=True, slots=True)
class AnswerStyle:
    """A style of answer with matching prompts.

    Attributes:
        kind: kind of text.
        asks: phrasings with ``{title}``.
        systems: possible system texts.
        bold: the text starts with its title between ``**``.
        links: references are in double square brackets.
    """

    kind: str
    asks: tuple[str, ...]
    systems: tuple[str, ...]
    bold: bool = False
    links: bool = False


@dataclass(frozen=True, slots=True)
class PromptForm:
    """A prompt of an app, with a placeholder for the title.

    Attributes:
        ask: with ``{title}``.
        system: system text.
        examples: examples.
    """

    ask: str
    system: str
    examples: tuple[Example, ...]


_CALM: Final = (
    "Every text is short, calm and complete.",
    "You write short, clear texts.",
    "A small library of plain texts.",
    "Somebody who knows many things answers in a few sentences.",
)
ARTICLE: Final = AnswerStyle(
    "article",
    (
        "An encyclopedia article about {title}.",
        "The opening paragraph of the article on {title}.",
        "The article on {title} in an encyclopedia.",
        "A short article about {title}, with links to others.",
        "Write an encyclopedia entry: {title}",
    ),
    (
        "A calm, exact encyclopedia.",
        "An encyclopedia in which names of things that deserve a page of their own stand in double square brackets.",
        "Short articles in Markdown, with links such as [[copper]] or [[night market]].",
    ),
    bold=True,
    links=True,
)
PLAIN: Final = AnswerStyle(
    "text",
    (
        "What is known about {title}?",
        "A short text about {title}.",
        "Tell me about {title}.",
        "{title}, explained in a few sentences.",
        "Explain to me, without any markup: {title}",
    ),
    (*_CALM, "Every text is short, calm and complete, and has no markup."),
)
SHORT: Final = AnswerStyle(
    "description",
    (
        "A description of {title} in one line.",
        "What is {title}, in a few words?",
        "A short description of {title}.",
    ),
    _CALM,
)
DEFINITION: Final = AnswerStyle(
    "definition",
    (
        "A definition of {title}.",
        "What does “{title}” mean?",
        "The entry for “{title}” in a dictionary.",
        "The meanings of the word {title}.",
    ),
    (*_CALM, "A dictionary that says what words mean."),
)
COMPUTING: Final = AnswerStyle(
    "definition",
    (
        "What is {title}, in computing?",
        "The entry for {title} in a dictionary of computing.",
        "A programmer explains {title}.",
    ),
    (*_CALM, "A dictionary for programmers."),
)
JARGON: Final = AnswerStyle(
    "definition",
    (
        "What do hackers mean by “{title}”?",
        "The entry for “{title}” in a dictionary of hackers' slang.",
    ),
    (*_CALM, "A dictionary of slang, with a dry sense of humour."),
)
LIST: Final = AnswerStyle(
    "list",
    (
        "Facts about {title}, as a list.",
        "A list of what is known about {title}.",
        "Notes on {title}, one on each line.",
    ),
    _CALM,
)
RECORD: Final = AnswerStyle(
    "record",
    (
        "Facts about {title} as one line of JSON.",
        "A record of {title}.",
        "The data sheet of {title}.",
    ),
    ("Every record is one line of JSON with short, plain values.",),
)


def extract_forms(wanted: Iterable[PagePrompt]) -> list[PromptForm]:
    """Return the forms of prompts for the lead of an article: free text that starts with its title between ``**``.

    Args:
        wanted: prompts of an app; others are ignored, because no dictionary can answer them.
    """
    forms: dict[PromptForm, None] = {}
    for page in wanted:
        prompt = page.prompt
        about = page.title and page.title in prompt.ask and prompt.opening == f"**{page.title}**"
        if about and page.schema is None and not prompt.facts:
            forms[PromptForm(prompt.ask.replace(page.title, TITLE), prompt.system, prompt.examples)] = None
    return list(forms)
