"""Sampling parameters of a request for an LFM2 diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ...errors import BadOption
from ...options import Option, check_options
from ..engine_options import OWNER, check_temperatures

SAMPLING: Final = (
    Option("quality", None, "number", "0 for 4 steps per block of text, 0.5 for 8, 1 for 32; default: 8", 0, 1),
    Option("steps", None, "count", "steps per block, without the last pass; default: by quality", 1, 1000),
    Option("t_max", None, "number", "temperature of the first step", 0.01, 100),
    Option("t_min", None, "number", "temperature of the last step", 0.01, 100),
)
"""Options of a request. Defaults come from the checkpoint, then from the published presets."""
_OTHERS: Final = ("entropy_bound", "stability", "confidence")
"""Options of DiffusionGemma, which decides by entropy what to accept and when to stop."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How blocks are denoised. The defaults are the published preset of 8 steps.

    Attributes:
        steps: denoising steps per block. One more pass reads the text out.
        t_max: temperature of the first step; it falls linearly.
        t_min: temperature of the last step and of the readout.
        rho: exponent of the time grid; below 1, more steps are spent where much is noise.
    """

    steps: int = 8
    t_max: float = 0.8
    t_min: float = 0.4
    rho: float = 0.3


PRESETS: Final = (SamplingParams(4, 0.8, 0.5, 0.2), SamplingParams(), SamplingParams(32))
"""The published presets."""


def sampling_params(options: Mapping[str, Any], base: SamplingParams) -> SamplingParams:
    """Return the parameters of a request.

    Args:
        options: of the request.
        base: parameters without options.

    Raises:
        UnknownOption, BadOption: an unknown option, one that only DiffusionGemma has, or an invalid value.
    """
    for name in _OTHERS:
        if options.get(name) is not None:
            raise BadOption(
                f"{OWNER}: the option {name!r} only applies to DiffusionGemma. An LFM2 diffusion model runs a fixed "
                f"number of steps; leave {name!r} out, or set 'steps' or 'quality'."
            )
    given = {name: value for name, value in options.items() if name not in _OTHERS}
    checked = check_options(given, SAMPLING, OWNER)
    quality = checked.pop("quality")
    values = {name: value for name, value in checked.items() if value is not None}
    preset = base
    if quality is not None:
        preset = PRESETS[round(2 * quality)]
    elif "steps" in values and values["steps"] <= PRESETS[0].steps:
        preset = PRESETS[0]
    params = replace(preset, **values)
    check_temperatures(params.t_max, params.t_min)
    return params
