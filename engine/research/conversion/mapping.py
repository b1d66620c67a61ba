"""Convert the layers of Gemma 3 to DiffusionGemma. The causal encoder then predicts the next token like Gemma 3.

The decoder has the same weights, attends to a whole canvas and has never seen noise; it must be trained.

* Dense MLP and experts run in parallel. The experts are disabled by a zero norm weight after them; they are few and
  narrow, and training can enable them. The dense MLP passes an additional norm without effect.
* The decoder normalizes its embeddings, the encoder does not. Gemma 3's embeddings all have nearly the same norm, so
  the residual stream is divided by it; encoder and decoder inputs agree within 0.05 %.
* Self-conditioning adds nothing before training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor

from unwritten_engine.diffusion.diffusion_gemma.generation_config import fill_generation_config
from unwritten_engine.diffusion.diffusion_gemma.random_model import END_IDS, make_config
from unwritten_engine.engine import Progress

from .calibration import attention_inputs
from .heads import AttentionWeights, CalibrationSample, convert_full_attention, convert_sliding_attention

CANVAS: Final = 128
CONTEXT: Final = 4096
CAP: Final = 1000.0
"""Soft cap of the logits. Gemma 3 has none and reaches 43; this cap changes logits by less than 0.03."""
_EXPERTS, _EXPERT_INNER, _TOP = 4, 16, 2
_COPIED: Final = ("gate_proj", "up_proj", "down_proj")
_SEED: Final = 0


def convert_model(old: Any, ids: Tensor, *, wide: bool, progress: Progress) -> Any:
    """Return a DiffusionGemma whose encoder predicts like a Gemma 3.

    Args:
        old: ``Gemma3ForCausalLM`` in float32.
        ids: [n, length] int64, ordinary text; every row starts with the begin token.
        wide: exact sliding layers with wider heads; see ``heads``.
        progress: gets the share of the work.

    Returns:
        ``DiffusionGemmaForBlockDiffusion`` in float32 on the CPU, in eval mode without gradients.
    """
    from transformers import DiffusionGemmaForBlockDiffusion

    text = old.config
    seen = attention_inputs(old, ids, lambda share, doing: progress(0.9 * share, doing))
    heads = []
    for at, (layer, inputs) in enumerate(zip(old.model.layers, seen, strict=True)):
        progress(0.9 + 0.1 * at / len(seen), "Converting layers")
        sample = CalibrationSample.of(inputs, 1 + layer.input_layernorm.weight)
        scale = text.query_pre_attn_scalar**-0.5
        if text.layer_types[at] == "full_attention":
            heads.append(convert_full_attention(_heads(layer.self_attn), sample, scale))
        else:
            heads.append(convert_sliding_attention(_heads(layer.self_attn), sample, scale, wide))
    with torch.random.fork_rng(devices=[]):  # the constructor draws numbers; the caller's stay as they are
        torch.manual_seed(_SEED)
        make: Any = DiffusionGemmaForBlockDiffusion
        model = make(_config(text, heads))
        _fill(model.model.decoder, old.model, heads)
    fill_generation_config(model, end_ids=END_IDS)
    return model.eval().requires_grad_(False)


def _heads(attention: Any) -> AttentionWeights:
    return AttentionWeights(
        query=attention.q_proj.weight,
        keys=attention.k_proj.weight,
        values=attention.v_proj.weight,
        output=attention.o_proj.weight,
        query_norm=1 + attention.q_norm.weight,
        key_norm=1 + attention.k_norm.weight,
        head=attention.head_dim,
    )


def _config(text: Any, heads: list[AttentionWeights]) -> Any:
    kinds = list(text.layer_types)
    sizes = {kind: head.head for kind, head in zip(kinds, heads, strict=True)}
    rope = {
        kind: {
            "rope_type": "default",
            "rope_theta": text.rope_parameters[kind]["rope_theta"] ** (sizes.get(kind, text.head_dim) / text.head_dim),
        }
        for kind in ("sliding_attention", "full_attention")
    }
    return make_config(
        {
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "moe_intermediate_size": _EXPERT_INNER,
            "num_hidden_layers": text.num_hidden_layers,
            "layer_types": kinds,
            "num_attention_heads": text.num_attention_heads,
            "num_key_value_heads": text.num_key_value_heads,
            "num_global_key_value_heads": text.num_key_value_heads,
            "head_dim": sizes.get("sliding_attention", text.head_dim),
            "global_head_dim": sizes["full_attention"],
            "sliding_window": text.sliding_window,
            "rope_parameters": rope,
            "rms_norm_eps": text.rms_norm_eps,
            "num_experts": _EXPERTS,
            "top_k_experts": _TOP,
            "max_position_embeddings": min(CONTEXT, text.max_position_embeddings),
            "final_logit_softcapping": CAP,
        },
        CANVAS,
    )


def _fill(decoder: Any, old: Any, heads: list[AttentionWeights]) -> None:
    """Set the weights, which encoder and output share."""
    embeddings = old.embed_tokens.weight
    size = float(embeddings.square().mean(-1).sqrt().mean()) * math.sqrt(embeddings.shape[1])
    with torch.no_grad():
        decoder.embed_tokens.weight.copy_(embeddings / size)
        decoder.norm.weight.copy_((1 + old.norm.weight) * size)
        conditioning = decoder.self_conditioning
        _draw(conditioning.gate_proj.weight, conditioning.up_proj.weight)
        conditioning.down_proj.weight.zero_()
        for layer, theirs, head in zip(decoder.layers, old.layers, heads, strict=True):
            attention = layer.self_attn
            attention.q_proj.weight.copy_(head.query)
            attention.k_proj.weight.copy_(head.keys)
            if head.values is not None:
                attention.v_proj.weight.copy_(head.values)
            attention.o_proj.weight.copy_(head.output)
            attention.q_norm.weight.copy_(head.query_norm)
            attention.k_norm.weight.copy_(head.key_norm)
            for name in _COPIED:
                layer.mlp.get_submodule(name).weight.copy_(theirs.mlp.get_submodule(name).weight)
            for name, divisor in _NORMS.items():
                weight = 1 + theirs.get_submodule(name).weight
                layer.get_submodule(name).weight.copy_(weight / (size if divisor else 1))
            layer.post_feedforward_layernorm_1.weight.fill_(1)
            layer.post_feedforward_layernorm_2.weight.zero_()
            layer.pre_feedforward_layernorm_2.weight.fill_(1)
            _draw(layer.experts.gate_up_proj, layer.experts.down_proj, layer.router.proj.weight)


_NORMS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        "input_layernorm": False,
        "post_attention_layernorm": True,
        "pre_feedforward_layernorm": False,
        "post_feedforward_layernorm": True,
    }
)
"""Norms with a counterpart, and whether their output is added to the residual stream."""


def _draw(*weights: Tensor) -> None:
    """Initialize disabled weights with random numbers, because training cannot enable zeros."""
    for weight in weights:
        weight.normal_(0.0, 1 / math.sqrt(weight.shape[-1]))
