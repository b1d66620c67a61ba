"""Inspect a checkpoint of LFM2 diffusion. Reads only headers and JSON, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...errors import ModelUnsupported
from ..loading.checkpoint import (
    Checkpoint,
    check_tokenizer,
    describe_quantization,
    find_quantization,
    read_ends,
    read_licence,
    read_optional,
)
from ..loading.safetensors_index import read_tensors
from .config import Lfm2Config, check_tensors, read_config
from .memory import memory_needs
from .sampling_params import SamplingParams

OFFICIAL: Final = "LiquidAI/lfm2.5-350m-diffusion-exp"
"""The published bf16 checkpoint."""
LICENCE: Final = (
    "LFM Open License 1.0: not free for companies with more than 10 million dollars of yearly revenue, "
    f"https://huggingface.co/{OFFICIAL}"
)
UNTESTED: Final = (
    "LFM2 diffusion is experimental here: it was tested with random weights, and never run with its real weights."
)
_END, _PAD = 7, 0  # the end of a turn, and padding, in LFM2's vocabulary
_CANVAS: Final = 256
"""Tokens of a canvas, as requests count them: those of DiffusionGemma's, so that apps get texts of the same length."""


@dataclass(frozen=True, slots=True)
class Lfm2Checkpoint(Checkpoint):
    """A checkpoint of LFM2 diffusion.

    Attributes:
        sizes: of the model.
    """

    sizes: Lfm2Config = field(repr=False)


def inspect(folder: Path, config: Mapping[str, Any], name: str) -> Lfm2Checkpoint:
    """Inspect a checkpoint folder. See ``Family.inspect``."""
    check_format(folder, config, name)
    sizes = read_config(config, name)
    tensors = read_tensors(folder)
    check_tensors(sizes, tensors, name)
    check_tokenizer(folder)
    generation = read_optional(folder / "generation_config.json")
    ends, pad = read_ends(generation, config, (_END,), _PAD, sizes.real_vocab_size, name)
    return Lfm2Checkpoint(
        folder=folder,
        name=name,
        config=config,
        memory=memory_needs(sizes),
        vocab_size=sizes.vocab_size,
        canvas_length=sizes.block_length * max(1, _CANVAS // sizes.block_length),
        tensors=tensors,
        weight_bytes=sum(tensor.size for tensor in tensors.values()),
        end_ids=ends,
        pad_id=pad,
        sampling_params=SamplingParams(),
        vision=False,
        licence=find_licence(folder, name),
        sizes=sizes,
    )


def check_format(folder: Path, config: Mapping[str, Any], name: str) -> None:
    """Check that the weights are in a format that this engine loads.

    Raises:
        ModelUnsupported: they are quantized.
    """
    if quantization := find_quantization(folder, config):
        raise ModelUnsupported(
            f"{name} is quantized ({describe_quantization(quantization)}). This engine loads 16 or 32 bits: load the "
            f"original checkpoint, such as {OFFICIAL}."
        )


def find_licence(folder: Path, name: str) -> str:
    """Return the terms of a checkpoint, with those of Liquid's models in words; "" if unknown."""
    stated = read_licence(folder)
    return LICENCE if name == OFFICIAL or stated.lower().startswith("lfm") else stated
