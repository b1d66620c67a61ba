"""The engine protocol: an engine turns requests into frames and describes itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from .frames import Frame, Prompt, Request

Progress: TypeAlias = Callable[[float, str], None]
"""Called while a model loads, with the share done (0 to 1) and a description of the current step."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine can do.

    Attributes:
        instruct: follows instructions. A base model only continues text.
        drafts: later frames may change earlier text (diffusion).
        schemas: can be constrained to a JSON schema.
        patterns: enforces ``pattern`` in a schema, as a grammar can.
        images: accepts images in the prompt.
        edits: can edit a text in place and keep spans of it.
        prefetch: speculative requests cost only time on this machine, not money.
        preempts: while a click runs, requests with ``Priority.PREFETCH`` are preempted and resumed without loss. For
            other engines, the caller should cancel them.
        markup: output is good enough for drawings and whole programs. False for base models, random weights and models
            below ``model_size.MARKUP_PARAMETERS``.
        prefill: continues the prompt's opening and observes stop strings. The frames of other engines hold exactly what
            the model writes; ``clean_engine`` adds the opening, cuts the text at a stop string, and finds the JSON of a
            request with a schema.
        seeds: the same seed repeats a text; see ``Request.seed``.
    """

    instruct: bool = False
    drafts: bool = False
    schemas: bool = False
    patterns: bool = False
    images: bool = False
    edits: bool = False
    prefetch: bool = False
    preempts: bool = False
    markup: bool = False
    prefill: bool = True
    seeds: bool = True


@dataclass(frozen=True, slots=True)
class About:
    """Description of an open engine.

    Attributes:
        engine: the engine's name, as in ``open_engine``.
        model: the model's display name.
        device: where it runs, such as "CPU, 2 threads".
        quantization: the weight format, such as "Q4_K_M" or "bf16".
        memory_bytes: size of weights and caches; 0 if unknown.
        context: maximum tokens of one request, prompt and output together.
        canvas_length: tokens in one canvas.
        parallel: requests that run at the same time.
        abilities: what the engine can do.
        licence: terms of the model and where to read them; "" if unknown.
        reasons: why this engine, model and device were chosen, one sentence each.
    """

    engine: str
    model: str
    device: str
    quantization: str
    memory_bytes: int
    context: int
    canvas_length: int
    parallel: int
    abilities: Abilities
    licence: str = ""
    reasons: tuple[str, ...] = ()


class Engine(Protocol):
    """Prompts in, frames out. Call all methods from one event loop."""

    @property
    def about(self) -> About:
        """Description of this engine and why it was chosen."""
        ...

    def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Generate one text.

        Yields frames with the cumulative text; the last frame carries the usage. Several generations may run at once.
        Closing the iterator (``aclose``) stops the work within one step.

        Raises:
            RequestRefused: before the first frame, if this engine cannot fulfil the request.
            GenerationFailed: the generation failed after it had started.
            EngineClosed: the engine is closed, or was closed meanwhile.
        """
        ...

    def check(self, request: Request) -> None:
        """Check whether this engine can fulfil a request, without starting work.

        Conditions that only a server can judge are not checked.

        Raises:
            RequestRefused: it cannot. For a schema, the message names the unsupported part.
            UnknownOption, BadOption: an unknown sampling option, or an invalid value.
        """
        ...

    def promote(self, request: Request) -> None:
        """Raise a queued or running request to ``Priority.CLICK``, because a visitor now waits for it.

        Does nothing if the request is not active.
        """
        ...

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Evaluate the prefixes that these prompts share with later ones, so that the first click is fast.

        May do nothing. Never raises for a prompt that cannot be warmed.
        """
        ...

    async def close(self) -> None:
        """Stop all work and free the model. Running generations raise ``EngineClosed``."""
        ...
