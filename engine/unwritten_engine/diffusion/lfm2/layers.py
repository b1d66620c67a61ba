"""The layers of LFM2 diffusion over our own cache: ``encode`` fills rows with tokens, ``denoise`` runs blocks.

Prompt and finished blocks are clean: their noise level is 0 and each token sees only those before it. A block that is
denoised sees everything before it and all of itself; its convolutions stay causal and continue those of the tokens
before it. Every layer is modulated by the noise level of each token, that of clean tokens included.

Modules only hold weights, under the names of the checkpoint. Masks and positions are computed on the device, and
nothing is read by the host, so that a step can be captured in a CUDA graph.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..attention import grouped_query_attention
from ..token_chunk import TokenChunk
from ..tokenization.image_processor import ImagePatches
from .cache import Lfm2Cache
from .config import Lfm2Config

_MAX_PERIOD = 10_000


class Attention(nn.Module):
    """Weights of grouped-query attention with norms of queries and keys."""

    def __init__(self, config: Lfm2Config) -> None:
        super().__init__()
        hidden, head = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(hidden, config.num_heads * head, bias=False)
        self.k_proj = nn.Linear(hidden, config.num_kv_heads * head, bias=False)
        self.v_proj = nn.Linear(hidden, config.num_kv_heads * head, bias=False)
        self.out_proj = nn.Linear(config.num_heads * head, hidden, bias=False)
        self.q_layernorm = nn.RMSNorm(head, config.norm_eps)
        self.k_layernorm = nn.RMSNorm(head, config.norm_eps)


class ShortConv(nn.Module):
    """Weights of a gated short convolution."""

    def __init__(self, config: Lfm2Config) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.in_proj = nn.Linear(hidden, 3 * hidden, bias=config.conv_bias)
        self.conv = nn.Conv1d(hidden, hidden, config.conv_taps, groups=hidden, bias=config.conv_bias)
        self.out_proj = nn.Linear(hidden, hidden, bias=config.conv_bias)

    def convolve(self, inputs: Tensor) -> Tensor:
        """Return the causal convolution, [..., n, hidden], of inputs preceded by taps - 1 earlier ones."""
        weight = self.conv.weight[:, 0]  # [hidden, taps]
        taps = weight.shape[1]
        count = inputs.shape[-2] - taps + 1
        output = inputs[..., :count, :] * weight[:, 0]
        for tap in range(1, taps):
            output = torch.addcmul(output, inputs[..., tap : tap + count, :], weight[:, tap])
        return output if self.conv.bias is None else output + self.conv.bias


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: Lfm2Config) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.w3 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """Return the output, [..., hidden]."""
        output: Tensor = self.w2(silu(self.w1(stream)) * self.w3(stream))
        return output


class Layer(nn.Module):
    """Weights of one layer: attention or a convolution, then feed-forward."""

    def __init__(self, config: Lfm2Config, kind: str) -> None:
        super().__init__()
        if kind == "full_attention":
            self.self_attn = Attention(config)
        else:
            self.conv = ShortConv(config)
        self.feed_forward = FeedForward(config)
        self.operator_norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.ffn_norm = nn.RMSNorm(config.hidden_size, config.norm_eps)


class SigmaEmbedding(nn.Module):
    """Embeds noise levels: sines and cosines, then two linear layers."""

    def __init__(self, config: Lfm2Config) -> None:
        super().__init__()
        size = config.condition_size
        self.mlp = nn.Sequential(nn.Linear(config.frequency_size, size), nn.SiLU(), nn.Linear(size, size))
        self._half = config.frequency_size // 2

    def forward(self, sigma: Tensor) -> Tensor:
        """Return the embedding, [..., condition size]."""
        steps = torch.arange(self._half, dtype=torch.float32, device=sigma.device)
        angles = sigma.float()[..., None] * torch.exp(steps * (-math.log(_MAX_PERIOD) / self._half))
        first = self.mlp[0]
        assert isinstance(first, nn.Linear)
        embedded: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(first.weight.dtype))
        return embedded


class Lfm2Model(nn.Module):
    """Weights of a model, under their names in a checkpoint without the leading ``model.``."""

    def __init__(self, config: Lfm2Config) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, hidden)
        self.layers = nn.ModuleList([Layer(config, kind) for kind in config.layer_types])
        self.embedding_norm = nn.RMSNorm(hidden, config.norm_eps)
        self.sigma_embed = SigmaEmbedding(config)
        self.adaln_proj = nn.Sequential(nn.SiLU(), nn.Linear(config.condition_size, 3 * hidden))
        self.adaln_block_emb = nn.Parameter(torch.zeros(len(config.layer_types), 3 * hidden))
        self.selfcond_norm = nn.RMSNorm(hidden, config.norm_eps)
        self.selfcond_ffn = nn.Sequential(
            nn.Linear(hidden, hidden, bias=config.selfcond_bias), nn.SiLU(), nn.Linear(hidden, hidden, bias=False)
        )


class Lfm2DiffusionModel:
    """The forward passes of one model over one cache.

    Args:
        model: its weights.
        cache: the cache.
    """

    def __init__(self, model: Lfm2Model, cache: Lfm2Cache) -> None:
        self.cache, self.config = cache, model.config
        self._model = model
        self.device = model.embed_tokens.weight.device
        head = self.config.head_dim
        exponents = torch.arange(0, head, 2, dtype=torch.float32, device=self.device) / head
        self._frequencies = 1.0 / self.config.rope_theta**exponents
        numbers = {"full_attention": itertools.count(), "conv": itertools.count()}
        self._numbers = [next(numbers[kind]) for kind in self.config.layer_types]
        """Of each layer among those of its kind, which is its place in the cache."""

    @property
    def embeddings(self) -> Tensor:
        """[real tokens, hidden], which are also the weights of the output."""
        return self._model.embed_tokens.weight[: self.config.real_vocab_size]

    def embed_images(self, images: ImagePatches) -> tuple[Tensor, Tensor]:
        """Not called: the family has no images."""
        raise NotImplementedError

    def encode(self, *chunks: TokenChunk) -> None:
        """Add clean tokens to rows, all in one pass; each token sees those before it in its row.

        Nothing of a row changes before the pass has succeeded, except places after its tokens: it can be repeated.
        """
        bounds = list(itertools.accumulate((len(chunk.ids) for chunk in chunks), initial=0))
        parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
        conv_inputs = [self.cache.begin(chunk.row, chunk.start, len(chunk.ids)) for chunk in chunks]
        positions = torch.cat(
            [torch.arange(chunk.start, chunk.start + len(chunk.ids), device=self.device) for chunk in chunks]
        )
        masks = [self._causal_mask(chunk.start, len(chunk.ids)) for chunk in chunks]
        stream = self._model.embed_tokens(torch.cat([chunk.ids for chunk in chunks]))[None]
        rotary = self._rotary(positions[None], stream.dtype)

        def attend(number: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            heads = []
            for chunk, part, mask in zip(chunks, parts, masks, strict=True):
                own_keys, own_values = self.cache.write(
                    number, chunk.row, chunk.start, keys[0, :, part], values[0, :, part]
                )
                heads.append(grouped_query_attention(query[:, :, part], own_keys[None], own_values[None], mask))
            return torch.cat(heads, dim=1)

        def convolve(number: int, conv: ShortConv, inputs: Tensor) -> Tensor:
            outputs = []
            for own, part in zip(conv_inputs, parts, strict=True):
                extended = torch.cat([own[number], inputs[0, part]])
                own[number] = extended[-own.shape[1] :]
                outputs.append(conv.convolve(extended))
            return torch.cat(outputs)[None]

        self._run_layers(stream, torch.zeros((1, 1), device=self.device), rotary, attend, convolve)
        for chunk, own in zip(chunks, conv_inputs, strict=True):
            self.cache.finish(chunk.row, chunk.start + len(chunk.ids), own)

    def denoise(
        self,
        tokens: Tensor,
        soft_embeddings: Tensor,
        has_soft: Tensor,
        sigma: Tensor,
        lengths: Tensor,
        max_length: int,
        padded: bool,
    ) -> Tensor:
        """Run the model once over the blocks of the first rows. Changes only the cache's places for blocks.

        Args:
            tokens: [B, block] int64, of the rows 0 to B - 1.
            soft_embeddings: [B, block, hidden], mean embeddings of the previous step.
            has_soft: [B] bool, whether a row has a previous step. Clean tokens have no self-conditioning in any case.
            sigma: [B, block], noise level of each token; 0 for clean tokens.
            lengths: [B] int64, tokens that each row holds.
            max_length: the largest of ``lengths``, or more.
            padded: whether some row holds fewer than ``max_length`` tokens.

        Returns:
            [B, block, hidden], the last hidden states.
        """
        count, size = tokens.shape
        stream = self._model.embed_tokens(tokens)
        soft = self._model.selfcond_ffn(self._model.selfcond_norm(soft_embeddings))
        stream = stream + torch.where((has_soft[:, None] & (sigma > 0))[..., None], soft, 0.0)
        rotary = self._rotary(lengths[:, None] + torch.arange(size, device=self.device), stream.dtype)
        mask = self._visible(lengths, max_length) if padded else None
        blocks = self.cache.keys_values[:, :, :count, :, : size + max_length]
        # An empty row may still have the inputs of an earlier sequence.
        earlier = torch.where((lengths > 0)[:, None, None], self.cache.conv_inputs[:, :count], 0.0)

        def attend(number: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            all_keys, all_values = blocks[number]
            all_keys[:, :, :size] = keys
            all_values[:, :, :size] = values
            return grouped_query_attention(query, all_keys, all_values, mask)

        def convolve(number: int, conv: ShortConv, inputs: Tensor) -> Tensor:
            return conv.convolve(torch.cat([earlier[number], inputs], dim=1))

        return self._run_layers(stream, sigma, rotary, attend, convolve)

    def _run_layers(
        self,
        stream: Tensor,
        sigma: Tensor,
        rotary: tuple[Tensor, Tensor],
        attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
        convolve: Callable[[int, ShortConv, Tensor], Tensor],
    ) -> Tensor:
        """Run all layers and the last norm.

        Args:
            stream: [B, n, hidden], the embedded tokens.
            sigma: [B, n] noise levels, or [1, 1] for all.
            rotary: cosines and sines of the positions.
            attend: gets the number of an attention layer, queries, keys and values; returns [B, n, heads, head_dim].
            convolve: gets the number of a convolution layer, its weights and its inputs; returns [B, n, hidden].
        """
        model = self._model
        base = model.adaln_proj(model.sigma_embed(sigma))
        for layer, own, number in zip(model.layers, model.adaln_block_emb, self._numbers, strict=True):
            assert isinstance(layer, Layer)
            scale, shift, gate = (base + own).chunk(3, dim=-1)
            modulated = stream * (1 + scale) + shift
            normed = layer.operator_norm(modulated)
            if hasattr(layer, "self_attn"):
                attention = layer.self_attn
                heads = attend(number, *_project(attention, normed, rotary))
                mixed = attention.out_proj(heads.flatten(2))
            else:
                before, after, values = layer.conv.in_proj(normed).chunk(3, dim=-1)
                mixed = layer.conv.out_proj(after * convolve(number, layer.conv, before * values))
            # What the layer adds to its input is the sum of its two branches.
            added = mixed + layer.feed_forward(layer.ffn_norm(modulated + mixed))
            stream = torch.addcmul(stream, 1 + gate, added)
        last: Tensor = model.embedding_norm(stream)
        return last

    def _rotary(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each [B, n, 1, head_dim]."""
        angles = positions[..., None].float() * self._frequencies
        angles = torch.cat([angles, angles], dim=-1)[:, :, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _visible(self, lengths: Tensor, max_length: int) -> Tensor:
        """Return a mask of the block and the occupied places, [B, 1, 1, places] bool."""
        places = torch.arange(-self.cache.block_length, max_length, device=self.device)
        return (places < lengths[:, None])[:, None, None]

    def _causal_mask(self, start: int, count: int) -> Tensor:
        """Return which cached and new tokens each new token sees, [count, start + count] bool."""
        positions = torch.arange(start + count, device=self.device)
        return positions <= positions[start:, None]


def _project(attention: Attention, stream: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, each [B, heads, n, head_dim]."""
    shape = (*stream.shape[:-1], -1, rotary[0].shape[-1])
    query = _rotated(attention.q_layernorm(attention.q_proj(stream).view(shape)), rotary)
    keys = _rotated(attention.k_layernorm(attention.k_proj(stream).view(shape)), rotary)
    values = attention.v_proj(stream).view(shape)
    return query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)


def _rotated(heads: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary position embeddings to [B, n, heads, head_dim]."""
    first, second = heads.chunk(2, dim=-1)
    return heads * rotary[0] + torch.cat((-second, first), dim=-1) * rotary[1]
