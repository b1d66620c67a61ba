"""What models take, and plans: against the real model's sizes, and against what is really allocated."""

import pytest
from tests.support.checkpoints import FULL_SIZE, quiet

from unwritten_engine.diffusion.diffusion_gemma.family import DIFFUSION_GEMMA
from unwritten_engine.diffusion.diffusion_gemma.memory import (
    cache_bytes,
    memory_needs,
    prefill_bytes,
    step_bytes,
    weight_bytes,
    workspace_bytes,
)
from unwritten_engine.diffusion.diffusion_gemma.model_config import read_model_config
from unwritten_engine.diffusion.loader import load_model
from unwritten_engine.diffusion.loading.memory_plan import (
    KINDS,
    RESERVE,
    MemoryPlan,
    gigabytes,
    plan_memory,
    required_bytes,
)
from unwritten_engine.errors import ModelUnsupported

SHAPE = read_model_config(FULL_SIZE, "real")
GB = 10**9


def on(gigabytes: float, **options: object) -> MemoryPlan:
    return plan_memory(memory_needs(SHAPE), memory=int(gigabytes * GB), device="This GPU", reserve=RESERVE, **options)  # type: ignore[arg-type]


def test_the_weights_of_the_real_model() -> None:
    assert weight_bytes(SHAPE, "bf16") == pytest.approx(52.5 * GB, rel=0.03)
    assert weight_bytes(SHAPE, "int8") == pytest.approx(27.2 * GB, rel=0.01)
    assert weight_bytes(SHAPE, "nf4") == pytest.approx(15.7 * GB, rel=0.01)


def test_four_bits_fit_18_gigabytes_with_a_canvas_the_driver_and_4096_tokens() -> None:
    assert required_bytes(memory_needs(SHAPE), "nf4", rows=1, context=4096) + RESERVE <= 18 * GB
    found = on(18)
    assert (found.kind, found.context) == ("nf4", 4096)
    assert found.total + RESERVE <= 18 * GB


def test_layers_with_a_window_stop_growing() -> None:
    window = SHAPE.sliding_window
    first, second, third = (cache_bytes(SHAPE, tokens) for tokens in (window, 2 * window, 3 * window))
    full, sliding = 5 * 2 * 2 * 512 * 2, 25 * 2 * 8 * 256 * 2  # five full layers with two heads of 512, and 25 others
    assert second - first == third - second == window * full
    assert first == (256 + window) * full + (256 + window - 1) * sliding  # with the places of the canvas


def test_the_workspace_has_room_for_a_captured_step_and_another() -> None:
    step, prefill = step_bytes(SHAPE, 16, "nf4"), prefill_bytes(SHAPE, "nf4", 4096)
    assert step > prefill
    assert 2 * step < workspace_bytes(SHAPE, 16, "nf4") < 2.2 * step
    step, prefill = step_bytes(SHAPE, 1, "bf16"), prefill_bytes(SHAPE, "bf16", 4096)
    assert step < prefill
    assert step + prefill < workspace_bytes(SHAPE, 1, "bf16") < 1.1 * (step + prefill)


@pytest.mark.parametrize(
    ("memory", "kind", "rows"),
    [(141, "bf16", 16), (80, "bf16", 16), (48, "int8", 16), (32, "int8", 8), (24, "nf4", 16)],
)
def test_the_best_precision_that_fits_is_chosen(memory: int, kind: str, rows: int) -> None:
    found = on(memory)
    assert (found.kind, found.rows) == (kind, rows)
    assert found.weights + found.cache + found.prefixes + found.workspace + found.free + RESERVE <= memory * GB
    assert found.free >= 0
    assert gigabytes(found.weights) in found.reason


def test_the_requested_precision_is_chosen() -> None:
    found = on(141, kind="nf4", rows=2, context=65_536)
    assert (found.kind, found.rows, found.context) == ("nf4", 2, 65_536)
    assert found.cache == 2 * cache_bytes(SHAPE, 65_536)
    assert "as requested" in found.reason


def test_a_small_gpu_is_refused_with_figures_and_a_fix() -> None:
    with pytest.raises(ModelUnsupported) as caught:
        on(16)
    text = str(caught.value)
    for part in (
        "This GPU has 16.0 GB",
        "of which the driver needs 0.7 GB",
        "52.4 GB in bf16",
        "27.8 GB in 8 bits",
        "16.2 GB in 4 bits",
    ):
        assert part in text
    assert "llama.cpp" in text


def test_an_excessive_request_is_refused_with_what_fits() -> None:
    with pytest.raises(ModelUnsupported, match=r'Try quantize="nf4"\.'):
        on(24, kind="bf16")
    with pytest.raises(ModelUnsupported, match=r'Try quantize="none"\.'):
        on(80, kind="float32")
    with pytest.raises(ModelUnsupported, match=r"Try parallel=1 and context=4096\."):
        on(24, kind="nf4", rows=16, context=262_144)


def test_contexts_are_limited_by_the_model() -> None:
    config = FULL_SIZE | {"text_config": FULL_SIZE["text_config"] | {"max_position_embeddings": 2048}}
    short = read_model_config(config, "short")
    assert plan_memory(memory_needs(short), memory=80 * GB, device="This GPU", context=10_000).context == 2048


@pytest.mark.parametrize("quantize", ["none", *KINDS[1:]])
def test_figures_equal_those_of_a_loaded_model(quantize: str) -> None:
    loaded = load_model(
        DIFFUSION_GEMMA.random, device="cpu", quantize=quantize, dtype="bfloat16", budget_bytes=None, progress=quiet
    )
    sizes = read_model_config(loaded.model.config.to_dict(), "random")
    assert loaded.weight_bytes == pytest.approx(weight_bytes(sizes, loaded.quantization), rel=0.01)
