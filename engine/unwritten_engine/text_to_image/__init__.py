"""Pictures from words: a text-to-image pipeline on this machine. Needs the extra ``images``; it is imported when a
painter is opened, and not before.

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
"""Characters of a prompt. The text encoders of most pipelines read less."""


@dataclass(frozen=True, slots=True)
class PainterAbout:
    """What a painter says of itself.

    Attributes:
        model: the model's name for people.
        device: where it runs.
        steps: denoising steps of one picture.
        random: its weights are random: what it paints is noise.
        reasons: why it paints as it does, one sentence each.
    """

    model: str
    device: str
    steps: int
    random: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Painted:
    """A picture.

    Attributes:
        content: the file. It says of itself that it was generated, by which model, and with which seed.
        media_type: of the file.
        seed: what repeats it with the same model.
        steps: denoising steps that it took.
    """

    content: bytes
    media_type: str
    seed: int
    steps: int


class Painter(Protocol):
    """Paints one picture at a time. Its methods take their time: call them in a thread."""

    @property
    def about(self) -> PainterAbout:
        """What this painter is."""
        ...

    def paint(
        self, prompt: str, width: int, height: int, *, seed: int, between: Callable[[], None] = lambda: None
    ) -> Painted:
        """Paint a picture of about these proportions; it may be smaller than it was asked for.

        Args:
            prompt: what is on it.
            width: in pixels.
            height: in pixels.
            seed: the same seed, words and model paint the same picture.
            between: called between two steps. It may wait; what it raises breaks the work off, and comes out here.

        Raises:
            GenerationFailed: it could not be painted.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def open_painter(name: str, *, progress: Progress | None = None, **options: Any) -> Painter:
    """Open a painter. It loads a model, which takes seconds: call it in a thread.

    Args:
        name: a folder with a pipeline of diffusers, ``OWNER/REPO`` on Hugging Face, or ``random``: a tiny pipeline with
            random weights, which paints noise, to see the mechanics.
        progress: called while it opens. Before a download it is told the size and the folder.
        options: see ``painting.options.OPTIONS``.

    Raises:
        MissingPackage: the extra ``images`` is not installed.
        ModelNotFound, ModelBroken, ModelUnsupported: there is no such pipeline, or none that paints from words.
        UnknownOption, BadOption: an option that there is not, or with a value that it cannot take.
    """
    for package in ("torch", "PIL", "transformers", "diffusers"):
        try:
            found = importlib.import_module(package)
            if package == "transformers":  # which has something to say while diffusers asks it for parts nobody wants
                found.utils.logging.set_verbosity_error()
        except ImportError as error:
            raise MissingPackage(
                f"Painted pictures need diffusers, transformers, torch and pillow ({error}). Type: "
                'pip install "unwritten[images]"'
            ) from error
    from .pipeline import open_pipeline

    return open_pipeline(name.strip(), progress or (lambda share, doing: None), options)


OPTIONS: Final = (
    Option("steps", None, "count", "denoising steps; those that the pipeline has by itself if it is not given", 1, 200),
    Option("guidance", None, "number", "how closely it keeps to the words; few-step models want 0", 0, 30),
    Option("size", 512, "count", "pixels along a side of the largest square that is painted", 64, 2048),
    Option("device", None, "text", "as torch names it; a GPU if there is one"),
    Option("dtype", None, "text", "float32, float16 or bfloat16; float32 on a CPU, else float16"),
)
"""Options of a painter."""
