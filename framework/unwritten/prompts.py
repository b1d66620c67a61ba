"""From a canvas to the engine's prompt: the world, the manner of a format, examples, and the ask.

An author writes one sentence. What a model needs besides, above all a small base model that can only continue
text, is added here: who writes and in which form (the *manner*), and a few short examples with answers, chosen
so that their form carries over and their subjects do not. Both are the same for every page of a canvas, so
that the engine evaluates them once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from unwritten_engine import Example, Prompt

from .assets import asset_dir
from .errors import BadPage

if TYPE_CHECKING:
    from .canvases import Canvas

MANNERS = {
    "markdown": (
        "Every text is short, calm and complete. Names of things that deserve a page of their own stand in double "
        "square brackets, like [[copper]] or [[night market]]."
    ),
    "text": "Every text is short, calm and complete, and has no markup.",
    "html": (
        "Every text is short, calm and complete, in simple HTML: headings, paragraphs, lists, and links such as "
        '<a href="Copper">copper</a>.'
    ),
    "typed": "Every record is one line of JSON with short, plain values.",
}
"""What the system part says of each format, after the world."""

KINDS = {
    "recipe": ("recipe", "recipes"),
    "letter": ("letter", "postcard", "e-mail", "email"),
    "thread": ("thread", "forum", "conversation", "chat", "dialogue"),
    "story": ("story", "tale", "legend", "fable", "chapter"),
    "article": ("encyclopedia", "encyclopaedia", "wiki", "article", "entry"),
}
"""Kinds of text that have examples of their own, each with the words in an author's prompt that ask for it."""


def build_prompt(*, world: str, canvas: Canvas, subject: str, facts: Sequence[str] = ()) -> Prompt:
    """The engine's prompt for one canvas of one page.

    Args:
        world: what is true of everything in the app; text of its author.
        canvas: what to write.
        subject: the page's title. It is named in the ask if the author's prompt does not name it.
        facts: what the visit and the store know, one statement each, most relevant first.

    Returns:
        A prompt whose system part and examples are the same for every subject.
    """
    examples, opening = tuple(canvas.examples), canvas.opening
    if not examples:
        kind = kind_of(canvas, subject)
        examples = _house_examples(kind)
        if kind == "article" and not opening and subject:
            opening = f"**{subject.replace('*', '')}**"
    manner = MANNERS.get(canvas.format, "")
    return Prompt(
        ask=_ask(canvas.prompt, subject),
        system=" ".join(part for part in (world.strip(), manner) if part),
        examples=examples,
        facts=tuple(facts),
        opening=opening,
    )


def kind_of(canvas: Canvas, subject: str) -> str:
    """Which of our examples fit a canvas that brings none: a name in ``templates/prompts``, or "" for none.

    The subject has no say in it: a page about "The Letter" is an article like the others.
    """
    if canvas.format in {"text", "html"}:
        return canvas.format
    if canvas.format != "markdown":
        return ""
    asked = re.findall(r"[a-z-]+", _without(canvas.prompt.casefold(), subject.casefold()))
    found = [(asked.index(word), kind) for kind, words in KINDS.items() for word in words if word in asked]
    return min(found)[1] if found else "note"


def _without(text: str, subject: str) -> str:
    return text.replace(subject, " ") if subject else text


@lru_cache
def _house_examples(kind: str) -> tuple[Example, ...]:
    return read_examples(asset_dir("templates") / "prompts" / f"{kind}.txt") if kind else ()


def read_examples(path: str | Path) -> tuple[Example, ...]:
    """Examples from a text file: a line ``=== the ask``, then the answer, up to the next such line.

    Raises:
        BadPage: if the file has text before its first ask, or an ask without an answer.
    """
    source = Path(path)
    before, *entries = re.split(r"^===[ \t]+", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if before.strip() or not entries:
        raise BadPage(f"{source} must begin with a line such as '=== A recipe for bread.', and the answer under it.")
    examples = []
    for entry in entries:
        ask, _, answer = entry.partition("\n")
        if not ask.strip() or not answer.strip():
            raise BadPage(f"{source} has the ask {ask.strip()!r} without an answer under it.")
        examples.append(Example(ask.strip(), answer.strip()))
    return tuple(examples)


def _ask(prompt: str, subject: str) -> str:
    ask = " ".join(prompt.split())
    if not subject or subject.casefold() in ask.casefold():
        return ask
    return f"{ask} The subject is {subject}."


# A line at the end of a text that must not be its end: a heading, or the mark of a list with nothing after it.
_NO_END = re.compile(r"\s*(#{1,6}.*|[-*+]|\d+[.)])?\s*")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*(?=\s|$)|[。！？]")


def finish(text: str, reason: str) -> str:
    """The text with an end that is an end.

    A text whose budget ran out is cut back to its last whole sentence, if that leaves something worth reading;
    a heading or a list mark with nothing after it goes.

    Args:
        text: the text of a prose canvas (Markdown or plain), as far as it came.
        reason: the engine's reason for the end: "end", "stop" or "length".
    """
    text = text.rstrip()
    if reason == "length":
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        if ends and ends[-1] >= len(text) // 3:
            text = text[: ends[-1]]
    lines = text.split("\n")
    while lines and _NO_END.fullmatch(lines[-1]):
        lines.pop()
    return "\n".join(lines) or text


def certain(text: str) -> int:
    """How many leading characters ``finish`` will leave in place, however the text goes on: up to its last sentence,
    with the white space after it.

    Args:
        text: the beginning of a text.
    """
    for match in reversed(list(_SENTENCE_END.finditer(text, max(0, len(text) - 4000)))):
        end = match.end()
        line = text[text.rfind("\n", 0, end) + 1 : end]
        # The end of the text may be in the middle of a mark, such as "1." that begins a list.
        if end < len(text) and not _NO_END.fullmatch(line):
            return len(text) - len(text[end:].lstrip())
    return 0
