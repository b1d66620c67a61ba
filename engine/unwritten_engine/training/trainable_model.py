"""The layers of the model over whole batches, with gradients.

The encoder processes each row of a batch once; the decoder processes all canvases of all rows together. Masks define
the attention: an encoder token attends to earlier tokens of its document; a canvas position attends to its document
before the canvas, and to the whole canvas. With a sliding window of W, as in the engine
(``diffusion_gemma/kv_cache.py``), an encoder token attends to the last W tokens including itself, and a canvas to the
last W - 1 before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from ..diffusion.diffusion_gemma.layers import apply_norm, feed_forward, project_qkv
from .packing import PackedBatch

MAX_DENSE_EXPERTS: Final = 16
"""Up to this number, all experts run for every token, which is cheaper than sorting tokens."""


@dataclass(frozen=True, slots=True)
class EncodedPrefix:
    """Output of the encoder.

    Attributes:
        keys: per layer, [B, heads, S, head_dim].
        values: the same.
        masks: by layer type, [B, 1, K·C, S + K·C] bool: what each canvas position attends to.
    """

    keys: list[Tensor]
    values: list[Tensor]
    masks: dict[str, Tensor]

    def detached(self) -> EncodedPrefix:
        """Return the same without gradients."""
        return EncodedPrefix([one.detach() for one in self.keys], [one.detach() for one in self.values], self.masks)


class TrainableModel:
    """Encoder and decoder with gradients.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
    """

    def __init__(self, model: Any) -> None:
        self._encoder = model.model.encoder.language_model
        self.decoder = model.model.decoder
        config = model.config.text_config
        self._types: list[str] = list(config.layer_types)
        self._window: int = config.sliding_window
        self._routers = [layer.router for stack in (self._encoder, self.decoder) for layer in stack.layers]
        self.weight: Tensor = model.lm_head.weight
        self.cap = float(model.final_logit_softcapping)

    def encode(self, batch: PackedBatch) -> EncodedPrefix:
        """Run the encoder."""
        stream = self.decoder.embed_tokens(batch.ids)
        rotary = {kind: self._encoder.rotary_emb(stream, batch.positions, kind) for kind in dict.fromkeys(self._types)}
        masks = {kind: _causal(batch, self._window_of(kind)) for kind in rotary}
        found_keys, found_values = [], []
        for kind, layer in zip(self._types, self._encoder.layers, strict=True):
            query, keys, values = project_qkv(layer.self_attn, apply_norm(layer.input_layernorm, stream), rotary[kind])
            found_keys.append(keys)
            found_values.append(values)
            stream = feed_forward(
                layer, stream, layer.self_attn.o_proj(_attend(query, keys, values, masks[kind])), run_experts
            )
        visible_masks = {kind: _visible(batch, self._window_of(kind)) for kind in rotary}
        return EncodedPrefix(found_keys, found_values, visible_masks)

    def decode(self, prefix: EncodedPrefix, batch: PackedBatch, canvases: Tensor, soft: Tensor | None) -> Tensor:
        """Run the decoder.

        Args:
            prefix: output of the encoder.
            batch: the batch of the canvases.
            canvases: [B, K, C] int64, with noise.
            soft: [B, K·C, hidden], scaled mean embeddings for self-conditioning; None for none.

        Returns:
            [B, K·C, hidden], the last hidden states.
        """
        rows, count, size = canvases.shape
        embedded = self.decoder.embed_tokens(canvases.view(rows, count * size))
        stream = self.decoder.self_conditioning(embedded, torch.zeros_like(embedded) if soft is None else soft)
        positions = (batch.starts[:, :, None] + torch.arange(size, device=canvases.device)).view(rows, count * size)
        rotary = {kind: self.decoder.rotary_emb(stream, positions, kind) for kind in dict.fromkeys(self._types)}
        for number, (kind, layer) in enumerate(zip(self._types, self.decoder.layers, strict=True)):
            query, keys, values = project_qkv(layer.self_attn, apply_norm(layer.input_layernorm, stream), rotary[kind])
            keys = torch.cat([prefix.keys[number], keys], dim=2)
            values = torch.cat([prefix.values[number], values], dim=2)
            heads = _attend(query, keys, values, prefix.masks[kind])
            stream = feed_forward(layer, stream, layer.self_attn.o_proj(heads), run_experts)
        return apply_norm(self.decoder.norm, stream)

    @contextmanager
    def record_routing(self) -> Iterator[list[Tensor]]:
        """Record a balance loss for every router call inside the block; 1 is optimal.

        It is the sum over experts of the share of tokens times the mean probability, times the number of experts
        (Switch Transformer, arXiv 2101.03961).
        """
        losses: list[Tensor] = []

        def look(module: Any, inputs: Any, result: tuple[Tensor, Tensor, Tensor]) -> None:
            probabilities, _, chosen = result
            experts = probabilities.shape[-1]
            shares = torch.zeros(experts, device=probabilities.device)
            shares.index_add_(0, chosen.flatten(), torch.ones(chosen.numel(), device=probabilities.device))
            losses.append(experts * (shares / chosen.numel() * probabilities.mean(0)).sum())

        hooks = [router.register_forward_hook(look) for router in self._routers]
        try:
            yield losses
        finally:
            for hook in hooks:
                hook.remove()

    def _window_of(self, kind: str) -> int | None:
        return self._window if kind == "sliding_attention" else None


def run_experts(experts: Any, flat: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Run the experts for many tokens.

    A few experts all run for every token, in three dense products; unchosen ones get weight 0. Many experts are left to
    transformers.

    Args:
        experts: of a layer.
        flat: [N, hidden].
        chosen: [N, k] int64.
        weights: [N, k].

    Returns:
        [N, hidden].
    """
    if experts.num_experts > MAX_DENSE_EXPERTS:
        mixed: Tensor = experts(flat, chosen, weights)
        return mixed
    count, wide = experts.num_experts, experts.gate_up_proj.shape[1]
    shares = flat.new_zeros(len(flat), count, dtype=weights.dtype).scatter(1, chosen, weights)
    gate, up = linear(flat, experts.gate_up_proj.flatten(0, 1)).view(-1, count, wide).chunk(2, dim=-1)
    inner = experts.act_fn(gate) * up
    inner = inner * shares[:, :, None].to(inner.dtype)
    return linear(inner.flatten(1), experts.down_proj.transpose(0, 1).flatten(1))


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Compute attention of [B, heads, n, head_dim] with grouped keys. Return [B, n, heads · head_dim]."""
    batch, heads, count, width = query.shape
    groups = heads // keys.shape[1]
    if groups > 1:
        keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
    output = scaled_dot_product_attention(
        query, keys.to(query.dtype), values.to(query.dtype), attn_mask=mask, scale=1.0
    )
    return output.transpose(1, 2).reshape(batch, count, heads * width)


def _causal(batch: PackedBatch, window: int | None) -> Tensor:
    """Return the encoder's mask, [B, 1, S, S] bool. Padding attends to itself, because no row may be empty."""
    behind = batch.positions[:, :, None] - batch.positions[:, None, :]
    same = (batch.document_ids[:, :, None] == batch.document_ids[:, None, :]) & (batch.document_ids >= 0)[:, None, :]
    visible = same & (behind >= 0)
    if window is not None:
        visible &= behind < window
    itself = torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)
    return (visible | itself)[:, None]


def _visible(batch: PackedBatch, window: int | None) -> Tensor:
    """Return what each canvas position attends to, [B, 1, K·C, S + K·C] bool."""
    rows, count, size = batch.canvases.shape
    ahead = batch.starts[:, :, None] - batch.positions[:, None, :]
    earlier = (batch.canvas_document_ids[:, :, None] == batch.document_ids[:, None, :]) & (ahead > 0)
    earlier &= (batch.document_ids >= 0)[:, None, :]
    if window is not None:
        earlier &= ahead < window
    numbers = torch.arange(count, device=earlier.device).repeat_interleave(size)
    same = (numbers[:, None] == numbers)[None].expand(rows, -1, -1)
    return torch.cat([earlier.repeat_interleave(size, 1), same], dim=2)[:, None]
