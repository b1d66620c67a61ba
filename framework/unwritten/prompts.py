"""From a canvas to the engine's prompt: the world, the manner of a format, examples, and the ask.

An author writes one sentence. What a model needs besides, above all a small base model that can only continue
text, is added here: who writes and in which form (the *manner*), and a few short examples with answers, chosen
so that their form carries over and their subjects do not. Both are the same for every page of a canvas, so
that the engine evaluates them once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unwritten_engine import Example, Prompt

from .errors import BadPage

if TYPE_CHECKING:
    from .canvases import Canvas

MANNERS = {
    "markdown": (
        "Every text is short, calm and complete, and is written in plain prose with a little Markdown. Names of "
        "things that deserve a page of their own stand in double square brackets, like [[Copper]] or "
        "[[Night Market|night markets]]."
    ),
    "text": "Every text is short, calm and complete, and is written in plain prose without any markup.",
    "html": (
        "Every text is short, calm and complete, and is written in simple HTML: headings, paragraphs, lists, and "
        'links such as <a href="Copper">copper</a>.'
    ),
    "typed": "Every record is one line of JSON with short, plain values.",
}
"""What the system part says of each format, after the world."""

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "markdown": (
        Example(
            "An encyclopedia article about Violin.",
            "The **violin** is a wooden [[String Instrument|string instrument]] with four strings. It took its "
            "present form in [[Cremona]] in the sixteenth century.\n\n"
            "## Sound\n\n"
            "The strings are set in motion by a [[Bow]] of horsehair, and the hollow body makes their voice louder. "
            "A good one is heard above the rest of an [[Orchestra]].\n\n"
            "## Makers\n\n"
            "A maker carves the front from [[Spruce]] and the back from [[Maple]]. The work takes about two hundred "
            "hours, and the varnish dries for a summer.",
        ),
        Example(
            "A note to the neighbours about Chimney Sweeping.",
            "Dear neighbours,\n\n"
            "On Tuesday the [[Chimney Sweep]] comes to our house. Please keep your windows shut until noon, and bring "
            "in the washing.\n\n"
            "With thanks from the second floor,\n\n"
            "Mr. and Mrs. Aldous",
        ),
    ),
    "text": (
        Example(
            "A sentence about Patience.",
            "Patience is the art of waiting for the kettle without lifting the lid.",
        ),
        Example(
            "The news from the harbour.",
            "The ferry was an hour late this morning, because a seal had gone to sleep on the landing stage. Nobody "
            "wished to wake it.",
        ),
    ),
    "html": (
        Example(
            "An encyclopedia article about Violin.",
            '<p>The <strong>violin</strong> is a wooden <a href="String Instrument">string instrument</a> with four '
            "strings.</p>\n"
            "<h2>Makers</h2>\n"
            '<p>A maker carves the front from <a href="Spruce">spruce</a> and the back from '
            '<a href="Maple">maple</a>. The work takes about two hundred hours.</p>',
        ),
    ),
}
"""Examples for canvases that bring none of their own, by format."""


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
    manner = MANNERS.get(canvas.format, "")
    return Prompt(
        ask=_ask(canvas.prompt, subject),
        system=" ".join(part for part in (world.strip(), manner) if part),
        examples=tuple(canvas.examples) or EXAMPLES.get(canvas.format, ()),
        facts=tuple(facts),
        opening=canvas.opening,
    )


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


_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*(?=\s|$)|[。！？]")


def finish(text: str, reason: str) -> str:
    """The text with an end that is an end.

    A text whose budget ran out is cut back to its last whole sentence, if that leaves something worth reading;
    a heading or a list mark with nothing after it goes; a link or an emphasis that was begun is taken back.

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
    while lines and re.fullmatch(r"\s*(#{1,6}.*|[-*+]|\d+[.)])?\s*", lines[-1]):
        lines.pop()
    return "\n".join(lines) or text
