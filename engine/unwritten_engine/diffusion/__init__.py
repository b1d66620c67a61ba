"""Diffusion models in our own denoising loop. Needs the extra ``diffusion`` (torch, transformers, bitsandbytes).

Read in this order: ``engine`` (requests and the loop's thread), ``loop`` (scheduling), ``sequence`` (state of a
request), ``model_runner`` (one denoising step for all rows), ``sampler`` (from hidden states to tokens). The package
``tokenization`` converts prompts, schemas and drafts between text and tokens.

What differs between models is in a *family*, a package such as ``diffusion_gemma``: its layers and their cache, its
step rule, its sampling parameters, and how its checkpoints are checked and loaded. ``family`` states what a family
provides, ``families`` lists them and chooses one by ``config.json``, ``loader`` loads a model with the help of
``loading``, and ``build`` puts everything together. Shared modules do not import a family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine import Progress

if TYPE_CHECKING:  # the engine imports torch, which the tokenization does not need
    from .engine import DiffusionEngine


def open_diffusion(
    reference: str, *, progress: Progress | None = None, reasons: tuple[str, ...] = (), **options: Any
) -> DiffusionEngine:
    """Load a diffusion model.

    Args:
        reference: a checkpoint folder, OWNER/REPO on the hub, or "random" or "random-lfm2" for a small random model.
        progress: called with download and memory sizes before the download and the load.
        reasons: why this engine was chosen.
        options: see ``OPTIONS`` of ``engine_options``.

    Raises:
        UnknownOption, BadOption: an unknown option, or an invalid value.
        ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: the checkpoint cannot be loaded, or does not fit.
    """
    from .build import build_engine

    return build_engine(reference, progress or (lambda share, step: None), reasons, options)


__all__ = ["open_diffusion"]
