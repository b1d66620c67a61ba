"""Random models of any size, created on the device tensor by tensor: the full architecture without a checkpoint.

They are loaded like a checkpoint (``weight_loader``), from a source that draws random numbers instead of reading a
file. Device and host hold no more than the finished weights and one matrix. A tensor depends only on its name and the
seed, so models in different weight formats have the same weights.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from unwritten_engine.diffusion.diffusion_gemma.generation_config import fill_generation_config
from unwritten_engine.diffusion.diffusion_gemma.model_config import DECODER, ModelConfig, read_model_config
from unwritten_engine.diffusion.diffusion_gemma.random_model import END_IDS
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.diffusion_gemma.weight_loader import WeightLoader
from unwritten_engine.engine import Progress

FULL_SIZE: Final[Mapping[str, Any]] = {
    "architectures": ["DiffusionGemmaForBlockDiffusion"],
    "model_type": "diffusion_gemma",
    "canvas_length": 256,
    "text_config": {
        "vocab_size": 262_144,
        "hidden_size": 2816,
        "intermediate_size": 2112,
        "moe_intermediate_size": 704,
        "num_hidden_layers": 30,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "head_dim": 256,
        "global_head_dim": 512,
        "num_experts": 128,
        "top_k_experts": 8,
        "sliding_window": 1024,
        "max_position_embeddings": 262_144,
    },
}
"""The sizes of google/diffusiongemma-26B-A4B-it, without its vision tower."""
_BRANCHES: Final = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")


def full_size_config(*, canvas: int | None = None, **text: int) -> dict[str, Any]:
    """Return the config of the full model, with changed sizes.

    Args:
        canvas: tokens in a canvas.
        text: keys of its ``text_config``.
    """
    return {
        **FULL_SIZE,
        "canvas_length": canvas or FULL_SIZE["canvas_length"],
        "text_config": {**FULL_SIZE["text_config"], **text},
    }


def build(
    config: Mapping[str, Any],
    kind: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    spread: float = 4.0,
    branch: float = 0.3,
    seed: int = 0,
    progress: Progress = lambda share, doing: None,
) -> tuple[Any, ModelConfig]:
    """Create a random model.

    Args:
        config: its sizes, as in ``config.json``; it gets no vision tower.
        kind: weight format: "float32", "bf16", "int8" or "nf4".
        device: where it is created.
        dtype: of weights that are not quantized, and of activations.
        spread: standard deviation of the logits.
        branch: scale of each layer's output; see ``random_model``.
        seed: of the weights.
        progress: called with the share done.

    Returns:
        transformers' ``DiffusionGemmaForBlockDiffusion`` in eval mode without gradients, and its sizes.

    Raises:
        MissingPackage: bitsandbytes is needed for 4 bits.
    """
    sizes, given = read_model_config(config, "the random model"), transformers_config(config)
    filler = WeightLoader(given, kind, device, dtype, name="the random model", vision=False)
    source = _RandomSource(sizes, device, dtype, spread=spread, branch=branch, seed=seed)
    done, whole = 0, sum(math.prod(size) for size in source.shapes.values())
    for name, size in source.shapes.items():
        filler.put(name, source)
        done += math.prod(size)
        progress(done / whole, f"Making random weights in {kind}")
    fill_generation_config(filler.model, end_ids=END_IDS)
    return filler.finish()[0], sizes


def transformers_config(config: Mapping[str, Any]) -> Any:
    """Return the ``DiffusionGemmaConfig`` of a config, with a tiny vision tower."""
    from transformers import DiffusionGemmaConfig

    sizes = read_model_config(config, "the random model")
    small_tower = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    make: Any = DiffusionGemmaConfig
    kinds = ["full_attention" if layer.full_attention else "sliding_attention" for layer in sizes.layers]
    return make(
        text_config={**config["text_config"], "layer_types": kinds, "use_bidirectional_attention": "vision"},
        vision_config={"model_type": "gemma4_vision", **small_tower, "num_key_value_heads": 1, "head_dim": 8},
        canvas_length=sizes.canvas_length,
    )


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a checkpoint folder without weights, for engines that draw random ones."""
    given = transformers_config(config)
    given.architectures, given.dtype = ["DiffusionGemmaForBlockDiffusion"], "bfloat16"
    given.vision_config.default_output_length = 280  # vLLM wants it
    given.save_pretrained(folder)
    make_tokenizer(config["text_config"]["vocab_size"]).save_pretrained(folder)
    sampling = {
        "max_denoising_steps": 48, "sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": 0.1},
        "t_max": 0.8, "t_min": 0.4, "stability_threshold": 1, "confidence_threshold": 0.005,
        "eos_token_id": list(END_IDS), "pad_token_id": 0,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(sampling), encoding="utf-8")


class _RandomSource:
    """Random tensors by name, with the interface of an open safetensors file."""

    def __init__(
        self, sizes: ModelConfig, device: torch.device, dtype: torch.dtype, *, spread: float, branch: float, seed: int
    ) -> None:
        self.shapes = sizes.tensors()
        self._device, self._dtype = device, dtype
        self._table = spread / math.sqrt(sizes.hidden_size)
        self._branch, self._seed = branch, seed

    def get_tensor(self, name: str) -> Tensor:
        """Return a whole tensor."""
        size = self.shapes[name]
        tensor = self._normal(name, size)
        if len(size) == 1:  # norms and scales
            tensor.mul_(0.05 if name.endswith("layer_scalar") else 0.1).add_(1.0)
            return tensor.mul_(self._branch) if name.endswith(_BRANCHES) else tensor
        return tensor.mul_(self._table if name == f"{DECODER}embed_tokens.weight" else 1 / math.sqrt(size[-1]))

    def get_slice(self, name: str) -> _RandomSlice:
        """Return a tensor that is read matrix by matrix."""
        return _RandomSlice(self, name)

    def matrix(self, name: str, number: int) -> Tensor:
        """Return one matrix of a 3D tensor."""
        size = self.shapes[name][1:]
        return self._normal(f"{name}.{number}", size).mul_(1 / math.sqrt(size[-1]))

    def _normal(self, name: str, size: tuple[int, ...]) -> Tensor:
        # 32 bits: the generator of the CPU looks at no more of a seed.
        made = torch.Generator(self._device).manual_seed(zlib.crc32(f"{self._seed} {name}".encode()))
        return torch.randn(size, generator=made, device=self._device, dtype=self._dtype)


class _RandomSlice:
    """A slice of safetensors."""

    def __init__(self, source: _RandomSource, name: str) -> None:
        self._source, self._name = source, name

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor."""
        return list(self._source.shapes[self._name])

    def __getitem__(self, number: int) -> Tensor:
        return self._source.matrix(self._name, number)
