"""Sampling parameters in a checkpoint's ``generation_config.json``: read them, and write them completely.

vLLM refuses a checkpoint whose file lacks one of them. transformers saves nulls for what is not set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import BadOption, ModelBroken
from .sampling_params import SamplingParams, sampling_params


def read_generation_config(config: Mapping[str, Any], name: str) -> SamplingParams:
    """Return the sampling parameters of a checkpoint. The published ones are used for those that are missing or null.

    Args:
        config: contents of its ``generation_config.json``.
        name: display name, for messages.

    Raises:
        ModelBroken: a value is invalid. The message names it.
    """
    sampler = config.get("sampler_config")
    values = {
        "steps": config.get("max_denoising_steps"),
        "entropy_bound": sampler.get("entropy_bound") if isinstance(sampler, Mapping) else None,
        "t_max": config.get("t_max"),
        "t_min": config.get("t_min"),
        "stability": config.get("stability_threshold"),
        "confidence": config.get("confidence_threshold"),
    }
    try:
        return sampling_params(values, SamplingParams())
    except BadOption as error:
        raise ModelBroken(f"The generation_config.json of {name} has an invalid value. {error}") from error


def fill_generation_config(
    model: Any, params: SamplingParams | None = None, *, end_ids: Iterable[int], pad_id: int = 0
) -> None:
    """Set the generation config of a model of transformers, which ``save_pretrained`` writes.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        params: sampling parameters; None for the published ones.
        end_ids: ids of the end tokens.
        pad_id: id of the padding token.
    """
    from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

    make: Any = EntropyBoundSamplerConfig
    params = params or SamplingParams()
    model.generation_config.update(
        max_denoising_steps=params.steps,
        sampler_config=make(entropy_bound=params.entropy_bound),
        t_max=params.t_max,
        t_min=params.t_min,
        stability_threshold=params.stability,
        confidence_threshold=params.confidence,
        eos_token_id=list(end_ids),
        pad_token_id=pad_id,
        bos_token_id=2,
    )
