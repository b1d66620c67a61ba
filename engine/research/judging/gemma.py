"""Load Gemma 3 from a GGUF file as a transformers model in float32.

transformers' own reader needs most of a minute for the vocabulary; this one takes seconds. Needs the extra
``training``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch
from gguf import GGMLQuantizationType, dequantize
from torch import Tensor

from unwritten_engine.diffusion.diffusion_gemma.random_model import no_progress_bars
from unwritten_engine.errors import ModelBroken, ModelUnsupported
from unwritten_engine.gguf import GGUFTensor as Place
from unwritten_engine.gguf import read_contents

from .pieces import SentencePieceTokenizer

if TYPE_CHECKING:
    from transformers import Gemma3ForCausalLM

Tokenize: TypeAlias = Callable[[str], list[int]]
"""Converts a text to ids, without begin and end tokens."""
_TOP: Final = {"token_embd": "embed_tokens", "output_norm": "norm"}
_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
"""Names of weights in llama.cpp and transformers."""
_LOCAL_BASE: Final = 10_000.0
"""Rotary base of layers with a sliding window, which is not in the GGUF file."""
_FULL_EVERY: Final = 6
"""Period of layers with full attention, which is not in the GGUF file."""


def load_gemma(path: Path) -> tuple[Gemma3ForCausalLM, Tokenize]:
    """Load a model. Takes seconds, and four bytes per weight.

    Returns:
        The model in eval mode without gradients on the CPU, and its tokenize function.

    Raises:
        ModelNotFound, ModelBroken: the file does not exist, or is damaged.
        ModelUnsupported: another architecture, or an unsupported weight format.
    """
    from transformers import Gemma3ForCausalLM

    metadata, places = read_contents(path)
    architecture = metadata.get("general.architecture")
    if architecture != "gemma3":
        raise ModelUnsupported(f"{path} has the architecture {architecture!r}. Give a GGUF file of Gemma 3.")
    pieces = SentencePieceTokenizer(metadata)
    try:
        config = _config(metadata, len(metadata["tokenizer.ggml.tokens"]))
    except KeyError as error:
        raise ModelBroken(f"{path} does not say its {error.args[0]}. Download it again.") from error
    made: Any = Gemma3ForCausalLM  # the type of what this returns does not show the report
    with no_progress_bars():
        model, report = made.from_pretrained(
            None,
            config=config,
            state_dict=dict(_weights(path, places)),
            dtype=torch.float32,
            output_loading_info=True,
        )
    if wrong := [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]:
        raise ModelBroken(f"{path} does not have the weights of a Gemma 3: {wrong[0]} is wrong. Download it again.")
    loaded: Gemma3ForCausalLM = model.eval().requires_grad_(False)
    return loaded, pieces.encode


def _config(metadata: Mapping[str, Any], vocabulary: int) -> Any:
    from transformers import Gemma3TextConfig

    def value(name: str) -> Any:
        return metadata[f"gemma3.{name}"]

    layers, width = value("block_count"), value("attention.key_length")
    make: Any = Gemma3TextConfig  # its signature does not show all that it takes
    return make(
        vocab_size=vocabulary,
        hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=layers,
        num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        head_dim=width,
        query_pre_attn_scalar=width,
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=value("context_length"),
        sliding_window=value("attention.sliding_window"),
        layer_types=["full_attention" if (at + 1) % _FULL_EVERY == 0 else "sliding_attention" for at in range(layers)],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": value("rope.freq_base")},
            "sliding_attention": {"rope_type": "default", "rope_theta": _LOCAL_BASE},
        },
        bos_token_id=metadata["tokenizer.ggml.bos_token_id"],
        eos_token_id=metadata["tokenizer.ggml.eos_token_id"],
        pad_token_id=metadata["tokenizer.ggml.padding_token_id"],
    )


def _weights(path: Path, places: Mapping[str, Place]) -> Iterator[tuple[str, Tensor]]:
    """Yield all weights under transformers' names."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    for name, place in places.items():
        try:
            kind = GGMLQuantizationType(place.kind)
            rows = raw[place.start : place.start + place.size].reshape(*place.shape[:-1], -1)
            numbers = dequantize(rows, kind)
        except (ValueError, NotImplementedError) as error:
            raise ModelUnsupported(f"The weights {name} of {path} cannot be unpacked ({error}).") from error
        # Weights in float32 are not unpacked: they still are the file, which is only for reading.
        weight = torch.from_numpy(numbers.copy() if place.kind == GGMLQuantizationType.F32 else numbers)
        if weight.ndim == 1:  # norms; llama.cpp keeps what they multiply with, transformers how far that is from 1
            weight = weight - 1
        yield _named(name, path), weight


def _named(name: str, path: Path) -> str:
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name)
    number, part = (found[1], found[2]) if found else (None, "")
    theirs = _TOP.get(part) if number is None else _LAYER.get(part)
    if theirs is None:
        raise ModelUnsupported(f"{path} has the weights {name}, which no Gemma 3 has that can be read here.")
    return f"model.{theirs}.weight" if number is None else f"model.layers.{number}.{theirs}.weight"
