"""Sampling parameters of a checkpoint: they are used, and every checkpoint that is written has all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.checkpoints import inspect_checkpoint, quiet

from unwritten_engine.diffusion.diffusion_gemma.generation_config import read_generation_config
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SamplingParams
from unwritten_engine.diffusion.loader import load_model
from unwritten_engine.errors import ModelBroken

PUBLISHED = SamplingParams(48, 0.1, 0.8, 0.4, 1, 0.005)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "small", layers=2)


def settings_of(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    return settings


def test_a_written_checkpoint_has_all_parameters(folder: Path) -> None:
    settings = settings_of(folder)
    assert settings["sampler_config"] == {"entropy_bound": 0.1, "_cls_name": "EntropyBoundSamplerConfig"}
    wanted = {
        "max_denoising_steps": 48,
        "t_max": 0.8,
        "t_min": 0.4,
        "stability_threshold": 1,
        "confidence_threshold": 0.005,
        "eos_token_id": [1, 106, 50],
        "pad_token_id": 0,
    }
    assert {name: settings[name] for name in wanted} == wanted
    assert inspect_checkpoint(folder).sampling_params == PUBLISHED


def test_a_checkpoint_has_its_own_parameters(folder: Path) -> None:
    changed = {
        "max_denoising_steps": 20,
        "sampler_config": {"entropy_bound": 0.7, "_cls_name": "EntropyBoundSamplerConfig"},
        "t_max": 0.9,
        "t_min": None,  # transformers saves nulls
        "stability_threshold": 0,
        "confidence_threshold": 0.01,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings_of(folder) | changed), encoding="utf-8")
    wanted = SamplingParams(20, 0.7, 0.9, 0.4, 0, 0.01)
    assert inspect_checkpoint(folder).sampling_params == wanted
    loaded = load_model(str(folder), device="cpu", quantize="none", dtype=None, budget_bytes=None, progress=quiet)
    assert loaded.checkpoint.sampling_params == wanted
    loaded.model.save_pretrained(folder.parent / "again")  # as after training
    again = settings_of(folder.parent / "again")
    assert again["t_min"] == 0.4 and read_generation_config(again, "again") == wanted


def test_missing_parameters_are_the_published_ones() -> None:
    assert read_generation_config({}, "bare") == PUBLISHED
    nulls: dict[str, Any] = dict.fromkeys(("max_denoising_steps", "sampler_config", "t_max", "stability_threshold"))
    assert read_generation_config(nulls, "nulls") == PUBLISHED


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_denoising_steps": "48"}, "'steps' is '48'"),
        ({"sampler_config": {"entropy_bound": -1}}, "'entropy_bound' is -1"),
        ({"t_max": 0.1}, "t_max=0.1 is below t_min=0.4"),
    ],
)
def test_invalid_parameters_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelBroken) as raised:
        read_generation_config(settings, "odd")
    assert words in str(raised.value) and "generation_config.json of odd" in str(raised.value)
