"""Write LFM2 diffusion checkpoints with random weights, for tests and benchmarks. Nothing is downloaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from .config import ARCHITECTURE, EMBEDDINGS, MODEL_TYPE, Lfm2Config, read_config

BOS_ID: Final = 1
END_ID: Final = 7
PAD_ID: Final = 0
"""Ids of control tokens in LFM2's vocabulary."""
ATTENTION_LAYERS: Final = (2, 5, 8, 10, 12, 14)
"""Layers with attention in LFM2-350M."""
LFM2_350M: Final[Mapping[str, Any]] = {
    "vocabulary": 65_536,
    "real_vocabulary": 64_400,
    "hidden": 1024,
    "intermediate": 4608,
    "layers": 16,
    "heads": 16,
    "kv_heads": 8,
    "block": 32,
    "condition": 256,
    "frequencies": 256,
    "context": 128_000,
}
"""Sizes of the published model, as arguments of ``write_checkpoint``."""


def random_config(
    *,
    vocabulary: int = 1024,
    real_vocabulary: int | None = None,
    hidden: int = 64,
    intermediate: int = 128,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    block: int = 32,
    condition: int = 32,
    frequencies: int = 32,
    context: int = 8192,
) -> dict[str, Any]:
    """Return the ``config.json`` of a model.

    Args:
        vocabulary: rows of the embeddings.
        real_vocabulary: tokens that exist; None for all.
        hidden: hidden size.
        intermediate: width of the feed-forward layers.
        layers: number of layers. Those in ``ATTENTION_LAYERS`` have attention, the others a convolution.
        heads: query heads.
        kv_heads: heads for keys and values.
        block: tokens that are denoised together.
        condition: width of the embedded noise level.
        frequencies: sines and cosines of the noise level.
        context: maximum tokens of prompt and output together.
    """
    return {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        "vocab_size": vocabulary,
        "real_vocab_size": real_vocabulary or vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "block_auto_adjust_ff_dim": False,
        "num_hidden_layers": layers,
        "layer_types": ["full_attention" if at in ATTENTION_LAYERS else "conv" for at in range(layers)],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "conv_L_cache": 3,
        "conv_bias": False,
        "norm_eps": 1e-5,
        "rope_theta": 1_000_000.0,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
        "diffusion_block_size": block,
        "adaln_conditioning": True,
        "self_conditioning": True,
        "selfcond_ffn_bias": True,
        "sigma_cond_dim": condition,
        "sigma_freq_embedding_size": frequencies,
        "bos_token_id": BOS_ID,
        "eos_token_id": END_ID,
        "pad_token_id": PAD_ID,
    }


def random_weights(
    config: Lfm2Config,
    *,
    spread: float = 2.0,
    branch: float = 1.0,
    preferred: Sequence[bool] | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Return random weights by their names in a checkpoint.

    Layers add much to a token at high noise levels and little at low ones. Beliefs therefore become sharper from step
    to step, as those of a trained model do.

    Args:
        config: sizes of the model.
        spread: scale of the logits; the larger, the more certain the model is.
        branch: scale of what each layer and the self-conditioning add to a token, relative to its embedding. At 1 the
            model is chaotic like any random one: small early errors become large. At 0.3 it is as stable as a trained
            one.
        preferred: by id, whether the model prefers a token. Other tokens, such as bytes and controls, get embeddings
            near zero and only appear as noise. None prefers all.
        seed: of the weights.
        dtype: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    unit = spread / math.sqrt(config.hidden_size)  # standard deviation of the embeddings
    weights = {}
    for name, shape in config.tensors().items():
        weight = torch.empty(shape)
        if name == EMBEDDINGS:
            weight.normal_(0.0, unit, generator=generator)
        elif name.endswith("norm.weight"):
            weight.normal_(1.0, 0.1, generator=generator)
        elif name.endswith((".bias", "adaln_block_emb")):
            weight.normal_(0.0, 0.1, generator=generator)
        else:
            scale = unit * branch if name.endswith(_ADDED) else 0.3 if name.endswith("adaln_proj.1.weight") else 1.0
            weight.normal_(0.0, scale / math.sqrt(shape[-1]), generator=generator)
        weights[name] = weight
    if preferred is not None:
        others = torch.ones(config.vocab_size, dtype=torch.bool)
        others[: len(preferred)] = ~torch.tensor(preferred)
        weights[EMBEDDINGS][others] *= 0.1
    _open_gates_with_noise(weights, config)
    return {name: weight.to(dtype) for name, weight in weights.items()}


_ADDED: Final = ("out_proj.weight", "w2.weight", "selfcond_ffn.2.weight")
"""Ends of the names of matrices whose output is added to the residual stream."""


def _open_gates_with_noise(weights: Mapping[str, Tensor], config: Lfm2Config) -> None:
    """Make the gates of all layers follow the sine of about 0.3 times the noise level.

    It rises over the levels of all steps but the first. The shares of the layers are about 1.7 in the first step, 0.7
    halfway, and 0.4 in the last.
    """
    half = config.frequency_size // 2
    sine = half + round(half * math.log(1 / 0.3) / math.log(10_000))
    # The first unit of the embedded noise level carries only this sine.
    first, second = weights["model.sigma_embed.mlp.0.weight"], weights["model.sigma_embed.mlp.2.weight"]
    for matrix, column, value in ((first, sine, 4.0), (second, 0, 1.0)):
        matrix[0] = 0.0
        matrix[0, column] = value
    for bias in ("model.sigma_embed.mlp.0.bias", "model.sigma_embed.mlp.2.bias"):
        weights[bias][0] = 0.0
    gates = slice(2 * config.hidden_size, None)
    weights["model.adaln_proj.1.weight"][gates, 0] = 0.5
    weights["model.adaln_proj.1.bias"][gates] -= 0.8


def write_checkpoint(
    folder: str | Path,
    *,
    preferred: Sequence[bool] | None = None,
    spread: float = 2.0,
    branch: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **sizes: Any,
) -> Path:
    """Write a random model as a checkpoint folder, without a tokenizer.

    Args:
        folder: target folder, created if needed.
        preferred: as for ``random_weights``.
        spread: as for ``random_weights``.
        branch: as for ``random_weights``.
        seed: as for ``random_weights``.
        dtype: as for ``random_weights``.
        sizes: as for ``random_config``.

    Returns:
        The folder.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    config = random_config(**sizes)
    weights = random_weights(
        read_config(config, target.name), spread=spread, branch=branch, preferred=preferred, seed=seed, dtype=dtype
    )
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    _write_json(target / "config.json", config | {"dtype": str(dtype).removeprefix("torch.")})
    ends = {"bos_token_id": BOS_ID, "eos_token_id": END_ID, "pad_token_id": PAD_ID}
    _write_json(target / "generation_config.json", ends)
    return target


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
