"""Prompts: from a canvas to the engine's prompt.

An author writes one sentence. This module adds what else a model needs, above all a small base model that can only
continue text: the world, the format's instructions, and a few short examples with answers, chosen so that their form
carries over and their subjects do not. These parts are the same for every page of a canvas, so that the engine
evaluates them once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from unwritten_engine import Example, Prompt
from unwritten_engine.errors import suggestion

from ..core.assets import asset_dir
from ..core.errors import BadPage
from ..formats.assumed_schema import example_values
from ..formats.gists import GIST_REQUEST, example_without_gists
from ..formats.links import WIKI_LINK
from ..formats.page import Canvas
from .memory import as_data, fit_to_budget

LINK_NOTE = "Pages to link to:"
"""Begins the statement that names pages for the links of a text."""

_MAX_LINK_TOKENS = 120
"""Maximum number of tokens for the titles in it."""


def build_prompt(
    *,
    world: str,
    canvas: Canvas,
    subject: str,
    facts: Sequence[str] = (),
    with_examples: bool = False,
    gists: bool = False,
) -> Prompt:
    """Return the engine's prompt for one canvas of one page.

    Args:
        world: What holds for everything in the app.
        canvas: What to generate.
        subject: The page's title. It is named in the prompt if the author's prompt does not name it.
        facts: What the visit and the store know about the subject, one statement each, the most relevant first.
        with_examples: True to derive examples for a schema without any, for base models.
        gists: True if the model is asked for gists of links; see ``formats.gists``.

    Returns:
        A prompt whose system part and examples are the same for every subject.
    """
    format = canvas.resolved_format
    examples = tuple(canvas.examples or format.examples)
    opening = canvas.opening or format.opening
    if not examples and canvas.schema is not None and with_examples:
        examples = _derived_examples(canvas, subject)
    elif not examples:
        file = examples_file_for(canvas, subject)
        examples = builtin_examples(file)
        if file == "article" and not opening and subject:
            opening = f"**{subject.replace('*', '')}**"
    if not gists:
        examples = tuple(map(example_without_gists, examples))
    titles = _link_titles(canvas, subject)
    if titles:
        facts = [*facts, _link_note(titles)]
        examples = tuple(map(_with_link_note, examples))
    return Prompt(
        ask=_with_subject(canvas.prompt, subject),
        system=" ".join(part for part in (world.strip(), format.instructions, GIST_REQUEST if gists else "") if part),
        examples=examples,
        facts=tuple(facts),
        opening=opening,
    )


def _derived_examples(canvas: Canvas, subject: str) -> tuple[Example, ...]:
    """Return examples of a canvas with a schema: its own prompt about other subjects, with ordinary values."""
    assert canvas.schema is not None
    found = example_values(canvas.schema, canvas.tokens or canvas.canvases * 256)
    return tuple(Example(_about(canvas.prompt, subject, other), value) for other, value in found)


def _about(prompt: str, subject: str, other: str) -> str:
    """Return a prompt about another subject."""
    prompt = " ".join(prompt.split())
    if subject and subject.casefold() in prompt.casefold():
        return re.sub(re.escape(subject), lambda _: other, prompt, flags=re.IGNORECASE)
    return f"{prompt} The subject is {other}." if subject else prompt


def examples_file_for(canvas: Canvas, subject: str) -> str:
    """Return which built-in examples fit a canvas without any: a file in ``templates/prompts``, or "" for none.

    The subject does not count: a page about "The Letter" is an article like the others.
    """
    format = canvas.resolved_format
    if not format.topic_examples:
        return format.examples_file
    prompt = canvas.prompt.casefold()
    if subject:
        prompt = prompt.replace(subject.casefold(), " ")
    words = re.findall(r"[a-z-]+", prompt)
    found = [
        (words.index(word), file) for file, topic in format.topic_examples.items() for word in topic if word in words
    ]
    return min(found)[1] if found else format.examples_file


@lru_cache
def builtin_examples(file: str) -> tuple[Example, ...]:
    """Return the examples in a file of ``templates/prompts``, named without its suffix. Empty if the name is."""
    return read_examples(asset_dir("templates") / "prompts" / f"{file}.txt") if file else ()


def _link_titles(canvas: Canvas, subject: str) -> list[str]:
    """Return the titles that a canvas names, as many as fit into the prompt. The page does not link to itself."""
    titles = [as_data(title, 80) for title in canvas.named_links if title.casefold() != subject.casefold()]
    return fit_to_budget(titles, _MAX_LINK_TOKENS)


def _link_note(titles: Sequence[str]) -> str:
    return f"{LINK_NOTE} {'; '.join(titles)}."


def _with_link_note(example: Example) -> Example:
    """Return an example whose facts name the pages that its answer links to, so that a model does the same."""
    titles = list(dict.fromkeys(match[1] for match in WIKI_LINK.finditer(example.answer)))
    return replace(example, facts=(*example.facts, _link_note(titles))) if titles else example


def _with_subject(prompt: str, subject: str) -> str:
    """Return an author's prompt on one line, with the subject if it does not name it."""
    prompt = " ".join(prompt.split())
    if not subject or subject.casefold() in prompt.casefold():
        return prompt
    return f"{prompt} The subject is {subject}."


def read_examples(path: str | Path) -> tuple[Example, ...]:
    """Read examples from a text file: a line ``=== the prompt``, then the answer, up to the next such line.

    Between them there may be lines ``> a fact``. They show the model that an answer uses the facts.

    Args:
        path: The file, in UTF-8.

    Raises:
        BadPage: If there is no such file, it has text before its first prompt, or a prompt without an answer.
    """
    source = Path(path)
    if not source.is_file():
        others = [str(other) for other in source.parent.glob("*.txt")]
        raise BadPage(f"There is no file of examples {source}.{suggestion(str(source), others) if others else ''}")
    before, *entries = re.split(r"^===[ \t]+", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if before.strip() or not entries:
        raise BadPage(f"{source} must begin with a line such as '=== A recipe for bread.', followed by the answer.")
    examples = []
    for entry in entries:
        prompt, _, answer = entry.partition("\n")
        facts = []
        while answer.startswith("> "):
            fact, _, answer = answer.partition("\n")
            facts.append(fact[2:].strip())
        if not prompt.strip() or not answer.strip():
            raise BadPage(f"{source} has the prompt {prompt.strip()!r} without an answer.")
        examples.append(Example(prompt.strip(), answer.strip(), tuple(facts)))
    return tuple(examples)
