"""DiffusionGemma in a denoising loop of our own. Needs the extra ``diffusion`` (torch, transformers, bitsandbytes).

The life of a request: ``prompts`` puts the prompt into tokens and ``outline`` lays out its canvases; ``engine``
hands both to ``loop``, whose thread gives it a row, reads the prompt into the cache (``kv``, ``body``) and denoises
it together with all others (``batch``, ``sampler``); ``text`` makes frames of the drafts.
"""

from __future__ import annotations

from typing import Any

from ..engine import Progress
from .engine import DiffusionEngine


def open_diffusion(
    reference: str, *, progress: Progress | None = None, reasons: tuple[str, ...] = (), **options: Any
) -> DiffusionEngine:
    """Load a DiffusionGemma and begin to serve requests.

    Args:
        reference: a checkpoint folder, OWNER/REPO on the hub, or "random" for a small random model.
        progress: told what will be downloaded and what it will take in memory, before it happens.
        reasons: why this engine was chosen.
        options: those in ``options.OPTIONS``.

    Raises:
        UnknownOption, BadOption: an option that there is not, or with a value that it cannot take.
        ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: the checkpoint cannot be loaded, or does not fit.
    """
    from .build import build_engine

    return build_engine(reference, progress or (lambda share, doing: None), reasons, options)


__all__ = ["DiffusionEngine", "open_diffusion"]
