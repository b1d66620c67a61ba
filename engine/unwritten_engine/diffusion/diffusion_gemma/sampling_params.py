"""Sampling parameters of a request for a DiffusionGemma."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...options import Option, check_options
from ..engine_options import OWNER, check_temperatures

SAMPLING: Final = (
    Option("quality", 1.0, "number", "share of the steps: 0 for a quarter, 1 for all", 0, 1),
    Option("steps", None, "count", "maximum steps per canvas; default: by quality", 1, 1000),
    Option("entropy_bound", None, "number", "total entropy in nats accepted in one step", 1e-6, 1e6),
    Option("t_max", None, "number", "temperature of the first step", 0.01, 100),
    Option("t_min", None, "number", "temperature of the last step", 0.01, 100),
    Option("stability", None, "count", "steps for which the draft must stay the same", 0, 1000),
    Option("confidence", None, "number", "mean entropy in nats below which the draft is finished", 1e-9, 1e6),
)
"""Options of a request. Defaults come from the checkpoint, then from the published model."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How canvases are denoised.

    Attributes:
        steps: maximum steps per canvas.
        entropy_bound: total entropy in nats of the tokens accepted in one step.
        t_max: temperature of the first step; it falls linearly.
        t_min: temperature that the last step approaches.
        stability: steps for which the draft must stay the same before it may be finished.
        confidence: mean entropy of the free positions in nats below which it may be finished.
    """

    steps: int = 48
    entropy_bound: float = 0.1
    t_max: float = 0.8
    t_min: float = 0.4
    stability: int = 1
    confidence: float = 0.005


def sampling_params(options: Mapping[str, Any], base: SamplingParams) -> SamplingParams:
    """Return the parameters of a request.

    Args:
        options: of the request.
        base: parameters of the checkpoint.

    Raises:
        UnknownOption, BadOption: an unknown option, or an invalid value.
    """
    checked = check_options(options, SAMPLING, OWNER)
    quality = checked.pop("quality")
    if checked["steps"] is None:
        checked["steps"] = max(1, round(base.steps * (0.25 + 0.75 * quality)))
    values = {name: getattr(base, name) if value is None else value for name, value in checked.items()}
    check_temperatures(values["t_max"], values["t_min"])
    return SamplingParams(**values)
