"""Our loop against ``generate()`` of transformers: the same weights and the same noise, token for token, in float32."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.diffusion_models import Model

# Random models are chaotic: a difference in the last bit is another token some steps later. With ``branch`` at 0.5 and
# less they are nearly as calm as trained ones, and still change most of their tokens between two steps.
SHAPES: dict[str, dict[str, Any]] = {
    "small": {"vocabulary": 1024, "branch": 0.5},
    "eight experts": {"vocabulary": 1000, "experts": 8, "top_k": 3, "layers": 7, "branch": 0.3},
    "two layers": {"vocabulary": 2048, "layers": 2, "canvas": 48, "branch": 0.5},
    "peaked": {"vocabulary": 1024, "spread": 8.0, "branch": 0.3},
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("length", "canvases"), [(20, 1), (63, 2), (150, 3)])
def test_one_request_equals_generate(name: str, length: int, canvases: int) -> None:
    made = Model(**SHAPES[name])
    prompt = made.prompt(length)
    run = made.run(prompt, canvases=canvases, entropy_bound=3.0, confidence=0.5)
    assert made.generate(run) == made.reference_output(run)
    assert run.steps > 1


def test_a_batch_equals_generate() -> None:
    made = Model(vocabulary=1024, branch=0.5)
    prompts = [made.prompt(40, seed) for seed in range(3)]
    runs = [made.run(prompt, seed=seed, canvases=2) for seed, prompt in enumerate(prompts)]
    assert made.generate(*runs) == made.reference_output(*runs)


def test_the_published_settings_equal_generate() -> None:
    made = Model(vocabulary=1024, branch=0.3, spread=6.0)
    run = made.run(made.prompt(30), steps=48)
    assert made.generate(run) == made.reference_output(run)


def test_the_real_vocabulary_equals_generate() -> None:
    made = Model(vocabulary=262_144, hidden=32, layers=2, canvas=16, branch=0.5)
    run = made.run(made.prompt(12), steps=4, entropy_bound=5.0)
    assert made.generate(run) == made.reference_output(run)
