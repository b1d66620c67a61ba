"""LFM2 diffusion as a family of the engine. Does not use torch until weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...engine import Progress
from ...errors import BadOption
from ...options import Option
from ..engine_options import OWNER
from ..family import DiffusionModel, Family, StepRule
from ..loading.memory_plan import MemoryNeeds
from .checkpoint import OFFICIAL, UNTESTED, Lfm2Checkpoint, check_format, find_licence, inspect
from .config import ARCHITECTURE, MODEL_TYPE, read_config
from .memory import memory_needs
from .sampling_params import SAMPLING, SamplingParams, sampling_params

if TYPE_CHECKING:
    import torch

    from ..tokenization.image_processor import ImageProcessor

RANDOM_SIZES: Final[Mapping[str, Any]] = {
    "vocabulary": 8192, "hidden": 128, "intermediate": 256, "layers": 6, "spread": 2.0, "branch": 1.0,
}  # fmt: skip
"""Sizes of the model "random-lfm2", for ``random_model.write_checkpoint``."""


class _Family:
    """See ``Family``."""

    name = "LFM2 diffusion"
    architectures = (ARCHITECTURE,)
    model_types = (MODEL_TYPE,)
    example = OFFICIAL
    random = "random-lfm2"
    sampling: tuple[Option, ...] = SAMPLING

    @property
    def cpu_dtype(self) -> str:
        """See ``Family``. 16 bits where the CPU multiplies them, twice as fast; elsewhere they take twice the time."""
        import torch

        able = torch.cpu.get_capabilities()
        return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"

    def sampling_params(self, options: Mapping[str, Any], base: SamplingParams) -> SamplingParams:
        """See ``Family``."""
        return sampling_params(options, base)

    def memory_needs(self, folder: Path, config: Mapping[str, Any], name: str) -> MemoryNeeds:
        """See ``Family``."""
        check_format(folder, config, name)
        return memory_needs(read_config(config, name))

    def licence(self, folder: Path, name: str) -> str:
        """See ``Family``."""
        return find_licence(folder, name)

    def inspect(self, folder: Path, config: Mapping[str, Any], name: str) -> Lfm2Checkpoint:
        """See ``Family``."""
        return inspect(folder, config, name)

    def write_random(self, folder: Path) -> None:
        """See ``Family``. The model prefers whole words, so that its text looks like one."""
        from .random_model import write_checkpoint
        from .random_tokenizer import make_tokenizer

        tokenizer = make_tokenizer(RANDOM_SIZES["vocabulary"])
        names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        preferred = [name.startswith("Ġ") and name[1:].isascii() and name[1:].isalpha() for name in names]
        write_checkpoint(folder, preferred=preferred, **RANDOM_SIZES)
        tokenizer.save_pretrained(folder)

    def load_weights(
        self, checkpoint: Lfm2Checkpoint, kind: str, device: torch.device, dtype: torch.dtype, progress: Progress
    ) -> tuple[Any, tuple[str, ...]]:
        """See ``Family``."""
        from .quantization import multiplies_exactly
        from .weights import load_weights

        model = load_weights(
            checkpoint.sizes,
            checkpoint.tensors,
            kind=kind,
            device=device,
            dtype=dtype,
            name=checkpoint.name,
            progress=progress,
        )
        reasons: tuple[str, ...] = () if checkpoint.name == self.random else (UNTESTED,)
        if kind == "int8" and not multiplies_exactly():
            reasons += ("This CPU adds products of 8 bits in 16 bits (it lacks VNNI), so the weights have 7 bits.",)
        return model, reasons

    def assemble(
        self, module: Any, *, rows: int, context: int, top_k: int | None = None
    ) -> tuple[DiffusionModel, StepRule]:
        """See ``Family``."""
        from .cache import Lfm2Cache
        from .layers import Lfm2DiffusionModel
        from .step_rule import PosteriorRule

        weight = module.embed_tokens.weight
        cache = Lfm2Cache(module.config, rows=rows, context=context, device=weight.device, dtype=weight.dtype)
        model = Lfm2DiffusionModel(module, cache)
        return model, PosteriorRule(model, top_k=top_k)

    def image_processor(
        self, checkpoint: Lfm2Checkpoint, tokenizer: Any, image_tokens: int | None
    ) -> tuple[ImageProcessor | None, tuple[str, ...]]:
        """See ``Family``. There is none.

        Raises:
            BadOption: an option for images is set.
        """
        if image_tokens is not None:
            raise BadOption(f"{OWNER}: {checkpoint.name} cannot see images. Leave the option 'image_tokens' out.")
        return None, ()


LFM2_DIFFUSION: Final[Family] = _Family()
