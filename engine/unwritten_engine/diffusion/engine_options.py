"""Options of the diffusion engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import BadOption
from ..options import Option, check_options

OPTIONS: Final = (
    Option("device", None, "text", "'cuda', 'cuda:1', 'mps' or 'cpu'; default: a GPU if there is one"),
    Option("quantize", None, "text", "'none', 'int8' or 'nf4'; default: the best that fits"),
    Option("dtype", None, "text", "'bfloat16' or 'float32', of the activations"),
    Option("memory_gb", None, "number", "memory limit in gigabytes; default: free memory", 0.05),
    Option("context", None, "count", "maximum tokens of one request, prompt and output together", 64),
    Option("parallel", None, "count", "canvases that are denoised together", 1, 64),
    Option("prefix_cache_mb", None, "count", "megabytes of the prefix cache; default: by the memory plan", 0),
    Option("threads", None, "count", "threads of torch on a CPU; default: one per core", 1),
    Option("self_conditioning_top_k", None, "count", "self-condition on this many tokens; default: all", 1, 4096),
    Option("image_tokens", None, "count", "tokens per image: 70, 140, 280, 560 or 1120; default: the checkpoint's own"),
    Option("cuda_graphs", None, "flag", "use CUDA graphs; default: on NVIDIA GPUs"),
)
"""Options of the engine."""
OWNER: Final = "The diffusion engine"
_IMAGE_TOKENS: Final = (70, 140, 280, 560, 1120)
"""Numbers of tokens per image that the model was trained with."""


def engine_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked options of the engine.

    Raises:
        UnknownOption, BadOption: an unknown option, or an invalid value.
    """
    checked = check_options(options, OPTIONS, OWNER)
    if checked["image_tokens"] not in (None, *_IMAGE_TOKENS):
        raise BadOption(
            f"{OWNER}: the option 'image_tokens' is {checked['image_tokens']}; give 70, 140, 280, 560 or 1120."
        )
    return checked


def check_temperatures(t_max: float, t_min: float) -> None:
    """Check the temperatures of a request's first and last step.

    Raises:
        BadOption: they would rise.
    """
    if t_max < t_min:
        raise BadOption(f"{OWNER}: t_max={t_max:g} is below t_min={t_min:g}; give a t_max of at least {t_min:g}.")
