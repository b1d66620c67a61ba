"""Attention with query heads that share keys, without copies of the keys."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def grouped_query_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float | None = None
) -> Tensor:
    """Compute attention, [B, n, heads, head_dim].

    Args:
        query: [B, heads, n, head_dim].
        keys: [B, key heads, places, head_dim].
        values: like the keys.
        mask: [B, 1, 1, places] for all queries, or [n, places] for a single row; None for no limits.
        scale: factor of the products of queries and keys; None is 1 / sqrt(head_dim).
    """
    batch, heads, count, width = query.shape
    key_heads = keys.shape[1]
    if mask is not None and mask.dim() == 2:  # query heads that share keys are a dimension, so that the mask is small
        shared = (keys[0][:, None], values[0][:, None])
        keys, values = (part.expand(-1, heads // key_heads, -1, -1) for part in shared)
        folded = query.reshape(key_heads, heads // key_heads, count, width)
    else:
        folded = query.reshape(batch, key_heads, -1, width)
    output = scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scale)
    return output.reshape(batch, heads, count, width).transpose(1, 2)
