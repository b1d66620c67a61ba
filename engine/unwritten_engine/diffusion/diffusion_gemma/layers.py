"""The layers of the model over our own KV cache: ``encode`` prefills tokens, ``decode`` denoises canvases.

Weights, norms, experts and rotary tables are those of transformers' modules; how attention finds its keys is ours. The
parts of a layer before and after attention are shared with training (``training/trainable_model.py``). In the decoder
all positions of a canvas attend to the same tokens: the cached ones and the whole canvas. Query heads that share keys
are therefore folded into the query positions, which gives grouped-query attention without copies of the keys.

Masks and positions are computed on the device, and nothing is read by the host.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from ..attention import grouped_query_attention
from ..token_chunk import TokenChunk
from ..tokenization.image_processor import ImagePatches
from .kv_cache import KVCache


class DiffusionGemmaLayers:
    """Encoder and decoder of one model over one KV cache.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        cache: the cache.
    """

    def __init__(self, model: Any, cache: KVCache) -> None:
        self.cache = cache
        self._model = model
        self._encoder = model.model.encoder.language_model
        self._decoder = model.model.decoder
        self._types: list[str] = list(model.config.text_config.layer_types)
        self._causal = model.config.text_config.use_bidirectional_attention != "all"
        self.device = self._decoder.embed_tokens.weight.device

    def embed(self, ids: Tensor) -> Tensor:
        """Return scaled embeddings, [..., hidden]."""
        embedded: Tensor = self._decoder.embed_tokens(ids)
        return embedded

    def embed_images(self, images: ImagePatches) -> tuple[Tensor, Tensor]:
        """Embed a prompt with images.

        Returns:
            Embeddings, [tokens, hidden], and the image index of each token or -1, [tokens] int64.
        """
        ids = images.input_ids.to(self.device)
        embeddings = self.embed(ids)
        features = self._model.model.encoder.get_image_features(
            images.pixel_values.to(self.device, embeddings.dtype),
            images.image_position_ids.to(self.device),
            return_dict=True,
        ).pooler_output
        is_image = images.mm_token_type_ids.to(self.device) == 1
        embeddings = embeddings.masked_scatter(is_image[..., None], features.to(embeddings.dtype))
        flags = is_image[0].long()
        starts = flags - torch.cat([flags.new_zeros(1), flags[:-1]]) == 1
        image_indices = torch.where(is_image[0], starts.cumsum(0) - 1, -1)
        if self._model.config.text_config.use_bidirectional_attention != "vision":
            image_indices = torch.full_like(image_indices, -1)
        return embeddings[0], image_indices

    def encode(self, *chunks: TokenChunk) -> None:
        """Prefill tokens into rows, all in one pass; each token attends to those before it in its row."""
        bounds = list(itertools.accumulate((len(chunk.ids) for chunk in chunks), initial=0))
        parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
        stream = torch.cat(
            [self.embed(chunk.ids) if chunk.embeddings is None else chunk.embeddings for chunk in chunks]
        )[None]
        positions = torch.cat(
            [torch.arange(chunk.start, chunk.start + len(chunk.ids), device=self.device) for chunk in chunks]
        )
        rotary = self._rotary(self._encoder, stream, positions[None])
        masks = {kind: [self._mask(self._types.index(kind), chunk) for chunk in chunks] for kind in rotary}
        for number, layer in enumerate(self._encoder.layers):
            attention, kind = layer.self_attn, self._types[number]
            query, keys, values = project_qkv(attention, apply_norm(layer.input_layernorm, stream), rotary[kind])
            heads = torch.cat(
                [
                    self._attend_chunk(number, chunk, query[:, :, part], keys[0, :, part], values[0, :, part], mask)
                    for chunk, part, mask in zip(chunks, parts, masks[kind], strict=True)
                ],
                dim=1,
            )
            del query, keys, values  # the experts need memory
            heads = attention.o_proj(heads.flatten(2))
            stream = feed_forward(layer, stream, heads)

    def _attend_chunk(
        self, layer: int, chunk: TokenChunk, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> Tensor:
        """Attend to the row's tokens and the new ones, and store the new ones. Return [1, n, heads, head_dim]."""
        cache, end = self.cache, chunk.start + len(chunk.ids)
        if end <= cache.places[layer]:  # in the order of tokens: attention reads them where they are
            cache.write(layer, chunk.row, chunk.start, keys, values)
            keys, values = cache.past(layer, chunk.row, end)
            return grouped_query_attention(query, keys[None], values[None], mask, scale=1.0)
        old_keys, old_values = cache.past(layer, chunk.row, chunk.start)
        heads = grouped_query_attention(
            query,
            torch.cat([old_keys, keys], dim=1)[None],
            torch.cat([old_values, values], dim=1)[None],
            mask,
            scale=1.0,
        )
        cache.write(layer, chunk.row, chunk.start, keys, values)
        return heads

    def decode(
        self, canvases: Tensor, soft_embeddings: Tensor, lengths: Tensor, max_length: int, padded: bool
    ) -> Tensor:
        """Run the decoder once over canvases.

        Args:
            canvases: [B, C] int64, of the rows 0 to B - 1.
            soft_embeddings: [B, C, hidden], mean embeddings of the previous step for self-conditioning; zeros in the
                first.
            lengths: [B] int64, tokens that each row holds.
            max_length: the largest of ``lengths``, or more.
            padded: whether some row holds fewer than ``max_length`` tokens.

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
            num_keys = size + min(max_length, self.cache.places[number])
            all_keys, all_values = self.cache.keys[number], self.cache.values[number]
            all_keys[:count, :, :size] = keys
            all_values[:count, :, :size] = values
            heads = grouped_query_attention(
                query,
                all_keys[:count, :, :num_keys],
                all_values[:count, :, :num_keys],
                masks[self._types[number]],
                scale=1.0,
            )
            del query, keys, values  # the experts need memory
            heads = attention.o_proj(heads.flatten(2))
            stream = feed_forward(layer, stream, heads)
        return apply_norm(self._decoder.norm, stream)

    def _rotary(self, module: Any, hidden: Tensor, positions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        return {kind: module.rotary_emb(hidden, positions, kind) for kind in dict.fromkeys(self._types)}

    def _visible(self, layer: int, lengths: Tensor, num_keys: int) -> Tensor:
        """Return a mask of the canvas and the occupied places, [B, 1, 1, places] bool."""
        num_cached = min(num_keys, self.cache.places[layer])
        cached = torch.arange(num_cached, device=self.device) < lengths[:, None]
        canvas = torch.ones((len(lengths), self.cache.block_length), dtype=torch.bool, device=self.device)
        return torch.cat([canvas, cached], dim=1)[:, None, None]

    def _mask(self, layer: int, chunk: TokenChunk) -> Tensor:
        """Return which cached and new tokens each new token attends to, [n, places + n] bool.

        Only comparisons have this shape: at 32,768 tokens a difference of positions would take 8 times the memory.
        """
        count = len(chunk.ids)
        new = torch.arange(chunk.start, chunk.start + count, device=self.device)
        keys = torch.cat([self.cache.positions(layer, chunk.start, self.device), new])
        new = new[:, None]
        reach = self.cache.window if self.cache.sliding[layer] else chunk.start + count
        mask = keys <= new if self._causal else keys < new + reach
        if self.cache.sliding[layer]:
            mask &= keys > new - reach
        if chunk.image_indices is not None:
            mask[:, -count:] |= (chunk.image_indices[:, None] == chunk.image_indices) & (chunk.image_indices >= 0)
        return mask


def apply_norm(norm: Any, stream: Tensor) -> Tensor:
    """Apply an RMS norm in one kernel. The module itself uses six, and a layer has a dozen norms."""
    weight = getattr(norm, "weight", None)
    if weight is not None and weight.dtype != stream.dtype:  # in training: float32 weights, bfloat16 activations
        weight = weight.to(stream.dtype)
    return rms_norm(stream, stream.shape[-1:], weight, norm.eps)


def project_qkv(attention: Any, stream: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, each [B, heads, n, head_dim]."""
    shape = (*stream.shape[:-1], -1, attention.head_dim)
    raw = attention.k_proj(stream).view(shape)
    query = _rotated(apply_norm(attention.q_norm, attention.q_proj(stream).view(shape)), rotary)
    keys = _rotated(apply_norm(attention.k_norm, raw), rotary)
    # Layers with full attention have no value projection: they use the keys before norm and rotation.
    values = apply_norm(attention.v_norm, raw if attention.v_proj is None else attention.v_proj(stream).view(shape))
    return query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)


def _rotated(heads: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary position embeddings to [B, n, heads, head_dim]."""
    cos, sin = (part[:, :, None] for part in rotary)
    first, second = heads.chunk(2, dim=-1)
    return (heads * cos).add_(torch.cat((-second, first), dim=-1).mul_(sin))


def _run_experts(experts: Any, flat: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Run the experts with transformers' implementation."""
    mixed: Tensor = experts(flat, chosen, weights)
    return mixed


def feed_forward(layer: Any, stream: Tensor, attended: Tensor, mix: Callable[..., Tensor] = _run_experts) -> Tensor:
    """Run a layer after its attention: the dense MLP and the experts, in parallel.

    Args:
        layer: of the model.
        stream: [..., hidden], the residual stream before the attention.
        attended: [..., hidden], output of the attention.
        mix: runs the experts on [N, hidden] with their indices and weights, each [N, k].
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
