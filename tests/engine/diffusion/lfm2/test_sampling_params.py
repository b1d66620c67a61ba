"""Options of a request for an LFM2 diffusion model."""

from typing import Any

import pytest

from unwritten_engine.diffusion.lfm2.sampling_params import PRESETS, SAMPLING, SamplingParams, sampling_params
from unwritten_engine.errors import BadOption, UnknownOption

BASE = SamplingParams()


def test_the_default_is_the_recommended_preset() -> None:
    assert sampling_params({}, BASE) == BASE == SamplingParams(8, 0.8, 0.4, 0.3)


@pytest.mark.parametrize(("quality", "steps"), [(0, 4), (0.2, 4), (0.4, 8), (0.5, 8), (0.6, 8), (0.8, 32), (1, 32)])
def test_quality_chooses_a_preset(quality: float, steps: int) -> None:
    params = sampling_params({"quality": quality}, SamplingParams(7))
    assert params in PRESETS and params.steps == steps


def test_the_preset_of_4_steps_has_its_own_grid() -> None:
    assert sampling_params({"quality": 0}, BASE) == SamplingParams(4, 0.8, 0.5, 0.2)
    assert sampling_params({"steps": 3}, BASE) == SamplingParams(3, 0.8, 0.5, 0.2)
    assert sampling_params({"steps": 5}, BASE) == SamplingParams(5)


def test_options_override_the_preset() -> None:
    assert sampling_params({"quality": 0, "steps": 100, "t_max": 1, "t_min": 0.2}, BASE) == SamplingParams(
        100, 1.0, 0.2, 0.2
    )


def test_none_means_the_default() -> None:
    base = SamplingParams(7, 0.9, 0.1, 0.5)
    assert sampling_params({option.name: None for option in SAMPLING}, base) == base
    assert sampling_params({"stability": None, "confidence": None}, base) == base


@pytest.mark.parametrize("name", ["entropy_bound", "stability", "confidence"])
def test_options_of_diffusion_gemma_are_refused(name: str) -> None:
    with pytest.raises(BadOption, match=f"'{name}' only applies to DiffusionGemma.*set 'steps' or 'quality'"):
        sampling_params({name: 1}, BASE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "'steps' is 0; give a whole number from 1 to 1000"),
        ({"steps": 1.5}, "'steps' is 1.5"),
        ({"quality": 2}, "'quality' is 2; give a number from 0 to 1"),
        ({"quality": "high"}, "'quality' is 'high'"),
        ({"quality": True}, "'quality' is True"),
        ({"t_min": 0}, "'t_min' is 0"),
        ({"t_max": float("nan")}, "'t_max' is nan"),
        ({"t_max": 0.3}, "t_max=0.3 is below t_min=0.4; give a t_max of at least 0.4"),
        ({"t_max": 0.45, "quality": 0}, "t_max=0.45 is below t_min=0.5"),
    ],
)
def test_invalid_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption) as raised:
        sampling_params(options, BASE)
    assert message in str(raised.value) and "The diffusion engine" in str(raised.value)


@pytest.mark.parametrize(("name", "near"), [("step", "steps"), ("rho", ""), ("temperature", "")])
def test_unknown_names_are_errors(name: str, near: str) -> None:
    with pytest.raises(UnknownOption, match=f"no option '{name}'.*{near}"):
        sampling_params({name: 1}, BASE)
