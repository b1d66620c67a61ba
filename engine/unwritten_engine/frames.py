"""The contract between the engine and everything above it: prompts go in, frames come out.

The engine knows prompts, tokens and frames. It knows nothing of HTML, HTTP or pages.

Words that mean the same thing everywhere in this project:

* a *canvas* is a block of up to ``About.canvas_length`` tokens that is written as one piece;
* a *draft* is the text of a canvas before it is finished;
* a stretch of text is *settled* when the engine does not expect to change it any more, and *fixed*
  when it promises not to;
* a *frame* is the whole text so far, with what is not settled yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, TypeAlias

Span: TypeAlias = tuple[int, int]
"""A half-open range ``(start, end)`` of character positions in a text."""

StopReason: TypeAlias = Literal["end", "length", "stop"]
"""Why a generation ended: the model ended its text, the budget ran out, or a stop string came."""


class Priority(IntEnum):
    """Who is waiting. A lower number goes first."""

    CLICK = 0
    """A person is looking at the page."""
    PREFETCH = 10
    """Nobody has asked yet."""


@dataclass(frozen=True, slots=True)
class Example:
    """One ask with the answer that it should get.

    A base model continues the series of examples; an instruct model is shown them as earlier turns. An example with
    ``facts`` shows that an answer says what is known; without one, a small base model passes facts over.
    """

    ask: str
    answer: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to write, from the most stable part to the least.

    The order matters for speed: ``system`` and ``examples`` are the same for many requests, so an engine
    evaluates them once and reuses the result (prefix reuse). Text that comes from a visitor belongs in
    ``facts`` and ``ask``, never in ``system``.
    """

    ask: str
    """The request itself, one short paragraph."""
    system: str = ""
    """Who writes, in what manner and form. Shared by every page of an app."""
    examples: tuple[Example, ...] = ()
    """Asks with good answers, in the form that is wanted."""
    facts: tuple[str, ...] = ()
    """What is known about the subject, one statement each, most relevant first. Data, not instructions."""
    opening: str = ""
    """Text that the answer begins with. It is part of every frame."""
    images: tuple[bytes, ...] = ()
    """Encoded images (PNG, JPEG or WebP), for engines that can see."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A starting text for an edit.

    Attributes:
        text: the text to start from.
        keep: spans of ``text`` that must stay as they are, in order and without overlap.
        strength: how much of the rest is written anew, from 0 (a light touch) to 1 (everything).
    """

    text: str
    keep: tuple[Span, ...] = ()
    strength: float = 1.0

    def __post_init__(self) -> None:
        end = 0
        for span in self.keep:
            if not end <= span[0] < span[1] <= len(self.text):
                raise ValueError(
                    f"Draft.keep has the span {span}: spans must be in order, must not overlap, and must lie "
                    f"inside the text, which has {len(self.text)} characters."
                )
            end = span[1]
        if not 0 <= self.strength <= 1:
            raise ValueError(f"Draft.strength is {self.strength}: give a number from 0 to 1.")


@dataclass(frozen=True, slots=True)
class Request:
    """One text to write.

    Attributes:
        prompt: what to write.
        canvases: the budget in canvases, each ``About.canvas_length`` tokens.
        max_tokens: a smaller budget in tokens, if the canvases are more than is wanted.
        shape: a JSON schema (a dict) that the text must satisfy as compact JSON, or None for free text. A text whose
            budget ran out is the beginning of such JSON; and a server that holds its model to nothing may write
            anything: then the last frame has all of it.
        seed: makes the output repeatable on the same engine; None draws one.
        priority: who is waiting.
        stop: strings that end the text; they are not part of it.
        draft: a text to edit, for engines with the ``edits`` ability.
        options: sampling options of the engine by name; an unknown one is an error.
    """

    prompt: Prompt
    canvases: int = 1
    max_tokens: int | None = None
    schema: Mapping[str, Any] | None = None
    seed: int | None = None
    priority: Priority = Priority.CLICK
    stop: tuple[str, ...] = ()
    draft: Draft | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.canvases < 1:
            raise ValueError(f"Request.canvases is {self.canvases}: ask for at least one canvas.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"Request.max_tokens is {self.max_tokens}: ask for at least one token.")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise ValueError(f"Request.seed is {self.seed}: give a whole number from 0 to {2**32 - 1}.")

    def budget(self, canvas_length: int) -> int:
        """The largest number of tokens that may be written."""
        tokens = self.canvases * canvas_length
        return tokens if self.max_tokens is None else min(tokens, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a finished generation took.

    Attributes:
        tokens: tokens written, end token and padding not counted.
        prompt_tokens: tokens of the prompt.
        cached_tokens: how many of these were not evaluated again (prefix reuse).
        steps: denoising passes over all canvases; for an engine that writes token by token, its tokens.
        canvases: canvases begun.
        seconds: from the start of the work to its end; time in the queue is not counted.
        queued_seconds: time in the queue.
        reason: why it ended.
        seed: the seed that was used.
    """

    tokens: int
    prompt_tokens: int
    cached_tokens: int
    steps: int
    canvases: int
    seconds: float
    queued_seconds: float
    reason: StopReason
    seed: int

    @property
    def tokens_per_second(self) -> float:
        """Tokens written per second of work; 0 if no time was measured."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Frame:
    """The whole text so far.

    Attributes:
        text: everything written so far, from the first character (cumulative, not a difference).
        unsettled: spans of ``text`` that may still change, in order and without overlap.
        fixed: how many leading characters will not change in any later frame.
        canvas: the canvas being written, counted from 0.
        canvases: how many canvases may be written.
        step: the step within this canvas, counted from 1; 0 before the first.
        steps: the largest number of steps that this canvas may take.
        usage: set on the last frame, and only there.
    """

    text: str
    unsettled: tuple[Span, ...] = ()
    fixed: int = 0
    canvas: int = 0
    canvases: int = 1
    step: int = 0
    steps: int = 0
    usage: Usage | None = None

    @property
    def done(self) -> bool:
        """True on the last frame."""
        return self.usage is not None
