"""Ways of asking: our own phrasings, and the forms of prompts that an app really sends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from unwritten_engine.frames import Example

from .page_prompts import PagePrompt

TITLE: Final = "{title}"
"""Where the title stands in an ask."""


@dataclass(frozen=True, slots=True)
class Way:
    """A manner of answering, and how one asks for it.

    Attributes:
        kind: of text, as pages name it.
        asks: phrasings, each with ``{title}``.
        systems: what may stand in the system part.
        bold: the text begins with its title between ``**``.
        links: names of other things stand in double square brackets.
    """

    kind: str
    asks: tuple[str, ...]
    systems: tuple[str, ...]
    bold: bool = False
    links: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """A prompt that an app sends, without its title.

    Attributes:
        ask: with ``{title}``.
        system: as it was sent.
        examples: as they were sent.
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
ARTICLE: Final = Way(
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
PLAIN: Final = Way(
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
SHORT: Final = Way(
    "description",
    (
        "A description of {title} in one line.",
        "What is {title}, in a few words?",
        "A short description of {title}.",
    ),
    _CALM,
)
DEFINITION: Final = Way(
    "definition",
    (
        "A definition of {title}.",
        "What does “{title}” mean?",
        "The entry for “{title}” in a dictionary.",
        "The meanings of the word {title}.",
    ),
    (*_CALM, "A dictionary that says what words mean."),
)
COMPUTING: Final = Way(
    "definition",
    (
        "What is {title}, in computing?",
        "The entry for {title} in a dictionary of computing.",
        "A programmer explains {title}.",
    ),
    (*_CALM, "A dictionary for programmers."),
)
JARGON: Final = Way(
    "definition",
    (
        "What do hackers mean by “{title}”?",
        "The entry for “{title}” in a dictionary of hackers' slang.",
    ),
    (*_CALM, "A dictionary of slang, with a dry sense of humour."),
)
LIST: Final = Way(
    "list",
    (
        "Facts about {title}, as a list.",
        "A list of what is known about {title}.",
        "Notes on {title}, one on each line.",
    ),
    _CALM,
)
RECORD: Final = Way(
    "record",
    (
        "Facts about {title} as one line of JSON.",
        "A record of {title}.",
        "The data sheet of {title}.",
    ),
    ("Every record is one line of JSON with short, plain values.",),
)


def forms_of(wanted: Iterable[PagePrompt]) -> list[Form]:
    """The forms of prompts for the beginning of an article: free text that is to begin with its title between ``**``.

    Args:
        wanted: what an app sends; of other prompts nothing is taken, since no dictionary answers them.
    """
    forms: dict[Form, None] = {}
    for page in wanted:
        prompt = page.prompt
        about = page.title and page.title in prompt.ask and prompt.opening == f"**{page.title}**"
        if about and page.schema is None and not prompt.facts:
            forms[Form(prompt.ask.replace(page.title, TITLE), prompt.system, prompt.examples)] = None
    return list(forms)
