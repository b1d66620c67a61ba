"""Fresh models: they load like any other, and their first loss is that of somebody who knows nothing."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.checkpoints import inspect_checkpoint
from torch.nn.functional import cross_entropy

from unwritten_engine import EngineError, Frame, Prompt, Request, open_engine
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.training.initial_model import SIZES, ModelShape, new_model, write_new_model

VOCABULARY = 4096


@pytest.fixture(scope="module")
def toy() -> Any:
    torch.set_num_threads(1)
    return new_model(SIZES["toy"], VOCABULARY)


def test_the_first_loss_is_that_of_uniform_guessing(toy: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(500, VOCABULARY, (2, 48), generator=generator)
    canvas = torch.randint(500, VOCABULARY, (2, 32), generator=generator)
    target = torch.randint(500, VOCABULARY, (2, 32), generator=generator)
    with torch.no_grad():
        logits = toy(input_ids=prompt, decoder_input_ids=canvas).logits
        causal = toy.lm_head(toy.model.encoder.language_model(prompt).last_hidden_state)
    nothing = math.log(VOCABULARY)
    assert cross_entropy(logits.flatten(0, 1), target.flatten()).item() == pytest.approx(nothing, abs=0.4)
    assert cross_entropy(causal[:, :-1].flatten(0, 1), prompt[:, 1:].flatten()).item() == pytest.approx(
        nothing, abs=0.4
    )
    assert cross_entropy(logits.flatten(0, 1), canvas.flatten()).item() < nothing - 1  # it sees what it is given


def test_layers_and_attention_are_initialized_evenly(toy: Any) -> None:
    ids = torch.randint(500, VOCABULARY, (1, 64), generator=torch.Generator().manual_seed(1))
    encoder = toy.model.encoder.language_model
    with torch.no_grad():
        found = encoder(ids, output_hidden_states=True).hidden_states
        attention = encoder.layers[0].self_attn
        normed = encoder.layers[0].input_layernorm(found[0])
        shape = (1, 64, -1, attention.head_dim)
        query = attention.q_norm(attention.q_proj(normed).view(shape))
        keys = attention.k_norm(attention.k_proj(normed).view(shape)).repeat_interleave(2, 2)
    assert found[0].pow(2).mean().sqrt().item() == pytest.approx(1, abs=0.05)
    before_last = found[-2].pow(2).mean().sqrt().item()
    assert 1.2 < before_last < 1.5
    assert torch.einsum("bqhd,bkhd->bhqk", query, keys).std().item() == pytest.approx(1, abs=0.1)


def test_every_weight_gets_a_gradient(toy: Any) -> None:
    model = new_model(SIZES["toy"], 640, seed=3)
    prompt, canvas = torch.randint(0, 640, (2, 1, 32), generator=torch.Generator().manual_seed(2))
    logits = model(input_ids=prompt, decoder_input_ids=canvas, self_conditioning_logits=torch.zeros(1, 32, 640)).logits
    loss: Any = cross_entropy(logits.flatten(0, 1), prompt.flatten())
    loss.backward()
    silent = {
        name
        for name, weight in model.named_parameters()
        if ("vision" not in name) and (weight.grad is None or not weight.grad.abs().sum() > 0)
    }
    # What its output is multiplied with is zero at first.
    assert silent == {f"model.decoder.self_conditioning.{name}.weight" for name in ("pre_norm", "gate_proj", "up_proj")}


def test_a_folder_is_a_checkpoint_that_the_engine_opens(tmp_path: Path) -> None:
    folder = write_new_model(tmp_path / "toy", "toy", make_tokenizer(VOCABULARY), seed=1)
    found = inspect_checkpoint(folder)
    assert 1_000_000 < found.counts.total < 2_000_000
    assert found.model_config.canvas_length == 32 and not found.vision
    assert [layer.full_attention for layer in found.model_config.layers] == [False, True, False, True]
    engine = open_engine("diffusion", model=str(folder), threads=1)

    async def written() -> Frame:
        frames = [frame async for frame in engine.generate(Request(Prompt("Say."), seed=1))]
        await engine.close()
        return frames[-1]

    last = asyncio.run(written())
    assert last.usage is not None and last.usage.tokens > 0


def test_the_small_size_is_small() -> None:
    shape = SIZES["small"]
    with torch.device("meta"):
        counts = sum(weight.numel() for weight in _meta(shape).parameters())
    assert 30e6 < counts < 34e6


def _meta(shape: ModelShape) -> Any:
    from transformers import DiffusionGemmaForBlockDiffusion

    from unwritten_engine.training.initial_model import new_config

    make: Any = DiffusionGemmaForBlockDiffusion
    return make(new_config(shape, 12_288))


def test_the_seed_decides_and_the_global_generator_stays(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    one, same, other = (new_model(SIZES["toy"], 640, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    name = "model.decoder.layers.1.mlp.up_proj.weight"
    assert torch.equal(one.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_unwritable_folders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no size 'huge'\. Choose one of toy, small"):
        write_new_model(tmp_path, "huge", make_tokenizer(640))
    (tmp_path / "file").write_text("here")
    with pytest.raises(EngineError, match="Cannot write"):
        write_new_model(tmp_path / "file", "toy", make_tokenizer(640))
