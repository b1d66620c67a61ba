"""What an engine is: something that turns requests into frames, and says what it can do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from .frames import Frame, Prompt, Request

Progress: TypeAlias = Callable[[float, str], None]
"""Called while a model loads: the share done, from 0 to 1, and what is being done, in words."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine can do.

    Attributes:
        instruct: follows instructions; otherwise the model only continues text.
        drafts: earlier text may change in later frames (diffusion).
        shapes: can be held to a JSON schema.
        images: can see images in the prompt.
        edits: can edit a text in place, keeping spans of it.
        ahead: a text that nobody may come to read costs no more than this machine's time.
        rests: while a click is at work, requests with ``Priority.AHEAD`` make way by themselves, and lose nothing.
            Of an engine that does not, they are better stopped.
        markup: can be trusted with drawings and whole programs. Models that only continue text cannot, and random
            weights neither.
    """

    instruct: bool = False
    drafts: bool = False
    schemas: bool = False
    images: bool = False
    edits: bool = False
    prefetch: bool = False
    preempts: bool = False
    markup: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What an engine says of itself.

    Attributes:
        engine: the engine's name, as ``open_engine`` takes it.
        model: the model's name for people.
        device: where it runs, such as "CPU, 2 threads".
        quantization: how the weights are stored, such as "Q4_K_M" or "bf16".
        memory_bytes: what the weights and caches take; 0 if unknown.
        context: tokens that one request may use, prompt and text together.
        canvas_length: tokens in one canvas.
        parallel: requests that are worked on at the same time.
        abilities: what it can do.
        licence: the terms of the model, in words, with where to read them; "" if there are none to tell.
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
    """Prompts in, frames out. All methods are called from one event loop."""

    @property
    def about(self) -> About:
        """What this engine is, and why it was chosen."""
        ...

    def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Write one text.

        Yields frames with the cumulative text; the last one carries the usage. Several generations may run
        at once. Closing the iterator (``aclose``) stops the work within one step.

        Raises:
            RequestRefused: before the first frame, if this engine cannot fulfil the request.
            GenerationFailed: if the work breaks off.
            EngineClosed: if the engine is or gets closed.
        """
        ...

    def check(self, request: Request) -> None:
        """Say whether this engine can fulfil a request, without beginning any work.

        What it cannot know before (whether a server likes a schema, say) passes.

        Raises:
            RequestRefused: if it cannot. Of a shape, the message names the place that it cannot be held to.
            UnknownOption, BadOption: for a sampling option that it does not have, or cannot set so.
        """
        ...

    def promote(self, request: Request) -> None:
        """Somebody waits for this very request now: from here on it counts as a click (``Priority.CLICK``).

        Does nothing for a request that is not at work and does not wait.
        """
        ...

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Evaluate the parts that these prompts will share with later ones, so that the first click is quick.

        May do nothing. Never raises for a prompt that cannot be warmed.
        """
        ...

    async def close(self) -> None:
        """Stop all work and free the model. Running generations raise ``EngineClosed``."""
        ...
