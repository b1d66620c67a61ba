"""Inspect a checkpoint of DiffusionGemma. Reads only headers and JSON, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

from ...errors import ModelUnsupported
from ..loading.checkpoint import (
    DTYPES,
    Checkpoint,
    check_tensors,
    check_tokenizer,
    describe_quantization,
    find_quantization,
    read_ends,
    read_licence,
    read_optional,
)
from ..loading.safetensors_index import read_tensors
from .generation_config import read_generation_config
from .memory import memory_needs
from .model_config import DECODER, ENCODER, ModelConfig, ParameterCounts, read_model_config, tensor_kind

OFFICIAL: Final = "google/diffusiongemma-26B-A4B-it"
"""The published bf16 checkpoint."""
_ENDS: Final = (1, 106, 50)
_FP8: Final = re.compile(r"fp8|f8_|float-quantized", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DiffusionGemmaCheckpoint(Checkpoint):
    """A checkpoint of DiffusionGemma.

    Attributes:
        model_config: sizes of the model.
        counts: number of parameters by kind, counted in the files.
    """

    model_config: ModelConfig = field(repr=False)
    counts: ParameterCounts


def inspect(folder: Path, config: Mapping[str, Any], name: str) -> DiffusionGemmaCheckpoint:
    """Inspect a checkpoint folder. See ``Family.inspect``."""
    check_format(folder, config, name)
    sizes = read_model_config(config, name)
    tensors = read_tensors(folder)
    if unknown := sorted({tensor.dtype for tensor in tensors.values()} - DTYPES):
        raise ModelUnsupported(_refusal(name, f"tensors of type {', '.join(unknown)}"))
    check_tensors(sizes.tensors(), tensors, name, alias=_twin)
    check_tokenizer(folder)
    kinds: dict[str, int] = dict.fromkeys(("experts", "linears", "embeddings", "vision", "rest"), 0)
    for key, tensor in tensors.items():
        if key != "lm_head.weight":  # a copy of the embeddings
            kinds[tensor_kind(key)] += prod(tensor.shape)
    generation = read_optional(folder / "generation_config.json")
    ends, pad = read_ends(generation, config, _ENDS, 0, sizes.vocab_size, name)
    return DiffusionGemmaCheckpoint(
        folder=folder,
        name=name,
        config=config,
        memory=memory_needs(sizes),
        vocab_size=sizes.vocab_size,
        canvas_length=sizes.canvas_length,
        tensors=tensors,
        weight_bytes=sum(tensor.size for tensor in tensors.values()),
        end_ids=ends,
        pad_id=pad,
        sampling_params=read_generation_config(generation, name),
        vision=kinds["vision"] > 0
        and any((folder / file).is_file() for file in ("processor_config.json", "preprocessor_config.json")),
        licence=find_licence(folder, name),
        model_config=sizes,
        counts=ParameterCounts(**kinds),
    )


def find_licence(folder: Path, name: str) -> str:
    """Return the terms that the model card names; those of the published checkpoint are known."""
    return read_licence(folder) or (f"Apache-2.0 (huggingface.co/{OFFICIAL})" if name == OFFICIAL else "")


def check_format(folder: Path, config: Mapping[str, Any], name: str) -> None:
    """Check that the weights are in a format that this engine loads.

    Raises:
        ModelUnsupported: they are quantized, or encoder and decoder have separate ones.
    """
    quantization = find_quantization(folder, config)
    if quantization:
        if isinstance(quantization, Mapping) and "quant_method" not in quantization and "group_size" in quantization:
            raise ModelUnsupported(
                f"{name} is quantized for MLX. On a Mac, serve it with mlx-vlm (mlx_vlm.server --model {name} --port "
                f"8080) and use --engine http://localhost:8080/v1. On other machines, load {OFFICIAL}."
            )
        raise ModelUnsupported(_refusal(name, describe_quantization(quantization)))
    if config.get("tie_word_embeddings") is False:
        raise ModelUnsupported(
            f"{name} has separate weights for encoder and decoder (tie_word_embeddings is false). This engine runs "
            f"checkpoints with shared weights, such as {OFFICIAL}."
        )


def _refusal(name: str, how: str) -> str:
    # vLLM computes FP8 only where the hardware does.
    fp8 = " FP8 needs a GPU of the Ada generation or newer; on an Ampere GPU, take an AWQ-INT4 checkpoint."
    return (
        f"{name} is quantized ({how}). transformers cannot load experts in this format and would use random numbers. "
        f"Run it with vLLM: --engine vllm --model {name}.{fp8 if _FP8.search(how) else ''} Or load the bf16 checkpoint "
        f'{OFFICIAL} with quantize="nf4" or "int8".'
    )


def _twin(key: str) -> str | None:
    """Return the encoder's name of a decoder weight that both share."""
    return None if key.endswith("layer_scalar") else key.replace(DECODER, ENCODER, 1)
