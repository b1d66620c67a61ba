"""Loading LFM2 diffusion checkpoints, whole and broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.diffusion.lfm2.small_models import SIZES
from torch import Tensor

from unwritten_engine.diffusion.lfm2.config import read_config
from unwritten_engine.diffusion.lfm2.layers import Lfm2Model
from unwritten_engine.diffusion.lfm2.random_model import write_checkpoint
from unwritten_engine.diffusion.lfm2.weights import load_weights
from unwritten_engine.diffusion.loading.safetensors_index import read_json, read_tensors
from unwritten_engine.errors import EngineError, ModelBroken, ModelUnsupported

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "small", **SIZES)


def load(folder: Path, dtype: torch.dtype = torch.float32, shares: list[float] | None = None) -> Lfm2Model:
    config = read_config(read_json(folder / "config.json"), "acme/model")
    seen = [] if shares is None else shares
    return load_weights(
        config,
        read_tensors(folder),
        kind="float32",
        device=CPU,
        dtype=dtype,
        name="acme/model",
        progress=lambda share, step: seen.append(share),
    )


def change(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change the tensors of a checkpoint."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)


def test_all_weights_are_loaded(folder: Path) -> None:
    shares: list[float] = []
    model, stored = load(folder, shares=shares), load_file(folder / "model.safetensors")
    loaded = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_weights_are_converted(folder: Path) -> None:
    model = load(folder, torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert not any(weight.is_meta for weight in (*model.parameters(), *model.buffers()))


def test_weights_may_be_in_several_files(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
    for file, part in files.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in files.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert torch.equal(load(folder).embed_tokens.weight, tensors["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    "group",
    [
        "model.sigma_embed.",
        "model.sigma_embed.mlp.0.bias",
        "model.sigma_embed.mlp.2.weight",
        "model.adaln_proj.",
        "model.adaln_block_emb",
        "model.selfcond_norm.",
        "model.selfcond_ffn.",
        "model.selfcond_ffn.0.bias",
        "model.selfcond_ffn.2.weight",
    ],
)
def test_missing_conditioning_is_refused(folder: Path, group: str) -> None:
    """With zeros or random numbers in its place, the model would silently write nonsense."""

    def drop(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(group)]:
            del tensors[name]

    change(folder, drop)
    with pytest.raises(ModelBroken, match="conditioning") as error:
        load(folder)
    assert group.rstrip(".") in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.embedding_norm.weight",
        "model.layers.0.conv.conv.weight",
        "model.layers.1.conv.in_proj.weight",
        "model.layers.2.self_attn.q_layernorm.weight",
        "model.layers.2.self_attn.out_proj.weight",
        "model.layers.3.feed_forward.w3.weight",
        "model.layers.6.ffn_norm.weight",
    ],
)
def test_missing_tensors_are_named(folder: Path, name: str) -> None:
    change(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelBroken, match=f"acme/model lacks 1 tensors, such as {name}"):
        load(folder)


@pytest.mark.parametrize(
    "name", ["model.layers.0.conv.conv.weight", "model.adaln_block_emb", "model.embed_tokens.weight"]
)
def test_wrong_shapes_are_named(folder: Path, name: str) -> None:
    def cut(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name][:-1].clone()

    change(folder, cut)
    with pytest.raises(ModelBroken, match=f"{name} is .* and should be"):
        load(folder)


def test_unknown_tensors_are_named(folder: Path) -> None:
    change(folder, lambda tensors: tensors.update({"model.layers.0.conv.extra": torch.zeros(3)}))
    with pytest.raises(ModelUnsupported, match=r"1 unknown tensors: model.layers.0.conv.extra"):
        load(folder)


def test_a_trained_bias_is_not_dropped(folder: Path) -> None:
    config = read_json(folder / "config.json") | {"selfcond_ffn_bias": False}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelUnsupported, match=r"selfcond_ffn.0.bias"):
        load(folder)


def test_copies_are_accepted(folder: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.rotary_emb.inv_freq"] = torch.zeros(4)

    change(folder, add)
    assert len(load(folder).state_dict()) == len(load_file(folder / "model.safetensors")) - 2


def test_an_output_that_is_no_copy_is_refused(folder: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["lm_head.weight"][-1, -1] += 1

    change(folder, add)
    with pytest.raises(ModelUnsupported, match=r"lm_head.weight differs"):
        load(folder)


def test_an_output_of_another_shape_is_refused(folder: Path) -> None:
    change(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(5, 32)}))
    with pytest.raises(ModelBroken, match=r"lm_head.weight is \[5, 32\]"):
        load(folder)


def test_quantized_tensors_are_refused(folder: Path) -> None:
    name = "model.layers.0.feed_forward.w1.weight"
    change(folder, lambda tensors: tensors.update({name: tensors[name].to(torch.int8)}))
    with pytest.raises(ModelUnsupported, match="I8"):
        load(folder)


def test_damaged_files_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EngineError, match="truncated"):
        load(folder)


def test_a_file_that_changes_meanwhile_is_refused(folder: Path) -> None:
    config, tensors = read_config(read_json(folder / "config.json"), "acme/model"), read_tensors(folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelBroken, match="Fetch it again"):
        load_weights(
            config,
            tensors,
            kind="float32",
            device=CPU,
            dtype=torch.float32,
            name="x",
            progress=lambda share, step: None,
        )
