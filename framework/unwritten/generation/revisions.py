"""Revisions: from an instruction and an old text to requests of an engine, and from its frames to the new text.

An engine that edits gets the old text as a draft: what is kept is pinned, and the kind of the instruction decides how
much of the rest is regenerated. Any other engine generates the spans that may change one after another, and each is
inserted between what is kept. Either way, kept text stays exactly the same, or the revision fails.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from unwritten_engine import Abilities, Draft, Example, Frame, Prompt, Span, Usage

from ..core.errors import BadEdit, PageFailed
from ..core.localization import gettext_lazy as _
from ..formats.text_ends import finalize_text
from ..routing.prompts import builtin_examples

MAX_SPANS = 8
"""Maximum number of spans of one text that are generated one after another."""

MAX_SENTENCES = 60
"""Maximum number of sentences that a visitor can mark. Longer texts are marked by their lines."""

_CONTEXT_LENGTH = 1500
"""Maximum length of the context from the whole text in the prompt of one span."""

REVISION_PROMPT = "The text above once more, with this change: {}"
"""The prompt of a revision. The examples in ``templates/prompts/edit.txt`` use the same words."""

_SENTENCE = re.compile(r"\S.*?(?:[.!?…][\"”’»)\]*_]*(?=\s|$)|[。！？]|$)")
_WORD = re.compile(r"\S+")
_MARKED_LINE = re.compile(r"\s*(#{1,6} |[-*+] |\d+[.)] |>|\|)")
"""A heading, an item of a list, a quotation or a row of a table."""


@dataclass(frozen=True, slots=True)
class EditKind:
    """A kind of instruction.

    Attributes:
        keywords: Beginnings of words that belong to it, separated by spaces.
        strength: The share of the old text that an engine that edits regenerates, from 0 to 1.
        changes_length: True if the text after the change usually moves. Pinned text cannot move.
    """

    keywords: str
    strength: float
    changes_length: bool = False


EDIT_KINDS = (
    EditKind("anew again completely entirely different scratch rewrite", 1.0, changes_length=True),
    EditKind(
        "short brief summar trim cut half remove delete long length expand detail add more", 0.85, changes_length=True
    ),
    EditKind("simpl plain formal funn friend warm cold sad happ tone style poetic rhyme tense", 0.65),
    EditKind("spell typo grammar punctuat comma fix correct mistake name replace instead", 0.35),
)
"""Kinds of instructions, in the order in which they are tried."""

DEFAULT_EDIT_KIND = EditKind("", 0.75)
"""The kind of any other instruction."""


def classify_edit(instruction: str) -> EditKind:
    """Return the first kind with a keyword that begins a word of the instruction."""
    words = re.findall(r"[a-z]+", instruction.casefold())
    for kind in EDIT_KINDS:
        if any(word.startswith(tuple(kind.keywords.split())) for word in words):
            return kind
    return DEFAULT_EDIT_KIND


# -- spans ------------------------------------------------------------------------------------------------


def split_sentences(text: str) -> list[Span]:
    """Return the sentences of a text as spans. A heading or an item of a list is one sentence.

    A text with more than ``MAX_SENTENCES`` sentences is split into lines.
    """
    lines: list[Span] = []
    position = 0
    for line in text.split("\n"):
        if line and not line.isspace():
            lines.append((position, position + len(line)))
        position += len(line) + 1
    sentences: list[Span] = []
    for start, end in lines:
        if _MARKED_LINE.match(text, start, end):
            sentences.append((start, end))
        else:
            sentences += [match.span() for match in _SENTENCE.finditer(text, start, end)]
    return sentences if len(sentences) <= MAX_SENTENCES else lines


def editable_spans(text: str, keep: Collection[int], only: str = "") -> tuple[Span, ...]:
    """Return the spans of a text that may change.

    Args:
        text: The old text.
        keep: Indexes of the sentences that stay; see ``split_sentences``.
        only: A part of the text outside of which all stays. "": the whole text may change.

    Raises:
        BadEdit: If a sentence or the part does not exist, or nothing is left to change.
    """
    sentences = split_sentences(text)
    missing = [index for index in keep if not 0 <= index < len(sentences)]
    if missing:
        message = _(
            "The text has no sentence %(number)s to keep. Reload the page, and mark sentences again.",
            number=missing[0] + 1,
        )
        raise BadEdit(message)
    first, last = _find_span(only, text) if only.strip() else (0, len(text))
    spans: list[Span] = []
    position = first
    for start, end in [*(sentences[index] for index in sorted(set(keep))), (last, last)]:
        if start > position:
            spans.append((position, min(start, last)))
        position = max(position, end)
    trimmed = [_trim(text, span) for span in spans if span[0] < last]
    editable = tuple(span for span in trimmed if re.search(r"\w", text[slice(*span)]))
    if not editable:
        raise BadEdit(_("The whole text is marked to be kept. Leave something that may change."))
    return editable


def _find_span(words: str, text: str) -> Span:
    """Return the span of some words. White space between them may differ."""
    starts: list[int] = []  # of the text's words, in the text and on one line
    line_starts: list[int] = []
    length = 0
    for match in _WORD.finditer(text):
        starts.append(match.start())
        line_starts.append(length)
        length += match.end() - match.start() + 1
    line, wanted = " ".join(text.split()), " ".join(words.split())
    at = line.find(wanted)
    if at < 0:
        raise BadEdit(_("The part that may change is not in the text. Copy it from the text."))
    if line.find(wanted, at + len(wanted)) >= 0:
        raise BadEdit(_("The part that may change is in the text more than once. Copy a few words around it, too."))
    first, last = bisect_right(line_starts, at) - 1, bisect_right(line_starts, at + len(wanted) - 1) - 1
    return starts[first] + at - line_starts[first], starts[last] + at + len(wanted) - line_starts[last]


def _trim(text: str, span: Span) -> Span:
    """Return a span without the white space at its ends."""
    part = text[slice(*span)]
    start = span[0] + len(part) - len(part.lstrip())
    return (start, max(start, span[0] + len(part.rstrip())))


def _spans_around(text: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the spans between and around these spans."""
    bounds = [0, *(bound for span in spans for bound in span), len(text)]
    around = [_trim(text, (start, end)) for start, end in zip(bounds[::2], bounds[1::2], strict=True)]
    return tuple(span for span in around if span[0] < span[1])


# -- the revision of one text -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RevisionTask:
    """One span of the old text that is regenerated.

    Attributes:
        span: The span in the old text.
        prompt: The engine's prompt.
        draft: What an engine that edits starts from.
        tokens: The largest number of tokens. None: the canvas's own.
        partial: True if it is a part of the text. A whole text may have at least as many tokens as its canvas.
    """

    span: Span
    prompt: Prompt
    draft: Draft | None = None
    tokens: int | None = None
    partial: bool = False


class Revision:
    """The change of one text: it takes the engine's frames for each task, and returns frames of the whole text.

    Args:
        old: The old text.
        tasks: What is generated, in order and without overlap.
        prose: True if the end of what is generated is trimmed; see ``text_ends.finalize_text``.
        kept: Parts of the old text that must be in the new text, in order.

    Attributes:
        num_done: How many tasks are done and have a next one.
    """

    def __init__(
        self, old: str, tasks: Sequence[RevisionTask], *, prose: bool = False, kept: Sequence[str] = ()
    ) -> None:
        self.old = old
        self.num_done = 0
        self._tasks = tasks
        self._prose = prose
        self._kept = kept
        self._text_before = old[: tasks[0].span[0]]
        self._usage: Usage | None = None

    @property
    def task(self) -> RevisionTask:
        """The current task."""
        return self._tasks[self.num_done]

    def initial_frame(self) -> Frame:
        """Return the old text as a frame. What may change is unsettled."""
        return Frame(self.old, tuple(task.span for task in self._tasks) if self.old else ())

    def merge(self, frame: Frame) -> Frame:
        """Return a frame of the current task as a frame of the whole text. Only the last one of all has ``usage``.

        Raises:
            PageFailed: If the model wrote nothing, or changed what must be kept.
        """
        start, end = self.task.span
        is_whole = (start, end) == (0, len(self.old))
        text = frame.text
        if frame.usage and self._prose and not (self.task.draft and self.task.draft.keep):
            text = finalize_text(text, frame.usage.reason)
        skipped = 0 if is_whole and not frame.done else len(text) - len(text.lstrip())
        text = text[skipped:].rstrip() if frame.done else text[skipped:]
        if not is_whole and "\n" not in self.old[start:end]:
            text = text.replace("\n", " ")  # a part of a line stays on one line
        if frame.done and not text.removeprefix(self.task.prompt.opening).strip():
            raise PageFailed(_("The model wrote nothing. Try again, or describe the change in other words."))
        offset = len(self._text_before)
        unsettled = [(max(0, a - skipped) + offset, min(b - skipped, len(text)) + offset) for a, b in frame.unsettled]
        shift = offset + len(text) - end
        later = [(a + shift, b + shift) for a, b in (task.span for task in self._tasks[self.num_done + 1 :])]
        merged = replace(
            frame,
            text=self._text_before + text + self.old[end:],
            unsettled=tuple((a, b) for a, b in [*unsettled, *later] if a < b),
            fixed=offset + max(0, min(frame.fixed - skipped, len(text))),
        )
        return self._finish_task(merged, frame.usage, text) if frame.usage else merged

    def _finish_task(self, frame: Frame, usage: Usage, text: str) -> Frame:
        """Advance to the next task, or check the whole text after the last one."""
        self._usage = _add_usage(self._usage, usage)
        if self.num_done + 1 < len(self._tasks):
            _start, end = self.task.span
            self.num_done += 1
            self._text_before += text + self.old[end : self.task.span[0]]
            return replace(frame, usage=None)
        position = 0
        for part in self._kept:
            position = frame.text.find(part, position)
            if position < 0:
                raise PageFailed(_("The model changed '%(text)s', which must be kept. Try again.", text=part[:60]))
            position += len(part)
        return replace(frame, usage=self._usage, unsettled=(), fixed=len(frame.text))


def _add_usage(first: Usage | None, second: Usage) -> Usage:
    if first is None:
        return second
    return replace(
        second,
        tokens=first.tokens + second.tokens,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        cached_tokens=first.cached_tokens + second.cached_tokens,
        steps=first.steps + second.steps,
        canvases=first.canvases + second.canvases,
        seconds=first.seconds + second.seconds,
        queued_seconds=first.queued_seconds + second.queued_seconds,
        seed=first.seed,
    )


# -- planning ---------------------------------------------------------------------------------------------


def plan_rewrite(old: str, prompt: Prompt, *, prose: bool) -> Revision:
    """Return a revision that regenerates the whole text from the same prompt."""
    return Revision(old, [RevisionTask((0, len(old)), prompt)], prose=prose)


def plan_revision(
    old: str,
    instruction: str,
    prompt: Prompt,
    *,
    abilities: Abilities,
    prose: bool,
    editable: tuple[Span, ...] = (),
) -> Revision:
    """Return a revision that changes a text by a visitor's instruction.

    Args:
        old: The old text.
        instruction: The change, in the visitor's words.
        prompt: The canvas's current prompt.
        abilities: The engine's abilities.
        prose: True if the format is prose.
        editable: The spans that may change; see ``editable_spans``. Empty: all of the text.

    Raises:
        BadEdit: If too many separate spans may change.
    """
    whole = ((0, len(old)),)
    editable = editable or whole
    kept = [old[slice(*span)] for span in _spans_around(old, editable)]
    kind = classify_edit(instruction)
    if abilities.edits and not (kept and kind.changes_length):
        draft = Draft(old, _spans_around(old, editable), kind.strength)
        task = RevisionTask(whole[0], _revision_prompt(prompt, old, instruction), draft, _max_tokens(old, 2))
        return Revision(old, [task], prose=prose, kept=kept)
    if len(editable) > MAX_SPANS:
        raise BadEdit(
            _(
                "The text that may change has %(num)s separate parts, and up to %(limit)s can be changed at a time. "
                "Keep more sentences, or fewer.",
                num=len(editable),
                limit=MAX_SPANS,
            )
        )
    tasks = list(_tasks(old, editable, instruction, prompt, abilities, prose))
    return Revision(old, tasks, prose=prose, kept=kept)


def _tasks(
    old: str, editable: Sequence[Span], instruction: str, prompt: Prompt, abilities: Abilities, prose: bool
) -> Iterator[RevisionTask]:
    """Yield one task for each span that may change."""
    for span in editable:
        part = old[slice(*span)]
        facts = prompt.facts
        if part != old and abilities.instruct:  # a base model would continue the quoted text
            facts = (*facts, f"It is a part of this text: {old[:_CONTEXT_LENGTH]}")
        draft = Draft(part, (), classify_edit(instruction).strength) if abilities.edits else None
        revision_prompt = _revision_prompt(prompt, part, instruction, with_opening=prose and not abilities.instruct)
        tokens = _max_tokens(part, 2 if draft else 3)
        yield RevisionTask(span, replace(revision_prompt, facts=facts), draft, tokens, partial=part != old)


def _revision_prompt(prompt: Prompt, old: str, instruction: str, with_opening: bool = False) -> Prompt:
    """Return a prompt with the old text as the answer to the canvas's prompt, followed by the instruction.

    A base model continues the series, an instruct model the conversation.
    """
    return Prompt(
        ask=REVISION_PROMPT.format(instruction),
        system=prompt.system,
        examples=(*builtin_examples("edit"), Example(prompt.ask, old)),
        facts=prompt.facts,
        images=prompt.images,
        opening=_first_words(old) if with_opening else "",
    )


def is_revision_prompt(prompt: Prompt) -> bool:
    """True if a prompt requests a change of a text, not a new text."""
    return prompt.ask.startswith(REVISION_PROMPT.partition("{}")[0])


def _first_words(text: str) -> str:
    """Return the first words of a text. A small model that must begin with them stays on the subject."""
    words = re.match(r"\s*((?:\*\*[^*\n]+\*\*|\S+)(?:[ ]\S+){0,2})", text)
    return words[1] if words and len(words[1]) * 2 < len(text) else ""


def _max_tokens(text: str, characters_per_token: int) -> int:
    """Return enough tokens for a text that grows by half."""
    return 48 + len(text) * 3 // (2 * characters_per_token)
