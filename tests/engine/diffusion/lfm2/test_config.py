"""Sizes and tensors of LFM2 diffusion models from ``config.json``."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch

from unwritten_engine.diffusion.lfm2.config import read_config
from unwritten_engine.diffusion.lfm2.layers import Lfm2Model
from unwritten_engine.diffusion.lfm2.random_model import LFM2_350M, random_config
from unwritten_engine.errors import ModelBroken, ModelUnsupported

PUBLISHED_BACKBONE: dict[str, Any] = {
    "block_auto_adjust_ff_dim": True,
    "block_dim": 1024,
    "block_ff_dim": 6656,
    "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 256,
    "block_norm_eps": 1e-05,
    "bos_token_id": 1,
    "conv_L_cache": 3,
    "conv_bias": False,
    "conv_dim": 1024,
    "eos_token_id": 7,
    "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    "hidden_size": 1024,
    "max_position_embeddings": 128000,
    "norm_eps": 1e-05,
    "num_attention_heads": 16,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pad_token_id": 0,
    "rope_theta": 1000000.0,
    "vocab_size": 65536,
}
"""The config of LFM2-350M, without what a diffusion model adds."""


def broken(**changes: Any) -> dict[str, Any]:
    """A config with some values changed, or removed if they are ``...``."""
    return {key: value for key, value in (random_config() | changes).items() if value is not ...}


def test_the_published_backbone() -> None:
    config = read_config(PUBLISHED_BACKBONE | {"real_vocab_size": 64_400}, "published")
    assert config == read_config(random_config(**LFM2_350M), "random")
    assert config.intermediate_size == 4608
    assert (config.num_attention_layers, config.num_conv_layers, config.head_dim) == (6, 10, 64)
    assert (config.block_length, config.condition_size, config.selfcond_bias) == (32, 256, True)


def test_the_backbone_has_the_tensors_of_transformers() -> None:
    from transformers import Lfm2Config as BackboneConfig
    from transformers import Lfm2ForCausalLM

    make: Any = BackboneConfig
    build: Any = Lfm2ForCausalLM
    with torch.device("meta"):
        theirs = build(make(**PUBLISHED_BACKBONE))
    wanted = {name: tuple(weight.shape) for name, weight in theirs.named_parameters()}
    ours = read_config(PUBLISHED_BACKBONE | {"real_vocab_size": 64_400}, "published").tensors()
    assert wanted.items() <= ours.items()
    assert sum(map(prod, wanted.values())) == 354_483_968  # as its model card says
    assert {name.split(".")[1] for name in ours.keys() - wanted} == {
        "sigma_embed", "adaln_proj", "adaln_block_emb", "selfcond_norm", "selfcond_ffn",
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"conv_bias": True}, {"selfcond_ffn_bias": False}, {"head_dim": 24}])
def test_our_modules_have_exactly_these_tensors(changes: dict[str, Any]) -> None:
    config = read_config(random_config(layers=6) | changes, "small")
    with torch.device("meta"):
        model = Lfm2Model(config)
    found = {f"model.{name}": tuple(weight.shape) for name, weight in model.state_dict().items()}
    assert found == config.tensors()


def test_parameters_and_bytes() -> None:
    config = read_config(random_config(**LFM2_350M), "published")
    counts = config.counts()
    assert counts.total == sum(map(prod, config.tensors().values())) == 357_553_408
    assert counts.embeddings == 65_536 * 1024
    assert counts.linears == 287_309_824
    assert config.weight_bytes(2) == 715_106_816
    assert config.row_bytes(0, 2) == (2 * 6 * 8 * 64 * 32 + 10 * 2 * 1024) * 2
    assert config.row_bytes(512, 2) - config.row_bytes(0, 2) == 2 * 6 * 8 * 64 * 512 * 2


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        ({"block_auto_adjust_ff_dim": False, "intermediate_size": 100}, 100),
        ({"block_auto_adjust_ff_dim": True, "intermediate_size": 100}, 256),
        ({"block_auto_adjust_ff_dim": True, "intermediate_size": 100, "block_multiple_of": 8}, 72),
        ({"block_auto_adjust_ff_dim": True, "block_ff_dim": 6656, "block_ffn_dim_multiplier": 2.0}, 8960),
    ],
)
def test_the_width_of_the_feed_forward_layers_equals_transformers(changes: dict[str, Any], width: int) -> None:
    from transformers import Lfm2Config as BackboneConfig
    from transformers.models.lfm2.modeling_lfm2 import Lfm2MLP

    make: Any = BackboneConfig
    raw = random_config(hidden=16) | changes
    assert read_config(raw, "small").intermediate_size == width
    theirs = Lfm2MLP(make(**{key: value for key, value in raw.items() if key not in ("architectures", "model_type")}))
    assert theirs.w1.out_features == width


@pytest.mark.parametrize(
    "rope", [{"rope_theta": 5000.0}, {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}]
)
def test_the_rotary_base_is_found_in_both_places(rope: dict[str, Any]) -> None:
    assert read_config(broken(rope_theta=...) | rope, "small").rope_theta == 5000.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": ...}, "lacks 'hidden_size'"),
        ({"hidden_size": 0}, "invalid value 0 for 'hidden_size'"),
        ({"hidden_size": "64"}, "invalid value '64'"),
        ({"hidden_size": 66}, "66 hidden units cannot be divided among 4 heads"),
        ({"num_hidden_layers": True}, "invalid value True"),
        ({"num_hidden_layers": 5}, "4 layer types for 5 layers"),
        ({"num_attention_heads": ...}, "lacks 'num_attention_heads'"),
        ({"num_key_value_heads": 3}, "cannot share 3"),
        ({"head_dim": 15}, "even width, not 15"),
        ({"vocab_size": -1}, "'vocab_size'"),
        ({"real_vocab_size": ...}, "lacks 'real_vocab_size'"),
        ({"real_vocab_size": 2000}, "real_vocab_size is 2,000, but vocab_size is only 1,024"),
        ({"layer_types": ...}, "lacks 'layer_types'"),
        ({"layer_types": ["conv", "conv", "mamba", "conv"]}, "'layer_types'"),
        ({"layer_types": "conv"}, "'layer_types'"),
        ({"layer_types": [["conv"]]}, "'layer_types'"),
        ({"conv_L_cache": 1}, "'conv_L_cache'"),
        ({"conv_bias": 1}, "'conv_bias'"),
        ({"norm_eps": 0}, "'norm_eps'"),
        ({"norm_eps": "small"}, "'norm_eps'"),
        ({"rope_theta": float("nan")}, "'rope_theta'"),
        ({"rope_parameters": [1]}, "'rope_parameters'"),
        ({"diffusion_block_size": 0}, "'diffusion_block_size'"),
        ({"sigma_cond_dim": 1.5}, "'sigma_cond_dim'"),
        ({"sigma_freq_embedding_size": 7}, "must be even, not 7"),
        ({"block_auto_adjust_ff_dim": True, "block_multiple_of": 0}, "'block_multiple_of'"),
        ({"intermediate_size": 0}, "'intermediate_size'"),
    ],
)
def test_invalid_configs_name_the_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelBroken, match=message) as error:
        read_config(broken(**changes), "acme/model")
    assert "acme/model" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adaln_conditioning": False}, "adaln_conditioning"),
        ({"self_conditioning": False}, "self_conditioning"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"tie_embedding": False}, "tie_embedding"),
        ({"conv_dim": 32}, "conv_dim"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
    ],
)
def test_unsupported_variants_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelUnsupported, match=message):
        read_config(broken(**changes), "acme/model")


def test_the_real_tokens_of_the_published_vocabulary_are_known() -> None:
    assert read_config(PUBLISHED_BACKBONE, "published").real_vocab_size == 64_400
    assert read_config(PUBLISHED_BACKBONE | {"real_vocab_size": 65_000}, "other").real_vocab_size == 65_000


def test_nulls_mean_defaults() -> None:
    changes = dict.fromkeys(("num_key_value_heads", "head_dim", "conv_bias", "sigma_cond_dim", "rope_parameters"))
    config = read_config(broken(**changes), "small")
    assert (config.num_kv_heads, config.head_dim, config.conv_bias, config.condition_size) == (4, 16, False, 256)


def test_configs_are_comparable() -> None:
    assert read_config(random_config(), "a") == read_config(random_config(), "b")
