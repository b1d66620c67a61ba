"""The sizes of a DiffusionGemma from its ``config.json``: layers, heads, parameters by kind. Does not use torch.

They determine the memory plan (``memory_plan.py``) and the tensors of a checkpoint (``checkpoint.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from ...errors import ModelBroken

DECODER: Final = "model.decoder."
ENCODER: Final = "model.encoder.language_model."
VISION: Final = ("model.encoder.vision_tower.", "model.encoder.embed_vision.")
"""Prefixes of tensor names. The encoder shares all weights with the decoder except ``layer_scalar``."""


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """One layer.

    Attributes:
        full_attention: attends to all tokens; otherwise to a sliding window.
        head_dim: size of a head.
        num_kv_heads: heads of keys and values.
    """

    full_attention: bool
    head_dim: int
    num_kv_heads: int


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Number of parameters by kind.

    Attributes:
        experts: experts; quantized first.
        linears: other matrices of the layers; quantized too.
        embeddings: token embeddings, tied to the output; never quantized.
        vision: vision tower and projection; never quantized.
        rest: routers, norms and scales; never quantized.
    """

    experts: int
    linears: int
    embeddings: int
    vision: int
    rest: int

    @property
    def text(self) -> int:
        """All parameters except the vision tower."""
        return self.experts + self.linears + self.embeddings + self.rest

    @property
    def total(self) -> int:
        """All parameters."""
        return self.text + self.vision


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of a model. ``sliding_window``, ``canvas_length`` and ``context`` are in tokens."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    expert_size: int
    num_experts: int
    top_k: int
    num_heads: int
    sliding_window: int
    canvas_length: int
    context: int
    layers: tuple[LayerConfig, ...]
    vision: Mapping[str, Any]

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every required tensor, without the vision tower."""
        hidden, shapes = self.hidden_size, dict[str, tuple[int, ...]]()
        shapes[f"{DECODER}embed_tokens.weight"] = (self.vocab_size, hidden)
        shapes[f"{DECODER}norm.weight"] = (hidden,)
        shapes[f"{DECODER}self_conditioning.pre_norm.weight"] = (hidden,)
        shapes |= self._gated(f"{DECODER}self_conditioning.")
        for at, layer in enumerate(self.layers):
            prefix = f"{DECODER}layers.{at}."
            queries, keys = self.num_heads * layer.head_dim, layer.num_kv_heads * layer.head_dim
            shapes[f"{prefix}self_attn.q_proj.weight"] = (queries, hidden)
            shapes[f"{prefix}self_attn.k_proj.weight"] = (keys, hidden)
            if not layer.full_attention:  # layers with full attention use keys as values
                shapes[f"{prefix}self_attn.v_proj.weight"] = (keys, hidden)
            shapes[f"{prefix}self_attn.o_proj.weight"] = (hidden, queries)
            shapes[f"{prefix}self_attn.q_norm.weight"] = shapes[f"{prefix}self_attn.k_norm.weight"] = (layer.head_dim,)
            shapes |= self._gated(f"{prefix}mlp.")
            shapes[f"{prefix}experts.gate_up_proj"] = (self.num_experts, 2 * self.expert_size, hidden)
            shapes[f"{prefix}experts.down_proj"] = (self.num_experts, hidden, self.expert_size)
            shapes[f"{prefix}router.proj.weight"] = (self.num_experts, hidden)
            shapes[f"{prefix}router.scale"] = (hidden,)
            shapes[f"{prefix}router.per_expert_scale"] = (self.num_experts,)
            for norm in _NORMS:
                shapes[f"{prefix}{norm}.weight"] = (hidden,)
            shapes[f"{prefix}layer_scalar"] = shapes[f"{ENCODER}layers.{at}.layer_scalar"] = (1,)
        return shapes

    def _gated(self, prefix: str) -> dict[str, tuple[int, ...]]:
        wide, narrow = (self.intermediate_size, self.hidden_size), (self.hidden_size, self.intermediate_size)
        return {f"{prefix}gate_proj.weight": wide, f"{prefix}up_proj.weight": wide, f"{prefix}down_proj.weight": narrow}

    def counts(self) -> ParameterCounts:
        """Return the number of parameters by kind."""
        kinds: dict[str, int] = dict.fromkeys(("experts", "linears", "embeddings", "rest"), 0)
        for name, shape in self.tensors().items():
            kinds[tensor_kind(name)] += prod(shape)
        return ParameterCounts(vision=_vision(self.vision, self.hidden_size), **kinds)


_NORMS: Final = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    "pre_feedforward_layernorm_2", "post_feedforward_layernorm_1", "post_feedforward_layernorm_2",
)  # fmt: skip


def tensor_kind(name: str) -> str:
    """Return the kind of a tensor by its name: a field of ``ParameterCounts``."""
    if name.startswith(VISION):
        return "vision"
    if ".experts." in name:
        return "experts"
    if "embed_tokens" in name or name == "lm_head.weight":
        return "embeddings"
    return "linears" if name.endswith("_proj.weight") else "rest"


def read_model_config(config: Mapping[str, Any], name: str) -> ModelConfig:
    """Read the sizes from a ``config.json``.

    Args:
        config: its contents.
        name: display name, for messages.

    Raises:
        ModelBroken: a size is missing or invalid. The message names it.
    """

    def size(table: Mapping[str, Any], key: str, default: int | None = None) -> int:
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            problem = "lacks" if value is None else f"has the invalid value {value!r} for"
            raise ModelBroken(f"The config.json of {name} {problem} {key!r}. Fetch the checkpoint again.")
        return value

    text = config.get("text_config")
    if not isinstance(text, Mapping):
        raise ModelBroken(f"The config.json of {name} has no 'text_config'. Fetch the checkpoint again.")
    layers = size(text, "num_hidden_layers")
    kinds = text.get("layer_types") or [
        "full_attention" if at % 6 == 5 else "sliding_attention" for at in range(layers)
    ]
    if len(kinds) != layers:
        raise ModelBroken(
            f"The config.json of {name} lists {len(kinds)} layer types for {layers} layers. Fetch the checkpoint again."
        )
    # transformers saves sizes per layer, with keys like "05"; the hub's config has two global sizes instead.
    own = {int(at): sizes for at, sizes in (text.get("per_layer_config") or {}).items()}
    keys, head = size(text, "num_key_value_heads", 4), size(text, "head_dim", 256)
    layer_configs = []
    for at, layer in enumerate(kinds):
        full = layer == "full_attention" or at + 1 == layers
        own_type = own.get(at)
        if own_type is None and full and not own:
            wide = text.get("num_global_key_value_heads") or keys
            own_type = {"head_dim": text.get("global_head_dim", 512), "num_key_value_heads": wide}
        own_type = own_type or {}
        layer_configs.append(
            LayerConfig(full, size(own_type, "head_dim", head), size(own_type, "num_key_value_heads", keys))
        )
    return ModelConfig(
        vocab_size=size(text, "vocab_size", 262_144),
        hidden_size=size(text, "hidden_size"),
        intermediate_size=size(text, "intermediate_size"),
        expert_size=size(text, "moe_intermediate_size"),
        num_experts=size(text, "num_experts"),
        top_k=size(text, "top_k_experts"),
        num_heads=size(text, "num_attention_heads", 8),
        sliding_window=size(text, "sliding_window", 512),
        canvas_length=size(config, "canvas_length", 256),
        context=size(text, "max_position_embeddings", 131_072),
        layers=tuple(layer_configs),
        vision=config.get("vision_config") or {},
    )


def _vision(config: Mapping[str, Any], text_hidden: int) -> int:
    """Return the number of parameters of the vision tower and its projection."""
    if not config:
        return 0
    hidden, head = config.get("hidden_size", 768), config.get("head_dim", 64)
    heads, keys = config.get("num_attention_heads", 12), config.get("num_key_value_heads", 12)
    layer = 2 * hidden * head * (heads + keys) + 3 * hidden * config.get("intermediate_size", 3072)
    layer += 4 * hidden + 2 * head
    patch = 3 * config.get("patch_size", 16) ** 2 * hidden + 2 * config.get("position_embedding_size", 10_240) * hidden
    return int(config.get("num_hidden_layers", 16) * layer + patch + hidden * text_hidden)
