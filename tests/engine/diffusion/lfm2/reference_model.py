"""LFM2 diffusion as a plain forward pass over the whole sequence, without any cache. Tests compare ours with it.

The layers are transformers' own LFM2 layers with the same weights. The conditioning around them is written out from its
definition, and the masks state what each token sees. The call signature is that of the public sampler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Lfm2Config as BackboneConfig
from transformers.models.lfm2.modeling_lfm2 import Lfm2DecoderLayer, Lfm2RMSNorm, Lfm2RotaryEmbedding


class ReferenceModel(nn.Module):
    """The model of a ``config.json`` and its tensors.

    Args:
        config: contents of the ``config.json``.
        weights: all tensors by name.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        own = ("architectures", "model_type")
        make: Any = BackboneConfig
        backbone = make(**{key: value for key, value in config.items() if key not in own})
        backbone._attn_implementation = "sdpa"
        hidden, condition = backbone.hidden_size, config["sigma_cond_dim"]
        self.model: Any = nn.Module()
        self.model.embed_tokens = nn.Embedding(backbone.vocab_size, hidden)
        self.model.layers = nn.ModuleList(
            [Lfm2DecoderLayer(backbone, number) for number in range(backbone.num_hidden_layers)]
        )
        self.model.embedding_norm = Lfm2RMSNorm(hidden, eps=backbone.norm_eps)
        self.model.sigma_embed = nn.Module()
        self.model.sigma_embed.mlp = nn.Sequential(
            nn.Linear(config["sigma_freq_embedding_size"], condition), nn.SiLU(), nn.Linear(condition, condition)
        )
        self.model.adaln_proj = nn.Sequential(nn.SiLU(), nn.Linear(condition, 3 * hidden))
        self.model.adaln_block_emb = nn.Parameter(torch.zeros(backbone.num_hidden_layers, 3 * hidden))
        self.model.selfcond_norm = Lfm2RMSNorm(hidden, eps=backbone.norm_eps)
        self.model.selfcond_ffn = nn.Sequential(
            nn.Linear(hidden, hidden, bias=config["selfcond_ffn_bias"]),
            nn.SiLU(),
            nn.Linear(hidden, hidden, bias=False),
        )
        dtype = next(iter(weights.values())).dtype
        if dtype == torch.float64:
            _use_exact_norms(self)
        self.to(dtype)
        self.load_state_dict(dict(weights))
        self.rotary = Lfm2RotaryEmbedding(config=backbone)
        self.eval().requires_grad_(False)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the token embeddings."""
        embeddings: nn.Embedding = self.model.embed_tokens
        return embeddings

    @torch.no_grad()
    def forward(
        self,
        input_ids: Tensor,
        sigma: Tensor,
        block_start: int,
        position_ids: Tensor,
        logits_index: Tensor | None = None,
        use_cache: bool = False,
        selfcond_input: Tensor | None = None,
        selfcond_pos_mask: Tensor | None = None,
    ) -> Any:
        """Return ``logits`` at ``logits_index`` and all ``hidden_states``.

        Tokens before ``block_start`` see those before them; the others see all tokens.
        """
        assert not use_cache
        stack = self.model
        stream = stack.embed_tokens(input_ids)
        if selfcond_input is not None:
            soft = stack.selfcond_ffn(stack.selfcond_norm(selfcond_input.to(stream.dtype)))
            if selfcond_pos_mask is not None:
                soft = soft * selfcond_pos_mask[..., None].to(soft.dtype)
            stream = stream + soft
        length = input_ids.shape[1]
        sees = torch.ones(length, length, dtype=torch.bool).tril()
        sees[block_start:] = True
        base = stack.adaln_proj(stack.sigma_embed.mlp(self._frequencies(sigma).to(stream.dtype)))
        positions = self.rotary(stream, position_ids)
        for number, layer in enumerate(stack.layers):
            scale, shift, gate = (base + stack.adaln_block_emb[number]).chunk(3, dim=-1)
            modulated = stream * (1 + scale) + shift
            output = layer(
                modulated,
                position_embeddings=positions,
                attention_mask=sees[None, None] if layer.is_attention_layer else None,
            )
            stream = stream + (1 + gate) * (output - modulated)
        stream = stack.embedding_norm(stream)
        chosen = stream
        if logits_index is not None:
            chosen = stream.gather(1, logits_index[..., None].expand(-1, -1, stream.shape[-1]))
        return SimpleNamespace(logits=chosen @ stack.embed_tokens.weight.T, hidden_states=stream)

    def _frequencies(self, sigma: Tensor) -> Tensor:
        half = self.config.sigma_freq_embedding_size // 2
        periods = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
        angles = sigma[..., None].float() * periods
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _use_exact_norms(module: nn.Module) -> None:
    """Replace transformers' norms, which round to float32."""
    for name, child in module.named_children():
        if isinstance(child, Lfm2RMSNorm):
            setattr(module, name, nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon))
        else:
            _use_exact_norms(child)
