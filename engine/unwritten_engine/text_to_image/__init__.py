"""Images from prompts: a text-to-image pipeline on this machine. Needs the extra ``images``, imported on demand.

painter = open_painter("OWNER/REPO")                                        # loads a model: seconds, in a thread
painted = painter.paint("A red lighthouse at dusk.", 512, 320, seed=7)      # seconds or minutes, in a thread
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..engine import Progress
from ..errors import MissingPackage
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


def open_painter(name: str, *, progress: Progress | None = None, **options: Any) -> Painter:
    """Open a painter. This loads a model, which takes seconds: call it in a thread.

    Args:
        name: a folder with a pipeline of diffusers, ``OWNER/REPO`` on Hugging Face, or ``random`` for a tiny pipeline
            with random weights, which paints noise.
        progress: called while it opens. Before a download it gets the size and the folder.
        options: see ``OPTIONS``.

    Raises:
        MissingPackage: the extra ``images`` is not installed.
        ModelNotFound, ModelBroken, ModelUnsupported: there is no such pipeline, or it is not text-to-image.
        UnknownOption, BadOption: an unknown option, or an invalid value.
    """
    for package in ("torch", "PIL", "transformers", "diffusers"):
        try:
            module = importlib.import_module(package)
            if package == "transformers":  # it warns about optional parts that diffusers imports
                module.utils.logging.set_verbosity_error()
        except ImportError as error:
            raise MissingPackage(
                f"Painted pictures need diffusers, transformers, torch and pillow ({error}). Type: "
                'pip install "unwritten[images]"'
            ) from error
    from .pipeline import open_pipeline

    return open_pipeline(name.strip(), progress or (lambda share, step: None), options)


OPTIONS: Final = (
    Option("steps", None, "count", "denoising steps; None for the pipeline's default", 1, 200),
    Option("guidance", None, "number", "guidance scale; few-step models need 0", 0, 30),
    Option("size", 512, "count", "side of the largest square image in pixels", 64, 2048),
    Option("device", None, "text", "torch's device name; None for a GPU if there is one"),
    Option("dtype", None, "text", "float32, float16 or bfloat16; None for float32 on a CPU, else float16"),
)
"""Options of a painter."""
