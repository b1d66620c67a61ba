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
from unwritten_engine.errors import suggestion

from ..core.assets import asset_dir
from ..core.errors import BadPage
from ..formats.registry import get_format

if TYPE_CHECKING:
    from ..formats.page import Canvas


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
    format = get_format(canvas.format)
    examples = tuple(canvas.examples or format.examples)
    opening = canvas.opening or format.opening
    if not examples:
        kind = example_set_for(canvas, subject)
        examples = _house_examples(kind)
        if kind == "article" and not opening and subject:
            opening = f"**{subject.replace('*', '')}**"
    return Prompt(
        ask=_ask(canvas.prompt, subject),
        system=" ".join(part for part in (world.strip(), format.instructions) if part),
        examples=examples,
        facts=tuple(facts),
        opening=opening,
    )


def example_set_for(canvas: Canvas, subject: str) -> str:
    """Which of our examples fit a canvas that brings none: a name in ``templates/prompts``, or "" for none.

    The subject has no say in it: a page about "The Letter" is an article like the others.
    """
    format = get_format(canvas.format)
    if not format.topic_examples:
        return format.examples_file
    asked = re.findall(r"[a-z-]+", _without(canvas.prompt.casefold(), subject.casefold()))
    found = [
        (asked.index(word), kind) for kind, words in format.topic_examples.items() for word in words if word in asked
    ]
    return min(found)[1] if found else format.examples_file


def _without(text: str, subject: str) -> str:
    return text.replace(subject, " ") if subject else text


@lru_cache
def _house_examples(kind: str) -> tuple[Example, ...]:
    return read_examples(asset_dir("templates") / "prompts" / f"{kind}.txt") if kind else ()


def _ask(prompt: str, subject: str) -> str:
    ask = " ".join(prompt.split())
    if not subject or subject.casefold() in ask.casefold():
        return ask
    return f"{ask} The subject is {subject}."


# A line at the end of a text that must not be its end: a heading, or the mark of a list with nothing after it.
_NO_END = re.compile(r"\s*(#{1,6}.*|[-*+]|\d+[.)])?\s*")


_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*(?=\s|$)|[。！？]")


def finalize_text(text: str, reason: str) -> str:
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


def settled_text(text: str) -> int:
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


def read_examples(path: str | Path) -> tuple[Example, ...]:
    """Examples from a text file: a line ``=== the ask``, then the answer, up to the next such line.

    Between them there may be lines ``> something known``. They show the model that an answer says what is known.

    Args:
        path: the file, in UTF-8.

    Raises:
        BadPage: if there is no such file, it has text before its first ask, or an ask without an answer.
    """
    source = Path(path)
    if not source.is_file():
        others = [str(other) for other in source.parent.glob("*.txt")]
        raise BadPage(f"There is no file of examples {source}.{suggestion(str(source), others) if others else ''}")
    before, *entries = re.split(r"^===[ \t]+", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if before.strip() or not entries:
        raise BadPage(f"{source} must begin with a line such as '=== A recipe for bread.', and the answer under it.")
    examples = []
    for entry in entries:
        ask, _, answer = entry.partition("\n")
        facts = []
        while answer.startswith("> "):
            fact, _, answer = answer.partition("\n")
            facts.append(fact[2:].strip())
        if not ask.strip() or not answer.strip():
            raise BadPage(f"{source} has the ask {ask.strip()!r} without an answer under it.")
        examples.append(Example(ask.strip(), answer.strip(), tuple(facts)))
    return tuple(examples)
