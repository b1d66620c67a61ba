"""Options of the vLLM engine and of its requests. Does not import vLLM."""

from __future__ import annotations

from typing import Final

from ..options import Option

OWNER: Final = "The vLLM engine"
OPTIONS: Final = (
    Option("quantization", None, "text", "vLLM's quantization method; default: that of the checkpoint"),
    Option("dtype", None, "text", "vLLM's dtype of the activations; default: that of the checkpoint"),
    Option("tensor_parallel", 1, "count", "GPUs that share each layer", 1, 1024),
    Option("pipeline_parallel", 1, "count", "groups of GPUs that share the layers", 1, 1024),
    Option("data_parallel", 1, "count", "replicas of the model", 1, 1024),
    Option("backend", None, "text", "'mp' for one machine, 'ray' for several; default: vLLM chooses"),
    Option(
        "memory_fraction", None, "number", "vLLM's gpu_memory_utilization; default: vLLM's, or what is free", 0.05, 1
    ),
    Option("parallel", 4, "count", "requests at the same time per replica, vLLM's max_num_seqs", 1, 1024),
    Option("context", None, "count", "maximum tokens of one request; default: by the GPU", 64, 1 << 20),
    Option("eager", False, "flag", "use no CUDA graphs: starts faster, and runs slower"),
)
"""Options of the engine."""
SAMPLING: Final = (
    Option("quality", 1.0, "number", "share of the steps: 0 for a quarter, 1 for all", 0, 1),
    Option("steps", None, "count", "maximum steps per canvas; default: by quality", 1, 1000),
)
"""Options of a request."""
REFUSED: Final = (
    "vLLM draws its own random numbers, so a request with a seed is refused.",
    "vLLM has one temperature for all requests: temperature, top_p, min_p, logit_bias and penalties are refused.",
    "Schemas are pinned in the canvas, because vLLM refuses structured output for this model: a schema with pattern or "
    "multipleOf, or together with an opening or a draft, is refused.",
    "A prompt with images is refused; the engine 'diffusion' accepts images.",
)
"""What this engine refuses, for ``About.reasons``."""


def max_steps(quality: float, steps: int | None, default: int) -> int:
    """Return the maximum number of steps of a canvas, at most the model's own, which vLLM never exceeds."""
    return min(default, steps or max(1, round(default * (0.25 + 0.75 * quality))))
