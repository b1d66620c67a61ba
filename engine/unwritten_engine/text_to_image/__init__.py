"""Images from prompts: a text-to-image pipeline on this machine. Needs the extra ``images``, imported on demand.

painter = open_painter("OWNER/REPO")                                        # loads a model: seconds, in a thread
painted = painter.paint("A red lighthouse at dusk.", 512, 320, seed=7)      # seconds or minutes, in a thread
"""

from __future__ import annotations

import importlib
from typing import Any

from ..engine import Progress
from ..errors import MissingPackage
from .painter import OPTIONS, PROMPT_LIMIT, Painted, Painter, PainterAbout

__all__ = ["OPTIONS", "PROMPT_LIMIT", "Painted", "Painter", "PainterAbout", "open_painter"]


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
