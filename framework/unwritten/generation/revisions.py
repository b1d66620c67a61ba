"""Revisions: from an ask in free words and an old text to what an engine is asked for, and back to one text.

On an engine that edits, the old text is seeded on its canvas: what is kept is pinned, and how much of the rest is drawn
anew follows from the kind of the ask. All others write what is not kept anew, one stretch after another, and it
is fitted between what is kept. Either way what is kept comes back letter by letter, or the revision fails.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from unwritten_engine import Abilities, Draft, Example, Frame, Prompt, Span, Usage

from ..core.assets import asset_dir
from ..core.errors import BadEdit, PageFailed
from ..routing.prompts import finalize_text, read_examples

MAX_SPANS = 8
"""Stretches of one text that are written one after another."""


MAX_SENTENCES = 60
"""Sentences that a visitor can mark; longer texts are marked by their lines."""


_AROUND = 1500
"""Characters of the whole text that are told to a model which writes one stretch of it."""


REVISION_ASK = "The text above once more, with this change: {}"
"""How a change is asked for. ``templates/prompts/edit.txt`` has its examples in the same words."""


_SENTENCE = re.compile(r"\S.*?(?:[.!?…][\"”’»)\]*_]*(?=\s|$)|[。！？]|$)")


_MARKED_LINE = re.compile(r"\s*(#{1,6} |[-*+] |\d+[.)] |>|\|)")


@dataclass(frozen=True, slots=True)
class EditKind:
    """A kind of ask.

    Attributes:
        words: beginnings of words that tell of it.
        strength: the share of the old text that is drawn anew on an engine that edits.
        moves: whether what stands behind the change must move, which pins forbid.
    """

    keywords: str
    strength: float
    moves_text: bool = False


EDIT_KINDS = (
    EditKind("anew again completely entirely different scratch rewrite", 1.0, moves_text=True),
    EditKind("short brief summar trim cut half remove delete long length expand detail add more", 0.85, moves_text=True),
    EditKind("simpl plain formal funn friend warm cold sad happ tone style poetic rhyme tense", 0.65),
    EditKind("spell typo grammar punctuat comma fix correct mistake name replace instead", 0.35),
)
"""Kinds of asks, in the order in which they are looked for."""


DEFAULT_EDIT_KIND = EditKind("", 0.75)
"""Any other ask."""


def classify_edit(ask: str) -> EditKind:
    """The kind of an ask: the first that one of its words begins like."""
    asked = re.findall(r"[a-z]+", ask.casefold())
    for kind in EDIT_KINDS:
        if any(word.startswith(tuple(kind.keywords.split())) for word in asked):
            return kind
    return DEFAULT_EDIT_KIND


def split_sentences(text: str) -> list[Span]:
    """The sentences of a text, in which headings and items of lists are one piece each."""
    lines = [match.span() for match in re.finditer(r"[^\n]*\S[^\n]*", text)]
    found: list[Span] = []
    for start, end in lines:
        if _MARKED_LINE.match(text, start, end):
            found.append((start, end))
        else:
            found += [match.span() for match in _SENTENCE.finditer(text, start, end)]
    return found if len(found) <= MAX_SENTENCES else lines


def editable_spans(text: str, keep: Collection[int], only: str = "") -> tuple[Span, ...]:
    """What of a text may change.

    Args:
        text: the old text.
        keep: numbers of the pieces that stay, see ``pieces_of``.
        only: words of the text outside of which all stays; "" for no such words.

    Raises:
        BadEdit: if a piece or the words are not there, or nothing is left to change.
    """
    pieces = split_sentences(text)
    missing = [number for number in keep if not 0 <= number < len(pieces)]
    if missing:
        raise BadEdit(f"There is no sentence {missing[0] + 1} to keep. Look at the text as it is now, and mark again.")
    first, last = _place_of(only, text) if only.strip() else (0, len(text))
    stretches: list[Span] = []
    at = first
    for a, b in [*(pieces[number] for number in sorted(set(keep))), (last, last)]:
        if a > at:
            stretches.append((at, min(a, last)))
        at = max(at, b)
    trimmed = [_trimmed(text, span) for span in stretches if span[0] < last]
    free = tuple(span for span in trimmed if re.search(r"\w", text[slice(*span)]))
    if not free:
        raise BadEdit("All of the text is to be kept. Leave something that may change.")
    return free


def _place_of(words: str, text: str) -> Span:
    """Where some words stand, whatever the white space between them."""
    found = list(re.finditer(r"\s+".join(map(re.escape, words.split())), text))
    if not found:
        raise BadEdit("The words that alone may change do not stand in the text. Copy them from it.")
    if len(found) > 1:
        raise BadEdit("The words that alone may change stand in the text more than once. Copy a few words around them.")
    return found[0].span()


def _trimmed(text: str, span: Span) -> Span:
    stretch = text[slice(*span)]
    start = span[0] + len(stretch) - len(stretch.lstrip())
    return (start, max(start, span[0] + len(stretch.rstrip())))


def _between(text: str, free: Sequence[Span]) -> tuple[Span, ...]:
    """What lies around some stretches, without the white space at its ends."""
    ends = [0, *(place for span in free for place in span), len(text)]
    around = [_trimmed(text, (a, b)) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    return tuple(span for span in around if span[0] < span[1])


@dataclass(frozen=True, slots=True)
class RevisionTask:
    """One stretch of the old text that is written anew.

    Attributes:
        span: where it stands in the old text.
        prompt: what the engine is asked.
        draft: what an engine that edits begins with.
        tokens: room for it; None for the canvas's own.
        partial: whether it is a part of the text; the whole has the canvas's own room at least.
    """

    span: Span
    prompt: Prompt
    draft: Draft | None = None
    tokens: int | None = None
    partial: bool = False


class Revision:
    """A text on its way to its next version: it takes the frames of each task, and gives frames of the whole text.

    Args:
        old: the old text.
        tasks: what is written anew, in order and without overlap.
        prose: whether the end of what is written is looked after, see ``prompts.finish``.
        kept: what must be in the new text, in order.

    Attributes:
        number: how many tasks are done, so that the next one can begin.
    """

    def __init__(
        self, old: str, tasks: Sequence[RevisionTask], *, prose: bool = False, kept: Sequence[str] = ()
    ) -> None:
        self.old = old
        self._tasks = tasks
        self._prose = prose
        self._kept = kept
        self.num_done = 0
        self._before = old[: tasks[0].span[0]]
        self._usage: Usage | None = None

    @property
    def task(self) -> RevisionTask:
        """What is written now."""
        return self._tasks[self.num_done]

    def initial_frame(self) -> Frame:
        """The old text, of which nothing that may change is settled."""
        return Frame(self.old, tuple(task.span for task in self._tasks) if self.old else ())

    def merge(self, frame: Frame) -> Frame:
        """A frame of the present task, as a frame of the whole text. The last one of the last task has the usage.

        Raises:
            PageFailed: if the model wrote nothing, or lost what was to be kept.
        """
        start, end = self.task.span
        whole = (start, end) == (0, len(self.old))
        text = frame.text
        if frame.usage and self._prose and not (self.task.draft and self.task.draft.keep):
            text = finalize_text(text, frame.usage.reason)
        skipped = 0 if whole and not frame.done else len(text) - len(text.lstrip())
        text = text[skipped:].rstrip() if frame.done else text[skipped:]
        if not whole and "\n" not in self.old[start:end]:
            text = text.replace("\n", " ")  # a part of a line stays one
        if frame.done and not text.removeprefix(self.task.prompt.opening).strip():
            raise PageFailed("The model wrote nothing. Try again, or ask in other words.")
        at = len(self._before)
        spans = [(max(0, a - skipped) + at, min(b - skipped, len(text)) + at) for a, b in frame.unsettled]
        moved = at + len(text) - end
        later = [(a + moved, b + moved) for a, b in (task.span for task in self._tasks[self.num_done + 1 :])]
        fitted = replace(
            frame,
            text=self._before + text + self.old[end:],
            unsettled=tuple((a, b) for a, b in [*spans, *later] if a < b),
            fixed=at + max(0, min(frame.fixed - skipped, len(text))),
        )
        return self._finished(fitted, frame.usage, text) if frame.usage else fitted

    def _finished(self, frame: Frame, usage: Usage, text: str) -> Frame:
        """The last frame of a task: the next one begins, or all of them are done."""
        self._usage = _sum(self._usage, usage)
        if self.num_done + 1 < len(self._tasks):
            _, end = self.task.span
            self.num_done += 1
            self._before += text + self.old[end : self.task.span[0]]
            return replace(frame, usage=None)
        at = 0
        for part in self._kept:
            at = frame.text.find(part, at)
            if at < 0:
                raise PageFailed(f"The model did not keep {part[:60]!r}, which was to stay. Try again.")
            at += len(part)
        return replace(frame, usage=self._usage, unsettled=(), fixed=len(frame.text))


def _sum(one: Usage | None, two: Usage) -> Usage:
    if one is None:
        return two
    return replace(
        two,
        tokens=one.tokens + two.tokens,
        prompt_tokens=one.prompt_tokens + two.prompt_tokens,
        cached_tokens=one.cached_tokens + two.cached_tokens,
        steps=one.steps + two.steps,
        canvases=one.canvases + two.canvases,
        seconds=one.seconds + two.seconds,
        queued_seconds=one.queued_seconds + two.queued_seconds,
        seed=one.seed,
    )


def plan_rewrite(old: str, prompt: Prompt, *, prose: bool) -> Revision:
    """The same prompt again: all of the text is written anew, and the old one is shown until the first frame."""
    return Revision(old, [RevisionTask((0, len(old)), prompt)], prose=prose)


def plan_revision(
    old: str,
    ask: str,
    prompt: Prompt,
    *,
    abilities: Abilities,
    prose: bool,
    editable: tuple[Span, ...] = (),
) -> Revision:
    """A change that was asked for.

    Args:
        old: the old text.
        ask: what is to change, in a visitor's words.
        prompt: what the canvas asks for today.
        abilities: what the engine can do.
        prose: whether the format is prose.
        free: what may change, see ``free_stretches``; empty for all of it.

    Raises:
        BadEdit: if too many separate stretches may change.
    """
    whole = ((0, len(old)),)
    editable = editable or whole
    kept = [old[slice(*span)] for span in _between(old, editable)]
    kind = classify_edit(ask)
    if abilities.edits and not (kept and kind.moves_text):
        draft = Draft(old, _between(old, editable), kind.strength)
        task = RevisionTask(whole[0], _prompt(prompt, old, ask), draft, _room(old, 2))
        return Revision(old, [task], prose=prose, kept=kept)
    if len(editable) > MAX_SPANS:
        raise BadEdit(
            f"What is not kept falls into {len(editable)} separate parts, and up to {MAX_SPANS} can be changed at a "
            "time. Keep more, or less."
        )
    tasks = list(_spans(old, editable, ask, prompt, abilities, prose))
    return Revision(old, tasks, prose=prose, kept=kept)


def _spans(
    old: str, free: Sequence[Span], ask: str, prompt: Prompt, abilities: Abilities, prose: bool
) -> Iterator[RevisionTask]:
    for span in free:
        stretch = old[slice(*span)]
        facts = prompt.facts
        if stretch != old and abilities.instruct:  # others would go on with it
            facts = (*facts, f"It is a part of this text: {old[:_AROUND]}")
        draft = Draft(stretch, (), classify_edit(ask).strength) if abilities.edits else None
        made = replace(_prompt(prompt, stretch, ask, begun=prose and not abilities.instruct), facts=facts)
        yield RevisionTask(span, made, draft, _room(stretch, 2 if draft else 3), partial=stretch != old)


def _prompt(prompt: Prompt, old: str, ask: str, begun: bool = False) -> Prompt:
    """The old text as the answer to the canvas's own ask, and after it the ask for the change.

    A base model continues the series, and an instruct model is in the middle of a conversation.
    """
    return Prompt(
        ask=REVISION_ASK.format(ask),
        system=prompt.system,
        examples=(*_examples(), Example(prompt.ask, old)),
        facts=prompt.facts,
        images=prompt.images,
        opening=_beginning(old) if begun else "",
    )


def is_revision_prompt(prompt: Prompt) -> bool:
    """Whether a prompt asks for a change of a text, and not for the text itself."""
    return prompt.ask.startswith(REVISION_ASK.partition("{}")[0])


def _beginning(old: str) -> str:
    """The first words of a text. A small model that must begin with them keeps to the subject."""
    words = re.match(r"\s*((?:\*\*[^*\n]+\*\*|\S+)(?:[ ]\S+){0,2})", old)
    return words[1] if words and len(words[1]) * 2 < len(old) else ""


@lru_cache
def _examples() -> tuple[Example, ...]:
    return read_examples(asset_dir("templates") / "prompts" / "edit.txt")


def _room(text: str, characters: int) -> int:
    """Tokens for a text that may grow by half, at so many characters a token."""
    return 48 + len(text) * 3 // (2 * characters)
