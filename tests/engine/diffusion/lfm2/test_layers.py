"""The cached forward passes of LFM2 diffusion, against the plain model over whole sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.engine.diffusion.lfm2.reference_model import ReferenceModel
from tests.engine.diffusion.lfm2.small_models import (
    BLOCK,
    CONTEXT,
    CPU,
    denoise,
    new_model,
    prefill,
    random_ids,
    reference_hidden,
    small_config,
    small_weights,
    soft_embeddings,
)
from tests.support.fake_cuda import FakeCUDA
from torch import Tensor

from unwritten_engine.diffusion.cuda_graphs import CUDAGraphs
from unwritten_engine.diffusion.lfm2.cache import Lfm2Cache
from unwritten_engine.diffusion.lfm2.config import read_config
from unwritten_engine.diffusion.lfm2.layers import Lfm2DiffusionModel, Lfm2Model
from unwritten_engine.diffusion.lfm2.random_model import random_config, random_weights
from unwritten_engine.diffusion.token_chunk import TokenChunk

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


def equal(found: Tensor, wanted: Tensor) -> None:
    """Equal but for rounding."""
    tolerance = 1e-10 if found.dtype == DOUBLE else 5e-6
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


def state(model: Lfm2DiffusionModel, row: int, length: int) -> tuple[Tensor, Tensor]:
    """Copies of what a row holds."""
    keys_values, conv_inputs = model.cache.save(row, range(length)).tensors
    return keys_values, conv_inputs


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=["float32", "float64"])
@pytest.mark.parametrize("length", [1, 2, 3, 17, 60])
def test_a_block_after_a_prompt_equals_the_uncached_model(length: int, dtype: torch.dtype) -> None:
    model, block = new_model(dtype), random_ids(BLOCK, 9)
    prefill(model, 0, random_ids(length))
    equal(denoise(model, block[None], [length])[0], reference_hidden(random_ids(length), block, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=["float32", "float64"])
def test_self_conditioning_equals_the_uncached_model(dtype: torch.dtype) -> None:
    model, block, soft = new_model(dtype), random_ids(BLOCK, 9), soft_embeddings(1, dtype)
    prefill(model, 0, random_ids(20))
    found = denoise(model, block[None], [20], soft=soft)[0]
    equal(found, reference_hidden(random_ids(20), block, soft=soft[0], dtype=dtype))
    assert not torch.allclose(found, reference_hidden(random_ids(20), block, dtype=dtype), atol=1e-2)


def test_the_first_step_ignores_the_mean_embeddings() -> None:
    """Not even the bias of the self-conditioning is added, whatever an earlier block has left there."""
    model, block = new_model(), random_ids(BLOCK, 9)
    prefill(model, 0, random_ids(20))
    found = denoise(model, block[None], [20], soft=soft_embeddings(1) * 100, has_soft=[False])[0]
    equal(found, reference_hidden(random_ids(20), block))


def test_pinned_tokens_are_clean() -> None:
    """Their noise level is 0, and they get no self-conditioning."""
    model, block, soft = new_model(DOUBLE), random_ids(BLOCK, 9), soft_embeddings(1, DOUBLE)
    sigma = torch.full((1, BLOCK), 2.5)
    sigma[0, [0, 3]] = 0.0
    prefill(model, 0, random_ids(20))
    found = denoise(model, block[None], [20], sigma=sigma, soft=soft)
    equal(found[0], reference_hidden(random_ids(20), block, sigma=sigma[0], soft=soft[0], dtype=DOUBLE))
    soft[0, [0, 3]] = 100.0
    equal(denoise(model, block[None], [20], sigma=sigma, soft=soft), found)


def test_every_token_has_its_own_noise_level() -> None:
    model, block = new_model(DOUBLE), random_ids(BLOCK, 9)
    sigma = torch.linspace(0.1, 6.9, BLOCK)[None]
    prefill(model, 0, random_ids(20))
    wanted = reference_hidden(random_ids(20), block, sigma=sigma[0], dtype=DOUBLE)
    equal(denoise(model, block[None], [20], sigma=sigma)[0], wanted)
    other = reference_hidden(random_ids(20), block, sigma=sigma[0].flip(0), dtype=DOUBLE)
    assert not torch.allclose(other, wanted, atol=1e-2)


@pytest.mark.parametrize("sizes", [[30, 30], [1] * 5 + [55], [2, 58], [59, 1], [7, 8, 8, 37]])
def test_prefill_in_pieces_equals_one_pass(sizes: list[int]) -> None:
    pieces, whole = new_model(DOUBLE), new_model(DOUBLE)
    prefill(pieces, 1, random_ids(60), sizes)
    prefill(whole, 1, random_ids(60))
    for found, wanted in zip(state(pieces, 1, 60), state(whole, 1, 60), strict=True):
        equal(found, wanted)


def test_several_prompts_in_one_pass_equal_single_ones() -> None:
    together, alone = new_model(DOUBLE), new_model(DOUBLE)
    prefill(together, 2, random_ids(10, 2))
    rest = random_ids(25, 3)
    together.encode(TokenChunk(0, 0, random_ids(1, 0)), TokenChunk(2, 10, rest), TokenChunk(1, 0, random_ids(40, 1)))
    prefill(alone, 0, random_ids(1, 0))
    prefill(alone, 1, random_ids(40, 1))
    prefill(alone, 2, torch.cat([random_ids(10, 2), rest]))
    for row, length in ((0, 1), (1, 40), (2, 35)):
        for found, wanted in zip(state(together, row, length), state(alone, row, length), strict=True):
            equal(found, wanted)


def test_a_finished_block_becomes_part_of_the_prompt() -> None:
    model, first, second = new_model(DOUBLE), random_ids(BLOCK, 8), random_ids(BLOCK, 9)
    prefill(model, 0, random_ids(20))
    denoise(model, first[None], [20])  # leaves its noisy keys in the places of the block
    prefill(model, 0, first, start=20)
    wanted = reference_hidden(torch.cat([random_ids(20), first]), second, dtype=DOUBLE)
    equal(denoise(model, second[None], [20 + BLOCK])[0], wanted)


@pytest.mark.parametrize("lengths", [[40, 3, 1], [3, 40, 17], [0, 9, 30], [12, 12, 12]])
def test_rows_of_different_lengths_equal_single_rows(lengths: list[int]) -> None:
    model = new_model(DOUBLE)
    blocks, soft = random_ids(3 * BLOCK, 7).view(3, BLOCK), soft_embeddings(3, DOUBLE)
    sigma = torch.rand(3, BLOCK, generator=torch.Generator().manual_seed(1)) + 0.1
    has_soft = [True, False, True]
    for row, length in enumerate(lengths):
        if length:
            prefill(model, row, random_ids(length, row))
    together = denoise(model, blocks, lengths, sigma=sigma, soft=soft, has_soft=has_soft)
    for row, length in enumerate(lengths):
        given = soft[row] if has_soft[row] else None
        wanted = reference_hidden(random_ids(length, row), blocks[row], sigma=sigma[row], soft=given, dtype=DOUBLE)
        equal(together[row], wanted)


def test_unused_places_change_nothing() -> None:
    model, block = new_model(DOUBLE), random_ids(BLOCK, 9)[None]
    prefill(model, 0, random_ids(20))
    soft, sigma, lengths = soft_embeddings(1, DOUBLE), torch.full((1, BLOCK), 1.2), torch.tensor([20])
    rest = (block, soft, torch.tensor([True]), sigma, lengths)
    equal(model.denoise(*rest, CONTEXT, True), model.denoise(*rest, 20, False))


@pytest.mark.parametrize("length", [0, 1, 10])
def test_earlier_content_of_a_row_is_not_seen(length: int) -> None:
    model, block = new_model(DOUBLE), random_ids(BLOCK, 9)
    prefill(model, 0, random_ids(90, 5))
    if length:
        prefill(model, 0, random_ids(length))
    equal(denoise(model, block[None], [length])[0], reference_hidden(random_ids(length), block, dtype=DOUBLE))


def test_denoising_does_not_change_the_row() -> None:
    model = new_model()
    prefill(model, 0, random_ids(30))
    before = state(model, 0, 30)
    denoise(model, random_ids(BLOCK, 3)[None], [30], soft=soft_embeddings(1))
    assert all(map(torch.equal, before, state(model, 0, 30)))


def test_a_pass_that_failed_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may run out in any layer. The row then holds what it held before."""
    model = new_model(DOUBLE)
    prefill(model, 0, random_ids(20))
    write, calls = model.cache.write, 0

    def fail_in_the_last(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == small_config().num_attention_layers:
            raise MemoryError
        return write(*args)

    monkeypatch.setattr(model.cache, "write", fail_in_the_last)
    with pytest.raises(MemoryError):
        prefill(model, 0, random_ids(20, 1), start=20)
    monkeypatch.undo()
    prefill(model, 0, random_ids(20, 1), start=20)
    whole = torch.cat([random_ids(20), random_ids(20, 1)])
    block = random_ids(BLOCK, 9)
    equal(denoise(model, block[None], [40])[0], reference_hidden(whole, block, dtype=DOUBLE))


def test_bfloat16_is_close_to_float32() -> None:
    """With the same rounded weights, the difference is that of roundings between the layers."""
    rounded = {name: weight.float() for name, weight in small_weights(torch.bfloat16).items()}
    with torch.device("meta"):
        exact = Lfm2Model(small_config())
    exact.load_state_dict({name.removeprefix("model."): weight for name, weight in rounded.items()}, assign=True)
    cache = Lfm2Cache(small_config(), rows=3, context=CONTEXT, device=CPU, dtype=torch.float32)
    models = new_model(torch.bfloat16), Lfm2DiffusionModel(exact.eval(), cache)
    results = []
    for model in models:
        prefill(model, 0, random_ids(40), [13, 27])
        soft = soft_embeddings(1).bfloat16().to(model.embeddings.dtype)
        results.append(denoise(model, random_ids(BLOCK, 9)[None], [40], soft=soft).float())
    error = (results[0] - results[1]).norm() / results[1].norm()
    assert results[0].isfinite().all()
    assert error < 0.02


def test_bfloat16_equals_the_uncached_model_within_its_precision() -> None:
    model, block, soft = new_model(torch.bfloat16), random_ids(BLOCK, 9), soft_embeddings(1, torch.bfloat16)
    prefill(model, 0, random_ids(40))
    found = denoise(model, block[None], [40], soft=soft)[0].float()
    wanted = reference_hidden(random_ids(40), block, soft=soft[0], dtype=torch.bfloat16).float()
    assert (found - wanted).norm() / wanted.norm() < 0.03


def test_models_with_biases_and_more_taps() -> None:
    raw = random_config(vocabulary=300, hidden=32, intermediate=48, layers=3, block=BLOCK)
    raw |= {"conv_bias": True, "conv_L_cache": 4, "selfcond_ffn_bias": False, "num_key_value_heads": 1}
    config = read_config(raw, "biased")
    weights = random_weights(config, dtype=DOUBLE)
    with torch.device("meta"):
        stack = Lfm2Model(config)
    stack.load_state_dict({name.removeprefix("model."): weight for name, weight in weights.items()}, assign=True)
    cache = Lfm2Cache(config, rows=1, context=CONTEXT, device=CPU, dtype=DOUBLE)
    model, plain = Lfm2DiffusionModel(stack.eval(), cache), ReferenceModel(raw, weights)
    prompt, block = random_ids(20), random_ids(BLOCK, 9)
    prefill(model, 0, prompt, [1, 1, 18])
    sigma = torch.cat([torch.zeros(20), torch.full((BLOCK,), 1.2)])[None]
    wanted = plain(torch.cat([prompt, block])[None], sigma, 20, torch.arange(20 + BLOCK)[None]).hidden_states[:, 20:]
    equal(denoise(model, block[None], [20]), wanted)


def test_a_captured_step_follows_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads nothing on the host, and depends on no number of the host that may change."""
    cuda = FakeCUDA()
    cuda.install(monkeypatch)
    model, graphs = new_model(rows=2), CUDAGraphs()
    for row, length in enumerate((20, 5)):
        prefill(model, row, random_ids(length, row))
    tokens, sigma = torch.zeros(2, BLOCK, dtype=torch.int64), torch.ones(2, BLOCK)
    soft, output = torch.zeros_like(soft_embeddings(2)), torch.zeros_like(soft_embeddings(2))
    has_soft, lengths = torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)

    def step() -> None:
        output.copy_(model.denoise(tokens, soft, has_soft, sigma, lengths, CONTEXT, True))

    graphs.capture("step", step)
    assert not graphs.failures
    tokens.copy_(random_ids(2 * BLOCK, 4).view(2, BLOCK))
    soft.copy_(soft_embeddings(2))
    has_soft[1] = True
    sigma[0, 2] = 0.0
    lengths.copy_(torch.tensor([20, 5]))
    graphs.run("step", step)
    assert cuda.replays == 1
    equal(output, denoise(model, tokens, [20, 5], sigma=sigma, soft=soft, has_soft=[False, True]))


def test_embeddings_are_those_of_real_tokens() -> None:
    config = small_config()
    assert new_model().embeddings.shape == (config.real_vocab_size, config.hidden_size)
