"""What a painter is: its description, its images and its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ..options import Option

PROMPT_LIMIT = 300
"""Characters of a prompt. The text encoders of most pipelines read fewer."""


@dataclass(frozen=True, slots=True)
class PainterAbout:
    """Description of a painter.

    Attributes:
        model: display name of the model.
        device: where it runs.
        steps: denoising steps per image.
        random: the weights are random, so images are noise.
        reasons: why it was opened so, one sentence each.
    """

    model: str
    device: str
    steps: int
    random: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Painted:
    """An image.

    Attributes:
        content: the file. Its metadata says that it was generated, by which model and with which seed.
        media_type: of the file.
        seed: reproduces the image with the same model.
        steps: denoising steps that it took.
    """

    content: bytes
    media_type: str
    seed: int
    steps: int


class Painter(Protocol):
    """Paints one image at a time. Its methods block; call them in a thread."""

    @property
    def about(self) -> PainterAbout:
        """Description of this painter."""
        ...

    def paint(
        self, prompt: str, width: int, height: int, *, seed: int, between: Callable[[], None] = lambda: None
    ) -> Painted:
        """Paint an image with these proportions; it may be smaller than requested.

        Args:
            prompt: what to paint.
            width: in pixels.
            height: in pixels.
            seed: the same seed, prompt and model give the same image.
            between: called between two steps. It may block; its exceptions stop the work and are raised by ``paint``.

        Raises:
            GenerationFailed: the image could not be painted.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


OPTIONS: Final = (
    Option("steps", None, "count", "denoising steps; None for the pipeline's default", 1, 200),
    Option("guidance", None, "number", "guidance scale; few-step models need 0", 0, 30),
    Option("size", 512, "count", "side of the largest square image in pixels", 64, 2048),
    Option("device", None, "text", "torch's device name; None for a GPU if there is one"),
    Option("dtype", None, "text", "float32, float16 or bfloat16; None for float32 on a CPU, else float16"),
)
"""Options of a painter."""
