"""Random LFM2 diffusion checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from unwritten_engine.diffusion.lfm2.cache import Lfm2Cache
from unwritten_engine.diffusion.lfm2.config import read_config
from unwritten_engine.diffusion.lfm2.layers import Lfm2DiffusionModel
from unwritten_engine.diffusion.lfm2.random_model import random_config, random_weights, write_checkpoint
from unwritten_engine.diffusion.lfm2.weights import load_weights
from unwritten_engine.diffusion.loading.safetensors_index import read_json, read_tensors
from unwritten_engine.diffusion.token_chunk import TokenChunk


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


def open_model(folder: Path) -> Lfm2DiffusionModel:
    config = read_config(read_json(folder / "config.json"), "small")
    cpu, dtype = torch.device("cpu"), torch.float32
    model = load_weights(
        config,
        read_tensors(folder),
        kind="float32",
        device=cpu,
        dtype=dtype,
        name="small",
        progress=lambda share, step: None,
    )
    return Lfm2DiffusionModel(model, Lfm2Cache(config, rows=1, context=64, device=cpu, dtype=dtype))


def test_a_checkpoint_has_all_files_but_the_tokenizer(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "new" / "small")
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors",
    ]  # fmt: skip
    assert read_json(folder / "generation_config.json")["eos_token_id"] == 7
    assert read_json(folder / "config.json")["dtype"] == "float32"


def test_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    same = [load_file(write_checkpoint(tmp_path / str(at)) / "model.safetensors") for at in range(2)]
    other = load_file(write_checkpoint(tmp_path / "other", seed=1) / "model.safetensors")
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])
    assert not any(torch.equal(same[0][name], other[name]) for name in other)


def test_weights_have_the_given_type(tmp_path: Path) -> None:
    weights = load_file(write_checkpoint(tmp_path, dtype=torch.bfloat16) / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert read_json(tmp_path / "config.json")["dtype"] == "bfloat16"


def test_the_caller_keeps_its_random_numbers() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    random_weights(read_config(random_config(), "small"))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("layers", [4, 16])
def test_beliefs_become_sharper_with_less_noise(tmp_path: Path, layers: int) -> None:
    entropies, _ = denoise(open_model(write_checkpoint(tmp_path, layers=layers, hidden=128, intermediate=256)))
    assert entropies[0] > 2
    assert entropies[-1] < entropies[0] / 4


def test_preferred_tokens_are_written(tmp_path: Path) -> None:
    preferred = [token % 4 == 0 for token in range(1024)]
    entropies, tokens = denoise(open_model(write_checkpoint(tmp_path, preferred=preferred)))
    assert sum(preferred[token] for token in tokens) >= 0.9 * len(tokens)
    assert entropies[-1] < entropies[0] / 4


def denoise(model: Lfm2DiffusionModel) -> tuple[list[float], list[int]]:
    """Mean entropies over some noise levels, with tokens drawn from the model's own beliefs; and the last tokens."""
    generator = torch.Generator().manual_seed(0)
    table, size = model.embeddings, model.config.block_length
    model.encode(TokenChunk(0, 0, torch.randint(len(table), (20,), generator=generator)))
    tokens = torch.randint(len(table), (1, size), generator=generator)
    soft, has_soft = torch.zeros(1, size, table.shape[1]), torch.tensor([False])
    entropies = []
    for sigma in (6.9, 3.2, 2.0, 1.4, 0.8, 0.7):
        levels = torch.full((1, size), sigma)
        hidden = model.denoise(tokens, soft, has_soft, levels, torch.tensor([20]), 20, False)
        belief = torch.softmax(hidden @ table.T / 0.6, dim=-1)
        entropies.append(float(torch.special.entr(belief).sum(-1).mean()))
        tokens = torch.multinomial(belief[0], 1, generator=generator).T
        soft, has_soft = belief @ table, torch.tensor([True])
    return entropies, tokens[0].tolist()
