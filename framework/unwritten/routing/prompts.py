"""Prompts: from a canvas to the engine's prompt, and from the model's raw text to text that ends well.

An author writes one sentence. This module adds what else a model needs, above all a small base model that can only
continue text: the world, the format's instructions, and a few short examples with answers, chosen so that their form
carries over and their subjects do not. These parts are the same for every page of a canvas, so that the engine
evaluates them once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from unwritten_engine import Example, Prompt
from unwritten_engine.errors import suggestion

from ..core.assets import asset_dir
from ..core.errors import BadPage
from ..formats.page import Canvas

_BAD_LAST_LINE = re.compile(r"\s*(#{1,6}.*|[-*+]|\d+[.)])?\s*")
"""A line that must not be the last one: a heading, or the mark of a list with nothing after it."""

_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*(?=\s|$)|[。！？]")


def build_prompt(*, world: str, canvas: Canvas, subject: str, facts: Sequence[str] = ()) -> Prompt:
    """Return the engine's prompt for one canvas of one page.

    Args:
        world: What holds for everything in the app.
        canvas: What to generate.
        subject: The page's title. It is named in the prompt if the author's prompt does not name it.
        facts: What the visit and the store know about the subject, one statement each, the most relevant first.

    Returns:
        A prompt whose system part and examples are the same for every subject.
    """
    format = canvas.resolved_format
    examples = tuple(canvas.examples or format.examples)
    opening = canvas.opening or format.opening
    if not examples:
        file = examples_file_for(canvas, subject)
        examples = builtin_examples(file)
        if file == "article" and not opening and subject:
            opening = f"**{subject.replace('*', '')}**"
    return Prompt(
        ask=_with_subject(canvas.prompt, subject),
        system=" ".join(part for part in (world.strip(), format.instructions) if part),
        examples=examples,
        facts=tuple(facts),
        opening=opening,
    )


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


def _with_subject(prompt: str, subject: str) -> str:
    """Return an author's prompt on one line, with the subject if it does not name it."""
    prompt = " ".join(prompt.split())
    if not subject or subject.casefold() in prompt.casefold():
        return prompt
    return f"{prompt} The subject is {subject}."


def finalize_text(text: str, reason: str) -> str:
    """Return a finished text without an incomplete end.

    If the model ran out of tokens, the text is cut back to its last full sentence, unless too little would be left. A
    heading or a list mark with nothing after it is removed.

    Args:
        text: The text of a prose canvas, Markdown or plain.
        reason: The engine's reason for the end: "end", "stop" or "length".
    """
    text = text.rstrip()
    if reason == "length":
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        if ends and ends[-1] >= len(text) // 3:
            text = text[: ends[-1]]
    lines = text.split("\n")
    while lines and _BAD_LAST_LINE.fullmatch(lines[-1]):
        lines.pop()
    return "\n".join(lines) or text


def settled_text(text: str) -> int:
    """Return how many leading characters ``finalize_text`` keeps, independently of what follows.

    That is the text up to its last full sentence, with the white space after it.
    """
    for match in reversed(list(_SENTENCE_END.finditer(text, max(0, len(text) - 4000)))):
        end = match.end()
        line = text[text.rfind("\n", 0, end) + 1 : end]
        # The end of the text may be in the middle of a mark, such as "1." that begins a list.
        if end < len(text) and not _BAD_LAST_LINE.fullmatch(line):
            return len(text) - len(text[end:].lstrip())
    return 0


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
