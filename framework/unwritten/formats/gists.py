"""Gists: one sentence about the page behind each link, hidden from visitors, for the prompt of that page.

A model that follows instructions is asked for ``[[Title]]{one sentence}``. The notes are removed from every frame
before anything is shown, checked or stored, and are stored with the links. Models often get the form half right, so on
a line with a link any text in braces is a note; so is one inside the brackets, one in parentheses right after them, and
one that is never closed, up to the end of its sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unwritten_engine import About, Example, Frame, Span

from ..core.bidi import remove_controls
from ..core.settings import Settings
from .links import plain_text
from .unsettled import clip_spans

GIST_REQUEST = (
    "After every such name stands a hidden note in braces, one short sentence that says what its page will tell: "
    "[[copper]]{Copper is mined by night on the island.} The note has facts that fit the text."
)
"""Asks a model for gists, as a part of the instructions in its prompt."""

MAX_GIST = 200
"""Maximum length of a gist that is stored. A longer one is cut."""

_MAX_NOTE = 400
"""The number of characters after which a note that is not closed ends."""

_LINK_OR_CODE = re.compile(r"\[\[[^\S\n]*([^\[\]|{}\n]+)|`|\n|\{|\]\]\(")
_FENCE = re.compile(r"^ {0,3}(?:`{3}|~{3})", re.M)
_SENTENCE_END = re.compile(r"[.!?…]['\"”’)]*(?=\s)|[。！？]")
_CLOSING = {"{": "}", "(": ")"}


@dataclass(frozen=True, slots=True)
class Gists:
    """The notes in a text.

    Attributes:
        kept: The spans of the text without them, in order.
        by_title: Each note by the title of its link.
    """

    kept: Sequence[Span]
    by_title: dict[str, str]


def writes_gists(about: About, settings: Settings) -> bool:
    """True if an engine is asked for gists. The setting ``gists`` overrules it.

    The model must follow instructions well, which is what drawings need too. A diffusion model is not asked: in its
    drafts the words of a note appear before the brackets by which a note is recognized.
    """
    if settings.gists != "auto":
        return settings.gists == "on"
    return about.abilities.instruct and about.abilities.markup and not about.abilities.drafts


def without_request(instructions: str) -> str:
    """Return the system part of a prompt without the request for gists."""
    return instructions.replace(f" {GIST_REQUEST}", "")


def find_gists(text: str, *, done: bool) -> Gists:
    """Find the notes in a text of a model, or in a prefix of it.

    At the end of a prefix everything is a note that may be part of one.
    """
    if "[[" not in text:
        return Gists([(0, len(text))], {})
    kept: list[Span] = []
    by_title: dict[str, str] = {}
    position = searched = 0
    title, in_code = "", False
    if _FENCE.match(text):
        searched = _fence_end(text, 0)
    while match := _LINK_OR_CODE.search(text, searched):
        searched = match.end()
        if match[0] == "\n":
            title, in_code = "", False
            if _FENCE.match(text, searched):
                searched = _fence_end(text, searched)
        elif match[0] == "`":
            in_code = not in_code
        elif match[1]:
            title = "" if in_code else match[1].strip()
        elif title and not in_code:
            start = match.end() - 1
            content_end, end = _note_end(text, start, done)
            by_title.setdefault(title, clean_gist(text[start + 1 : content_end]))
            before = start
            while before > position and text[before - 1] in " \t":
                before -= 1
            after = text[end : end + 1]
            if before > position and (not after or not after.isalnum()):
                start = before
            kept.append((position, start))
            position = searched = end
    if not done and position < len(text):  # a space or "]](" at the end may turn out to be before a note
        end = len(text.rstrip(" \t")) if title else len(text)
        kept.append((position, max(position, end)))
    else:
        kept.append((position, len(text)))
    return Gists([span for span in kept if span[0] < span[1]], {name: note for name, note in by_title.items() if note})


def _note_end(text: str, start: int, done: bool) -> tuple[int, int]:
    """Return where the content of a note ends, and where the text after the note begins."""
    opening, closing = text[start], _CLOSING[text[start]]
    depth = 0
    limit = min(len(text), start + _MAX_NOTE)
    for index in range(start, limit):
        if text[index] == opening:
            depth += 1
        elif text[index] == closing:
            depth -= 1
            if depth == 0:
                return index, index + 1
        elif text[index] == "\n":
            limit = index
            break
    if limit == len(text) and not done:
        return limit, limit
    sentence = _SENTENCE_END.search(text, start, limit)
    end = sentence.end() if sentence else limit
    return end, end


def _fence_end(text: str, start: int) -> int:
    """Return where a fenced code block ends that begins at a position."""
    fence = _FENCE.search(text, text.find("\n", start) + 1 or len(text))
    return len(text) if fence is None else fence.end()


def clean_gist(note: str) -> str:
    """Return a note as plain text on one line."""
    text = plain_text(remove_controls(note.replace("{", " ").replace("}", " ")))
    return text if len(text) <= MAX_GIST else text[: MAX_GIST - 1].rsplit(" ", 1)[0] + "…"


def remove_gists(frame: Frame) -> tuple[Frame, dict[str, str]]:
    """Return a frame without the notes in its text, and the notes by the title of their link."""
    found = find_gists(frame.text, done=frame.done)
    if found.kept == [(0, len(frame.text))]:
        return frame, found.by_title
    unsettled: list[Span] = []
    length = fixed = 0
    for start, end in found.kept:
        unsettled += [(a + length, b + length) for a, b in clip_spans(frame.unsettled, start, end)]
        if frame.fixed > start:
            fixed = length + min(frame.fixed, end) - start
        length += end - start
    text = "".join(frame.text[start:end] for start, end in found.kept)
    return replace(frame, text=text, unsettled=tuple(unsettled), fixed=fixed), found.by_title


def example_without_gists(example: Example) -> Example:
    """Return an example whose answer has no notes, for models that are not asked for them."""
    if "]{" not in example.answer:
        return example
    kept = find_gists(example.answer, done=True).kept
    return replace(example, answer="".join(example.answer[start:end] for start, end in kept))
