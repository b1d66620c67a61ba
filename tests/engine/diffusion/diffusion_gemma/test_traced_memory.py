"""The memory plan against traced allocations of the engine's own code at full size, without a GPU."""

from __future__ import annotations

import pytest
import torch
from tests.benchmarks.engine.random_weights import full_size_config
from tests.support.traced_memory import TracedMemory, prefill_peak, step_peak, traced_runner, without_numbers

from unwritten_engine.diffusion.diffusion_gemma.memory import (
    cache_bytes,
    prefill_bytes,
    step_bytes,
    weight_bytes,
    workspace_bytes,
)
from unwritten_engine.diffusion.diffusion_gemma.model_config import ModelConfig, read_model_config

SIZES = read_model_config(full_size_config(), "the full size")
KINDS = ("bf16", "int8", "nf4")


def near(planned: int, traced: TracedMemory) -> None:
    assert planned == pytest.approx(traced.peak, rel=0.05), traced.at_peak


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_a_step_takes_what_is_planned(kind: str, rows: int) -> None:
    near(step_bytes(SIZES, rows, kind), step_peak(kind, rows, 4096))


def test_schemas_and_longer_contexts_take_no_more() -> None:
    near(step_bytes(SIZES, 4, "nf4"), step_peak("nf4", 4, 4096, constrained=True))
    near(step_bytes(SIZES, 4, "nf4"), step_peak("nf4", 4, 32_768))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [4096, 32_768])
def test_reading_4096_tokens_takes_what_is_planned(kind: str, end: int) -> None:
    near(prefill_bytes(SIZES, kind, end), prefill_peak(kind, end - 4096, 4096))


@pytest.mark.parametrize("rows", [1, 16])
def test_caches_and_states_are_planned(rows: int) -> None:
    with without_numbers():
        runner = traced_runner("bf16", rows, 4096)
    two_layers = ModelConfig(
        **{name: getattr(SIZES, name) for name in SIZES.__dataclass_fields__ if name != "layers"},
        layers=(SIZES.layers[0], SIZES.layers[5]),
    )
    assert runner.model.cache.nbytes == rows * cache_bytes(two_layers, 4096)
    tensors = (*vars(runner).values(), *runner.rule.state, runner.masks.rows)
    state = sum(value.nbytes for value in tensors if isinstance(value, torch.Tensor))
    step = step_bytes(SIZES, rows, "bf16")
    rest = max(step, prefill_bytes(SIZES, "bf16", 4096))
    assert workspace_bytes(SIZES, rows, "bf16", 4096) - step - rest == pytest.approx(state, rel=0.05)


def test_a_plan_of_the_past_would_be_noticed() -> None:
    """Before the draw was tiled, 16 canvases took 2.2 GB where 1.0 GB was planned."""
    traced = step_peak("nf4", 16, 4096)
    assert traced.peak < 450e6 < weight_bytes(SIZES, "nf4")
    assert traced.bytes == 0  # nothing is kept
