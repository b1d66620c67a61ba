"""What can be set: on the engine when it is opened, and on each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import BadOption
from ..options import Option, check_options

OPTIONS: Final = (
    Option("device", None, "text", "'cuda', 'cuda:1', 'mps' or 'cpu'; else a GPU if there is one"),
    Option("quantize", None, "text", "'none', 'int8' or 'nf4'; else the best that fits"),
    Option("dtype", None, "text", "'bfloat16' or 'float32', of the activations"),
    Option("memory_gb", None, "number", "gigabytes that everything together may take; else what is free", 0.05),
    Option("context", None, "count", "tokens of prompt and text that one request may use", 64),
    Option("parallel", None, "count", "canvases that are denoised together", 1, 64),
    Option("prefix_mb", None, "count", "megabytes for kept beginnings of prompts; else by the plan", 0),
    Option("threads", None, "count", "threads of torch on a CPU; else one for each core", 1),
    Option("self_conditioning_top_k", None, "count", "keep only so many tokens of the step before; else all", 1, 4096),
    Option("graphs", None, "flag", "capture passes on a GPU; else where it can be done"),
)
"""Options of the engine."""
SAMPLING: Final = (
    Option("quality", 1.0, "number", "one dial: 0 takes a quarter of the steps, 1 all of them", 0, 1),
    Option("steps", None, "count", "passes over one canvas at most; else by the quality", 1, 1000),
    Option("entropy_bound", None, "number", "nats that one step may accept together", 1e-6, 1e6),
    Option("t_max", None, "number", "temperature of the first step", 0.01, 100),
    Option("t_min", None, "number", "temperature of the last step", 0.01, 100),
    Option("stability", None, "count", "steps for which the draft must stay the same", 0, 1000),
    Option("confidence", None, "number", "mean entropy in nats below which the draft is done", 1e-9, 1e6),
)
"""Options of a request. What is not given comes from the checkpoint, and else from the published defaults."""
_OWNER: Final = "The diffusion engine"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How canvases are denoised.

    Attributes:
        steps: passes over one canvas at most.
        entropy_bound: nats that one step may accept together.
        t_max: temperature of the first step; it falls linearly.
        t_min: the temperature that the last step comes near to.
        stability: steps for which the draft must stay the same before it may be done.
        confidence: mean entropy of the free positions in nats, below which it may be done.
    """

    steps: int = 48
    entropy_bound: float = 0.1
    t_max: float = 0.8
    t_min: float = 0.4
    stability: int = 1
    confidence: float = 0.005


def default_params(config: Any) -> SamplingParams:
    """The dial of a checkpoint's generation config; what it leaves open is as published."""
    bound = getattr(config, "sampler_config", None)
    given = {
        "steps": getattr(config, "max_denoising_steps", None),
        "entropy_bound": getattr(bound, "entropy_bound", None),
        "t_max": getattr(config, "t_max", None),
        "t_min": getattr(config, "t_min", None),
        "stability": getattr(config, "stability_threshold", None),
        "confidence": getattr(config, "confidence_threshold", None),
    }
    return SamplingParams(**{name: value for name, value in given.items() if value is not None})


def sampling_params(options: Mapping[str, Any], base: SamplingParams) -> SamplingParams:
    """The dial of a request.

    Args:
        options: of the request.
        base: the checkpoint's own dial.

    Raises:
        UnknownOption, BadOption: a name or a value that there is not.
    """
    given = check_options(options, SAMPLING, _OWNER)
    quality = given.pop("quality")
    if given["steps"] is None:
        given["steps"] = max(1, round(base.steps * (0.25 + 0.75 * quality)))
    values = {name: getattr(base, name) if value is None else value for name, value in given.items()}
    if values["t_max"] < values["t_min"]:
        raise BadOption(
            f"{_OWNER}: the temperature falls from t_max={values['t_max']:g} to t_min={values['t_min']:g}; give a "
            f"t_max of at least {values['t_min']:g}."
        )
    return SamplingParams(**values)


def engine_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the engine, checked.

    Raises:
        UnknownOption, BadOption: a name or a value that there is not.
    """
    return check_options(options, OPTIONS, _OWNER)
