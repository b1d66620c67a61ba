"""DiffusionGemma in our own denoising loop. Needs the extra ``diffusion`` (torch, transformers, bitsandbytes).

Read in this order: ``engine`` (requests and the loop's thread), ``loop`` (scheduling), ``sequence`` (state of a
request), ``model_runner`` (one denoising step for all rows), ``model`` (the layers), ``kv_cache``, ``sampler``. The
package ``tokenization`` converts prompts, schemas and drafts between text and tokens, ``loading`` loads checkpoints,
and ``build`` puts everything together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine import Progress

if TYPE_CHECKING:  # the engine imports torch, which the tokenization does not need
    from .engine import DiffusionEngine


def open_diffusion(
    reference: str, *, progress: Progress | None = None, reasons: tuple[str, ...] = (), **options: Any
) -> DiffusionEngine:
    """Load a DiffusionGemma.

    Args:
        reference: a checkpoint folder, OWNER/REPO on the hub, or "random" for a small random model.
        progress: called with download and memory sizes before the download and the load.
        reasons: why this engine was chosen.
        options: see ``OPTIONS`` of ``sampling_params``.

    Raises:
        UnknownOption, BadOption: an unknown option, or an invalid value.
        ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: the checkpoint cannot be loaded, or does not fit.
    """
    from .build import build_engine

    return build_engine(reference, progress or (lambda share, step: None), reasons, options)


__all__ = ["open_diffusion"]
