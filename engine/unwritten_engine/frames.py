"""The contract between the engine and its callers: requests with prompts, and frames.

Terms:

* A *canvas* is a block of up to ``About.canvas_length`` tokens that is generated as one piece.
* A *draft* is the text of a canvas before it is finished.
* Text is *settled* when the engine does not expect to change it, and *fixed* when it guarantees not to.
* A *frame* is the whole text so far, with its unsettled spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, TypeAlias

Span: TypeAlias = tuple[int, int]
"""A half-open range ``(start, end)`` of character positions in a text."""

StopReason: TypeAlias = Literal["end", "length", "stop", "repetition", "echo"]
"""Why a generation ended: the model ended its text, the budget was used up, a stop string was found, or the text
was cut before it repeated itself without end, or before it repeated parts of its prompt."""


class Priority(IntEnum):
    """Scheduling priority. Lower values run first."""

    CLICK = 0
    """A visitor waits for the page."""
    PREFETCH = 10
    """The page was not requested yet."""


@dataclass(frozen=True, slots=True)
class Example:
    """A request with a good answer (few-shot example).

    A base model continues the series of examples; an instruct model sees them as earlier turns. Examples with ``facts``
    teach the model to use the facts of a prompt. Small base models ignore facts without such an example.
    """

    ask: str
    answer: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to write, ordered from the most stable part to the least.

    ``system`` and ``examples`` are the same for many requests, so engines evaluate them once and reuse the result
    (prefix caching). Text from visitors belongs in ``facts`` and ``ask``, never in ``system``.
    """

    ask: str
    """The request itself, one short paragraph."""
    system: str = ""
    """Role, style and format. Shared by all pages of an app."""
    examples: tuple[Example, ...] = ()
    """Requests with good answers in the wanted format."""
    facts: tuple[str, ...] = ()
    """Facts about the subject, one statement each, most relevant first. Data, not instructions."""
    opening: str = ""
    """Text that the answer starts with. It is part of every frame."""
    images: tuple[bytes, ...] = ()
    """Encoded images (PNG, JPEG or WebP), for engines with the ``images`` ability."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A text to edit.

    Attributes:
        text: the text to start from.
        keep: spans of ``text`` that must not change, in order and without overlap.
        strength: how much of the rest may change, from 0 (lightly) to 1 (completely).
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
    """One text to generate.

    Attributes:
        prompt: what to write.
        canvases: budget in canvases of ``About.canvas_length`` tokens each.
        max_tokens: a smaller budget in tokens, or None.
        schema: a JSON schema (a dict) that the text must satisfy as compact JSON, or None for free text. If the budget
            runs out, the text is a prefix of such JSON. A server without constrained decoding may write anything; the
            last frame then contains all of it.
        seed: makes the output reproducible on the same engine, while it generates nothing else. In bf16 on a GPU, other
            requests in the batch change the numbers and then the text. vLLM refuses seeds. None draws a random seed.
        priority: scheduling priority.
        stop: strings that end the text; they are not part of it.
        draft: a text to edit, for engines with the ``edits`` ability.
        options: sampling options of the engine by name; an unknown name is an error.
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
        """Maximum number of tokens to generate."""
        tokens = self.canvases * canvas_length
        return tokens if self.max_tokens is None else min(tokens, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Usage:
    """Statistics of a finished generation.

    Attributes:
        tokens: generated tokens, without end token and padding.
        prompt_tokens: tokens of the prompt.
        cached_tokens: prompt tokens that were reused from a cache.
        steps: denoising steps over all canvases; for autoregressive engines, generated tokens.
        canvases: canvases that were started.
        seconds: duration of the work, without time in the queue.
        queued_seconds: time in the queue.
        reason: why the generation ended.
        seed: the seed that was used; 0 if the engine has none.
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
        """Generated tokens per second of work; 0 if no time was measured."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Frame:
    """The whole text so far.

    Attributes:
        text: cumulative text from the first character.
        unsettled: spans of ``text`` that may still change, in order and without overlap.
        fixed: number of leading characters that no later frame changes. The exception is reasoning that only its end
            marks: it is removed when the end arrives.
        canvas: index of the current canvas, from 0.
        canvases: maximum number of canvases.
        step: step within this canvas, from 1; 0 before the first.
        steps: maximum steps of this canvas.
        usage: set on the last frame only.
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
