"""DiffusionGemma in vLLM, with a draft after every denoising step. Needs the extra ``vllm``.

vLLM returns whole canvases. A plugin (``draft_hook``) wraps its sampler and publishes the draft of every step on a
ZeroMQ socket (``draft_channel``), from whichever process the sampler runs in. ``engine`` plans the canvases of a
request, asks a backend for one canvas after the other, and makes frames from the drafts. There are two backends:
``local`` starts vLLM on this machine, and ``server`` uses a running ``vllm serve`` that has the plugin.

``constraints`` fixes tokens for openings, edits and schemas. ``internals`` lists all parts of vLLM that are used beyond
its public interface, and the versions that have them. ``gpus`` chooses a checkpoint for the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine import Progress
from ..options import check_options
from .checkpoint import refuse_other_families
from .internals import check_version
from .options import OPTIONS, OWNER

if TYPE_CHECKING:
    from .engine import VLLMEngine


def open_vllm(
    model: str | None, *, progress: Progress | None = None, reasons: tuple[str, ...] = (), **options: Any
) -> VLLMEngine:
    """Start vLLM with a DiffusionGemma.

    Args:
        model: a checkpoint folder, OWNER/REPO on the hub, or "random" for a small random model. None chooses a
            checkpoint for the GPU.
        progress: called with download and memory sizes before the download and the load.
        reasons: why this engine was chosen.
        options: see ``OPTIONS`` of ``options``.

    Raises:
        UnknownOption, BadOption: an unknown option, or an invalid value.
        MissingPackage: vLLM is not installed, or another version than the supported ones.
        ModelNotFound, ModelBroken, ModelUnsupported: the checkpoint cannot be loaded, or does not fit.
    """
    settings = check_options(options, OPTIONS, OWNER)
    refuse_other_families(model or "")
    check_version()
    from .build import build_vllm  # imports torch and vLLM's dependencies

    return build_vllm(model, progress or (lambda share, step: None), reasons, settings)
