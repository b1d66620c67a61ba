"""What the engine needs of a running vLLM: one canvas at a time, with drafts, and abort by cancellation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class StepDraft:
    """The draft of one canvas after one denoising step.

    Attributes:
        step: the step, from 1.
        ids: the most likely tokens.
        accepted: for each token, whether the sampler accepted it for the next step.
    """

    step: int
    ids: Sequence[int]
    accepted: Sequence[bool]


OnDraft: TypeAlias = Callable[[StepDraft], None]
"""Called with the drafts of a canvas in order, possibly not all of them, in the event loop of the caller."""


@dataclass(frozen=True, slots=True)
class CanvasRequest:
    """One canvas to generate.

    Attributes:
        prompt: tokens of the prompt and of the canvases before this one.
        width: tokens of the canvas.
        last: no other canvas follows, so that vLLM need not read it into its KV cache.
        extra_args: see ``constraints``.
        steps: maximum number of steps; None for the default.
        priority: lower values run first.
    """

    prompt: tuple[int, ...]
    width: int
    last: bool
    extra_args: Mapping[str, Any]
    steps: int | None
    priority: int

    def arguments(self) -> dict[str, Any]:
        """Return all ``extra_args``."""
        arguments: dict[str, Any] = {**self.extra_args, "diffusion_canvas_length": self.width}
        if self.steps is not None:
            arguments["diffusion_max_steps"] = self.steps
        return arguments


@dataclass(frozen=True, slots=True)
class FinishedCanvas:
    """The tokens of a finished canvas.

    Attributes:
        ids: its tokens.
        num_cached_tokens: tokens of the prompt that came from vLLM's prefix cache.
    """

    ids: list[int]
    num_cached_tokens: int


class Backend(Protocol):
    """A running vLLM."""

    async def write_canvas(self, request: CanvasRequest, on_draft: OnDraft) -> FinishedCanvas:
        """Generate a canvas. Cancelling the task aborts the request within one step.

        Raises:
            GenerationFailed: vLLM failed.
            RequestRefused: vLLM refuses the request.
        """
        ...

    async def close(self) -> None:
        """Stop vLLM, or disconnect from the server."""
        ...
