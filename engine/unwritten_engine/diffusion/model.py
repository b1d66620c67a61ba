"""The layers of the model over our own caches: ``encode`` reads tokens into a row, ``decode`` looks at canvases.

Weights, norms, experts and rotary tables are those of transformers' modules; how attention finds its keys is ours. What
a layer does before and after its attention is written once, for this and for training (``training/trunk.py``).
In the decoder every position of a canvas sees the same tokens, the kept ones and the whole canvas, so query heads
that share keys are laid one after another as if they were more positions: grouped attention without copies of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from .kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """Tokens to be read into a row.

    Attributes:
        row: of the cache.
        start: how many tokens the row holds already.
        ids: [n] int64 tokens.
        embeddings: [n, hidden] in place of the tokens' own, where there are pictures among them; else None.
        blocks: [n] int64, equal and not negative for tokens of one picture, which see each other; else None.
    """

    row: int
    start: int
    ids: Tensor
    embeddings: Tensor | None = None
    blocks: Tensor | None = None


class DiffusionModel:
    """Encoder and decoder of one model over one cache.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        kv: the cache.
    """

    def __init__(self, model: Any, kv_cache: KVCache) -> None:
        self.kv_cache = kv_cache
        self._encoder = model.model.encoder.language_model
        self._decoder = model.model.decoder
        self._types: list[str] = list(model.config.text_config.layer_types)
        self._causal = model.config.text_config.use_bidirectional_attention != "all"
        self.device = self._decoder.embed_tokens.weight.device

    def embed(self, ids: Tensor) -> Tensor:
        """Scaled embeddings, [..., hidden]."""
        embedded: Tensor = self._decoder.embed_tokens(ids)
        return embedded

    def encode(self, piece: TokenChunk) -> None:
        """Read tokens into a row, each seeing those before it."""
        count, end = len(piece.ids), piece.start + len(piece.ids)
        stream = (piece.embeddings if piece.embeddings is not None else self.embed(piece.ids))[None]
        rotary = self._rotary(self._encoder, stream, torch.arange(piece.start, end, device=self.device)[None])
        masks = {kind: self._mask(number, piece) for number, kind in enumerate(self._types) if kind in rotary}
        for number, layer in enumerate(self._encoder.layers):
            attention = layer.self_attn
            query, keys, values = project_qkv(
                attention, apply_norm(layer.input_layernorm, stream), rotary[self._types[number]]
            )
            old_keys, old_values = self.kv_cache.past(number, piece.row, piece.start)
            seen_keys = torch.cat([old_keys[None], keys], dim=2)
            seen_values = torch.cat([old_values[None], values], dim=2)
            heads = _attend(query, seen_keys, seen_values, masks[self._types[number]])
            self.kv_cache.write(number, piece.row, piece.start, keys[0], values[0])
            stream = feed_forward(layer, stream, attention.o_proj(heads.reshape(1, count, -1)))

    def decode(
        self, canvases: Tensor, soft_embeddings: Tensor, lengths: Tensor, max_length: int, padded: bool
    ) -> Tensor:
        """Look at canvases once.

        Args:
            canvases: [B, C] int64, of the rows 0 to B - 1.
            soft: [B, C, hidden], mean embeddings of the step before; zeros in the first.
            lengths: [B] int64, tokens that each row holds.
            seen: the largest of ``lengths``, or more.
            padded: whether some row holds fewer than ``seen`` tokens.

        Returns:
            [B, C, hidden], the last hidden states.
        """
        count, size = canvases.shape
        stream = self._decoder.self_conditioning(self.embed(canvases), soft_embeddings)
        rotary = self._rotary(self._decoder, stream, lengths[:, None] + torch.arange(size, device=self.device))
        masks = {}
        for number, kind in enumerate(self._types):
            if kind not in masks:
                masks[kind] = self._visible(number, lengths, max_length) if padded else None
        for number, layer in enumerate(self._decoder.layers):
            attention = layer.self_attn
            query, keys, values = project_qkv(
                attention, apply_norm(layer.input_layernorm, stream), rotary[self._types[number]]
            )
            places = size + min(max_length, self.kv_cache.places[number])
            all_keys, all_values = self.kv_cache.keys[number], self.kv_cache.values[number]
            all_keys[:count, :, :size] = keys
            all_values[:count, :, :size] = values
            heads = _attend(
                query, all_keys[:count, :, :places], all_values[:count, :, :places], masks[self._types[number]]
            )
            stream = feed_forward(layer, stream, attention.o_proj(heads.reshape(count, size, -1)))
        return apply_norm(self._decoder.norm, stream)

    def _rotary(self, module: Any, like: Tensor, positions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        return {kind: module.rotary_emb(like, positions, kind) for kind in dict.fromkeys(self._types)}

    def _visible(self, layer: int, lengths: Tensor, seen: int) -> Tensor:
        """[B, 1, 1, places] bool: the canvas, and the places that hold tokens."""
        places = min(seen, self.kv_cache.places[layer])
        kept = torch.arange(places, device=self.device) < lengths[:, None]
        canvas = torch.ones((len(lengths), self.kv_cache.canvas), dtype=torch.bool, device=self.device)
        return torch.cat([canvas, kept], dim=1)[:, None, None]

    def _mask(self, layer: int, piece: TokenChunk) -> Tensor:
        """[n, places + n] bool: what each new token sees of the kept ones and of the new ones."""
        count = len(piece.ids)
        new = torch.arange(piece.start, piece.start + count)
        places = torch.cat([self.kv_cache.positions(layer, piece.start), new])
        behind = new[:, None] - places
        mask = behind >= 0 if self._causal else torch.ones_like(behind, dtype=torch.bool)
        if self.kv_cache.sliding[layer]:
            mask &= behind < self.kv_cache.window if self._causal else behind.abs() < self.kv_cache.window
        if piece.blocks is not None:
            blocks = piece.blocks.cpu()
            same = (blocks[:, None] == blocks) & (blocks[:, None] >= 0)
            mask[:, -count:] |= same
        return mask.to(self.device)


def apply_norm(norm: Any, stream: Tensor) -> Tensor:
    """A norm in one kernel; the module itself takes six, and a layer has a dozen norms."""
    weight = getattr(norm, "weight", None)
    if weight is not None and weight.dtype != stream.dtype:  # in training: products in bfloat16, weights in float32
        weight = weight.to(stream.dtype)
    return rms_norm(stream, stream.shape[-1:], weight, norm.eps)


def project_qkv(attention: Any, stream: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each [B, heads, n, width]."""
    shape = (*stream.shape[:-1], -1, attention.head_dim)
    raw = attention.k_proj(stream).view(shape)
    query = _rotated(apply_norm(attention.q_norm, attention.q_proj(stream).view(shape)), rotary)
    keys = _rotated(apply_norm(attention.k_norm, raw), rotary)
    # Layers with full attention have no projection for values: keys before norm and rotation serve as such.
    values = apply_norm(attention.v_norm, raw if attention.v_proj is None else attention.v_proj(stream).view(shape))
    return query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)


def _rotated(heads: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding of [B, n, heads, width]."""
    cos, sin = (part[:, :, None] for part in rotary)
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat((-second, first), dim=-1) * sin


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention, [B, n, heads, width]. The mask is [n, places], or [B, 1, 1, places], the same for all queries."""
    batch, heads, count, width = query.shape
    groups = heads // keys.shape[1]
    folded = query.reshape(batch, keys.shape[1], groups * count, width)
    if mask is not None and mask.dim() == 2:
        mask = mask.repeat(groups, 1)
    found = scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=1.0)
    return found.reshape(batch, heads, count, width).transpose(1, 2)


def _own(experts: Any, flat: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Experts as transformers computes them."""
    mixed: Tensor = experts(flat, chosen, weights)
    return mixed


def feed_forward(layer: Any, stream: Tensor, attended: Tensor, mix: Callable[..., Tensor] = _own) -> Tensor:
    """A layer after its attention: the dense part and the experts, side by side.

    Args:
        layer: of the model.
        stream: [..., hidden], before the attention.
        attended: [..., hidden], what it gave.
        mix: computes the experts: given them, [N, hidden], and [N, k] which and how much.
    """
    stream = stream + apply_norm(layer.post_attention_layernorm, attended)
    dense = apply_norm(
        layer.post_feedforward_layernorm_1, layer.mlp(apply_norm(layer.pre_feedforward_layernorm, stream))
    )
    flat = stream.reshape(-1, stream.shape[-1])
    _, weights, chosen = layer.router(flat)
    mixed = mix(layer.experts, apply_norm(layer.pre_feedforward_layernorm_2, flat), chosen, weights).reshape(
        stream.shape
    )
    joined = apply_norm(layer.post_feedforward_layernorm, dense + apply_norm(layer.post_feedforward_layernorm_2, mixed))
    scaled: Tensor = (stream + joined) * layer.layer_scalar
    return scaled


def to_tensor(ids: Sequence[int], device: torch.device) -> Tensor:
    """Ids as a tensor on the device."""
    return torch.tensor(ids, dtype=torch.int64, device=device)
