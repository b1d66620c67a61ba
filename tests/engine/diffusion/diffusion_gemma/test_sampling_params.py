"""Options of the diffusion engine and its dial."""

from typing import Any

import pytest

from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SAMPLING, SamplingParams, sampling_params
from unwritten_engine.diffusion.engine_options import OPTIONS, engine_options
from unwritten_engine.errors import BadOption, UnknownOption

BASE = SamplingParams()


def test_defaults_are_the_published_settings() -> None:
    assert sampling_params({}, BASE) == BASE == SamplingParams(48, 0.1, 0.8, 0.4, 1, 0.005)


@pytest.mark.parametrize(("quality", "steps"), [(0, 12), (0.5, 30), (1, 48), (0.01, 12), (1.0, 48)])
def test_quality_sets_the_steps(quality: float, steps: int) -> None:
    assert sampling_params({"quality": quality}, BASE).steps == steps


def test_quality_is_a_share_of_the_checkpoints_own_steps() -> None:
    assert sampling_params({"quality": 0}, SamplingParams(steps=2)).steps == 1
    assert sampling_params({"quality": 0.5}, SamplingParams(steps=16)).steps == 10


def test_steps_override_quality() -> None:
    assert sampling_params({"quality": 0, "steps": 100}, BASE).steps == 100


def test_every_parameter_can_be_set() -> None:
    given = {"entropy_bound": 2, "t_max": 1, "t_min": 0.2, "stability": 0, "confidence": 0.5, "steps": 9}
    assert sampling_params(given, BASE) == SamplingParams(9, 2.0, 1.0, 0.2, 0, 0.5)


def test_none_means_the_checkpoints_value() -> None:
    base = SamplingParams(7, 0.3, 0.9, 0.1, 3, 0.2)
    assert sampling_params({option.name: None for option in SAMPLING if option.name != "quality"}, base) == base


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "'steps' is 0; give a whole number from 1 to 1000"),
        ({"steps": 1.5}, "'steps' is 1.5"),
        ({"quality": 2}, "'quality' is 2; give a number from 0 to 1"),
        ({"quality": "high"}, "'quality' is 'high'"),
        ({"entropy_bound": 0}, "'entropy_bound' is 0"),
        ({"entropy_bound": float("nan")}, "'entropy_bound' is nan"),
        ({"t_min": 0}, "'t_min' is 0"),
        ({"stability": -1}, "'stability' is -1"),
        ({"confidence": True}, "'confidence' is True"),
        ({"t_max": 0.3}, "t_max=0.3 is below t_min=0.4; give a t_max of at least 0.4"),
        ({"t_min": 0.9}, "t_max=0.8 is below t_min=0.9"),
    ],
)
def test_invalid_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption) as raised:
        sampling_params(options, BASE)
    assert message in str(raised.value) and "The diffusion engine" in str(raised.value)


@pytest.mark.parametrize(("name", "near"), [("step", "steps"), ("temperature", ""), ("entropy", "entropy_bound")])
def test_unknown_names_are_errors(name: str, near: str) -> None:
    with pytest.raises(UnknownOption, match=f"no option '{name}'.*{near}"):
        sampling_params({name: 1}, BASE)


def test_engine_options_are_parsed() -> None:
    found = engine_options({"threads": 1, "memory_gb": 2})
    assert found["threads"] == 1 and found["memory_gb"] == 2.0 and found["device"] is None
    assert set(found) == {option.name for option in OPTIONS}
    with pytest.raises(UnknownOption, match="Did you mean 'threads'"):
        engine_options({"thread": 1})
    with pytest.raises(BadOption, match="'parallel' is 0; give a whole number from 1 to 64"):
        engine_options({"parallel": 0})
    with pytest.raises(BadOption, match="'cuda_graphs' is 1; give True or False"):
        engine_options({"cuda_graphs": 1})
    assert engine_options({"image_tokens": 560})["image_tokens"] == 560
    with pytest.raises(BadOption, match="'image_tokens' is 100; give 70, 140, 280, 560 or 1120"):
        engine_options({"image_tokens": 100})


def test_every_option_has_help() -> None:
    assert all(len(option.help) > 15 for option in (*OPTIONS, *SAMPLING))
