"""DiffusionGemma as a family of the engine. Does not use torch until weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...engine import Progress
from ...options import Option
from ..family import DiffusionModel, Family, StepRule
from ..loading.memory_plan import MemoryNeeds
from .checkpoint import OFFICIAL, DiffusionGemmaCheckpoint, check_format, find_licence, inspect
from .memory import memory_needs
from .model_config import read_model_config
from .sampling_params import SAMPLING, SamplingParams, sampling_params

if TYPE_CHECKING:
    import torch

    from ..tokenization.image_processor import ImageProcessor

RANDOM_SIZES: Final[Mapping[str, Any]] = {
    "vocabulary": 8192, "hidden": 64, "layers": 6, "canvas": 128, "window": 256, "spread": 4.0, "branch": 0.25,
    "words": True,
}  # fmt: skip
"""Sizes of the model "random", for ``random_model.write_checkpoint``, chosen so that drafts settle visibly: the share
of settled positions grows evenly over 20 to 35 steps, from a quarter after three steps, in 2 to 3 seconds for three
canvases on 2 cores. At a branch of 0.15 everything settles after 5 steps, and at 0.5 hardly anything after 48.
"""


class _Family:
    """See ``Family``."""

    name = "DiffusionGemma"
    architectures = ("DiffusionGemmaForBlockDiffusion",)
    model_types = ("diffusion_gemma",)
    example = OFFICIAL
    random = "random"
    cpu_dtype = "float32"
    sampling: tuple[Option, ...] = SAMPLING

    def sampling_params(self, options: Mapping[str, Any], base: SamplingParams) -> SamplingParams:
        """See ``Family``."""
        return sampling_params(options, base)

    def memory_needs(self, folder: Path, config: Mapping[str, Any], name: str) -> MemoryNeeds:
        """See ``Family``."""
        check_format(folder, config, name)
        return memory_needs(read_model_config(config, name))

    def licence(self, folder: Path, name: str) -> str:
        """See ``Family``."""
        return find_licence(folder, name)

    def inspect(self, folder: Path, config: Mapping[str, Any], name: str) -> DiffusionGemmaCheckpoint:
        """See ``Family``."""
        return inspect(folder, config, name)

    def write_random(self, folder: Path) -> None:
        """See ``Family``."""
        from .random_model import write_checkpoint

        write_checkpoint(folder, **RANDOM_SIZES)

    def load_weights(
        self,
        checkpoint: DiffusionGemmaCheckpoint,
        kind: str,
        device: torch.device,
        dtype: torch.dtype,
        progress: Progress,
    ) -> tuple[Any, tuple[str, ...]]:
        """See ``Family``. The module is transformers' ``DiffusionGemmaForBlockDiffusion``.

        If it is quantized, its experts and linear layers are those of ``quantization.py``. Encoder and decoder share
        their weights.
        """
        from .weight_loader import load_weights

        return load_weights(checkpoint, kind, device, dtype, progress)

    def assemble(
        self, module: Any, *, rows: int, context: int, top_k: int | None = None
    ) -> tuple[DiffusionModel, StepRule]:
        """See ``Family``."""
        from .kv_cache import KVCache
        from .layers import DiffusionGemmaLayers
        from .step_rule import EntropyBoundRule

        weight = module.model.decoder.embed_tokens.weight
        cache = KVCache(
            module.config.text_config,
            rows=rows,
            context=context,
            canvas=int(module.config.canvas_length),
            device=weight.device,
            dtype=weight.dtype,
        )
        model = DiffusionGemmaLayers(module, cache)
        return model, EntropyBoundRule(module, model, top_k=top_k)

    def image_processor(
        self, checkpoint: DiffusionGemmaCheckpoint, tokenizer: Any, image_tokens: int | None
    ) -> tuple[ImageProcessor | None, tuple[str, ...]]:
        """See ``Family``."""
        from .image_processor import load_processor

        return load_processor(checkpoint, tokenizer, image_tokens)


DIFFUSION_GEMMA: Final[Family] = _Family()
