"""From hidden states to tokens, entropies and self-conditioning, in one pass over the vocabulary.

A step rule needs the most likely token, one sample, the entropy and the mean embedding of each position's distribution
over the vocabulary, 262,144 tokens in DiffusionGemma. A direct implementation has several temporaries of [positions,
vocabulary], each larger than any cache. Here the vocabulary is processed in chunks with running maxima, as in flash
attention: the logits of a chunk are computed and reduced while they are in the cache.

Samples are drawn by inverting the cumulative distribution with one uniform number per position. The pass only stores
the mass of blocks of 64 tokens; then the block of the number is found and its 64 logits are computed again. Drawing one
number per token, like ``torch.multinomial``, would take longer than everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from .loading.memory_plan import DRAW_TILE, VOCAB_BLOCK, chunk_on_gpu

CHUNK: Final = {"cpu": 2048}
"""Tokens of the vocabulary at a time, by device type. On a CPU, 256 positions are 2 MB, which fit in the cache."""
TILE: Final = 512
"""Positions at a time on a CPU; more would not fit in the cache."""
_NEGATIVE: Final = -1e30
"""Used instead of minus infinity, which would give nan."""


@dataclass(frozen=True, slots=True)
class OutputHead:
    """Computes logits from hidden states.

    A table that is padded beyond the real tokens is given as slices of its first rows.

    Attributes:
        weight: [vocabulary, hidden], output weights, tied to the embeddings.
        embeddings: [vocabulary, hidden], for the mean embedding.
        scale: scale of the embeddings.
        cap: logits are soft-capped to [-cap, cap]; None leaves them as they are.
    """

    weight: Tensor
    embeddings: Tensor
    scale: float
    cap: float | None

    @property
    def vocabulary(self) -> int:
        """Size of the vocabulary."""
        return self.weight.shape[0]


@dataclass(frozen=True, slots=True)
class TokenConstraints:
    """Allowed tokens at positions of canvases with a schema.

    Attributes:
        mask_ids: [N] int64, the row of ``masks`` for each position.
        masks: [rows, vocabulary] bool; row 0 allows everything.
    """

    mask_ids: Tensor
    masks: Tensor


@dataclass(frozen=True, slots=True)
class SamplerOutput:
    """Results at N positions.

    Attributes:
        best: [N] int64, the most likely token (the first of equals); -1 if the distribution is not a number.
        sampled: [N] int64, a sampled token.
        entropy: [N] float32, entropy of the distribution in nats.
        soft_embeddings: [N, hidden] in the dtype of the embeddings, the scaled mean embedding.
        present_probability: [N] float32, the probability of the ``present`` tokens; None if none were given.
    """

    best: Tensor
    sampled: Tensor
    entropy: Tensor
    soft_embeddings: Tensor
    present_probability: Tensor | None = None


def sample(
    hidden: Tensor,
    head: OutputHead,
    temperature: Tensor,
    uniform: Tensor,
    *,
    present: Tensor | None = None,
    constraints: TokenConstraints | None = None,
    top_k: int | None = None,
    chunk: int | None = None,
) -> SamplerOutput:
    """Sample tokens in one pass over the vocabulary. Nothing is read back to the host.

    Args:
        hidden: [N, hidden], the last hidden states.
        head: computes the logits.
        temperature: [N] float32, divides the logits.
        uniform: [N] float32 in [0, 1), where the cumulative distribution is inverted.
        present: [N] int64, tokens whose probability is wanted; it is 0 for tokens that are not allowed.
        constraints: allowed tokens; None allows all.
        top_k: use only the k most likely tokens for the mean embedding, with renormalized probabilities.
        chunk: tokens of the vocabulary at a time, a multiple of ``VOCAB_BLOCK``; None chooses by device and positions.
    """
    if hidden.device.type == "cpu" and hidden.shape[0] > TILE:
        rows = (temperature, uniform) if present is None else (temperature, uniform, present)
        return _tiled(hidden, head, *rows, constraints=constraints, top_k=top_k, chunk=chunk)
    count, vocabulary = hidden.shape[0], head.vocabulary
    size = chunk or chunk_size(count, hidden.device.type)
    starts = range(0, vocabulary, size)
    per_chunk = size // VOCAB_BLOCK
    scale = ((1.0 if head.cap is None else head.cap) / temperature)[:, None]

    top = hidden.new_full((count,), _NEGATIVE, dtype=torch.float32)  # the largest logit so far
    mass = torch.zeros_like(top)  # sum of exp(logit - top)
    moment = torch.zeros_like(top)  # sum of exp(logit - top) * (logit - top)
    best = torch.zeros_like(top, dtype=torch.int64)
    mean = hidden.new_zeros((count, hidden.shape[1]), dtype=torch.float32)
    block_sums = hidden.new_zeros((count, len(starts) * per_chunk), dtype=torch.float32)
    tops = hidden.new_zeros((count, len(starts)), dtype=torch.float32)
    top_tokens = _TopK(count, top_k, hidden) if top_k else None
    present_logit = None if present is None else torch.full_like(top, -torch.inf)

    for number, start in enumerate(starts):
        end = min(start + size, vocabulary)
        logits = _logits(hidden, head.weight[start:end], head.cap, scale)
        if constraints is not None:
            logits.masked_fill_(~constraints.masks[constraints.mask_ids, start:end], _NEGATIVE)
        if present is not None and present_logit is not None:
            place = present - start
            found = logits.gather(1, place.clamp(0, end - start - 1)[:, None]).squeeze(1)
            present_logit = torch.where((place >= 0) & (place < end - start), found, present_logit)
        chunk_max = _update_best(logits, top, best, start)
        new = torch.maximum(top, chunk_max)
        shrink = torch.exp(top - new)  # 0 for the first chunk
        logits -= new[:, None]
        shares = torch.exp(logits)
        blocks = _block_sums(shares)
        block_sums[:, number * per_chunk : number * per_chunk + blocks.shape[1]] = blocks
        tops[:, number] = new
        if top_tokens is not None:
            top_tokens.add(logits, new, start)
        moment = (moment + mass * (top - new)) * shrink + _moment(shares, logits)  # uses the logits up
        mass = mass * shrink + blocks.sum(-1)
        if top_tokens is None:
            table = head.embeddings[start:end]
            if table.dtype == torch.float32:
                mean.mul_(shrink[:, None]).addmm_(shares, table)
            else:
                mean.mul_(shrink[:, None]).add_(_product(torch.mm, shares.to(table.dtype), table))
        top = new
        del logits, shares, blocks  # before the next chunk is computed

    sampled = torch.cat(
        [
            _draw(here, hidden, head, scale, uniform, block_sums, tops, top, constraints)
            for here in (slice(first, first + DRAW_TILE) for first in range(0, count, DRAW_TILE))
        ]
    )
    soft = top_tokens.mean(head.embeddings) if top_tokens is not None else mean / mass[:, None]
    return SamplerOutput(
        best=torch.where(torch.isnan(mass), -1, best),
        sampled=sampled,
        entropy=torch.log(mass) - moment / mass,
        soft_embeddings=(soft * head.scale).to(head.embeddings.dtype),
        present_probability=None if present_logit is None else torch.exp(present_logit - top) / mass,
    )


def _tiled(
    hidden: Tensor, head: OutputHead, *rows: Tensor, constraints: TokenConstraints | None, **options: Any
) -> SamplerOutput:
    """Run ``sample`` on tiles of positions. ``rows`` are temperature, uniform and perhaps the present tokens."""
    tiles = []
    for start in range(0, hidden.shape[0], TILE):
        here = slice(start, start + TILE)
        if constraints is not None:
            options["constraints"] = TokenConstraints(constraints.mask_ids[here], constraints.masks)
        temperature, uniform, *present = (row[here] for row in rows)
        tiles.append(
            sample(hidden[here], head, temperature, uniform, present=present[0] if present else None, **options)
        )
    names = ["best", "sampled", "entropy", "soft_embeddings", *["present_probability"] * (len(rows) > 2)]
    return SamplerOutput(**{name: torch.cat([getattr(tile, name) for tile in tiles]) for name in names})


def chunk_size(positions: int, device_type: str) -> int:
    """Return how many tokens of the vocabulary are processed at a time."""
    return CHUNK[device_type] if device_type in CHUNK else chunk_on_gpu(positions)


def _logits(hidden: Tensor, weight: Tensor, cap: float | None, scale: Tensor) -> Tensor:
    """Return logits divided by the temperature, [N, tokens] float32."""
    return _capped(_product(torch.mm, hidden, weight.t()), cap, scale)


def _capped(logits: Tensor, cap: float | None, scale: Tensor) -> Tensor:
    """Soft-cap logits if there is a cap, and divide them by the temperature, in place.

    ``scale`` is cap / temperature, or 1 / temperature without a cap.
    """
    return logits.mul_(scale) if cap is None else logits.mul_(1 / cap).tanh_().mul_(scale)


def _product(multiply: Callable[..., Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Return a matrix product in float32, of which no 16-bit copy ever exists where torch supports that."""
    if first.dtype != torch.float32 and first.device.type in ("cuda", "meta"):
        return multiply(first, second, out_dtype=torch.float32)
    return multiply(first, second).float()


def _update_best(logits: Tensor, top: Tensor, best: Tensor, start: int) -> Tensor:
    """Return the largest logit of a chunk, [N]. Where it exceeds ``top``, update ``best`` in place."""
    if logits.device.type == "cpu":
        # argmax is ten times slower than amax, and few rows find a larger value in a chunk.
        chunk_max = logits.amax(dim=-1)
        rows = (chunk_max > top).nonzero().squeeze(1)
        best[rows] = logits[rows].argmax(dim=-1) + start
        return chunk_max
    chunk_max, place = logits.max(dim=-1)
    best.copy_(torch.where(chunk_max > top, place + start, best))
    return chunk_max


def _block_sums(shares: Tensor) -> Tensor:
    """Return sums over blocks of tokens, [N, blocks]; the last block is zero-padded."""
    missing = -shares.shape[1] % VOCAB_BLOCK
    if missing:
        shares = torch.nn.functional.pad(shares, (0, missing))
    return shares.view(shares.shape[0], -1, VOCAB_BLOCK).sum(-1)


def _moment(shares: Tensor, logits: Tensor) -> Tensor:
    """Return the sum of shares times logits, [N]. Overwrites ``logits``."""
    return logits.mul_(shares).sum(-1)


def _draw(
    here: slice,
    hidden: Tensor,
    head: OutputHead,
    scale: Tensor,
    uniform: Tensor,
    block_sums: Tensor,
    tops: Tensor,
    top: Tensor,
    constraints: TokenConstraints | None,
) -> Tensor:
    """Return the token at which the cumulative distribution exceeds ``uniform``, for the positions ``here``."""
    shrink = torch.exp(tops[here] - top[here, None])
    sums = (block_sums[here].view(*shrink.shape, -1) * shrink[:, :, None]).flatten(1)
    block, left = _search_cumulative(sums, uniform[here] * sums.sum(-1))
    token_ids = (block * VOCAB_BLOCK)[:, None] + torch.arange(VOCAB_BLOCK, device=hidden.device)
    real = token_ids < head.vocabulary
    token_ids = token_ids.clamp_(max=head.vocabulary - 1)
    rows = head.weight[token_ids.view(-1)].view(len(block), VOCAB_BLOCK, -1)
    logits = _capped(_product(torch.bmm, rows, hidden[here, :, None]).squeeze(-1), head.cap, scale[here])
    if constraints is not None:
        real &= constraints.masks[constraints.mask_ids[here, None], token_ids]
    shares = torch.exp(logits - top[here, None]).masked_fill_(~real, 0.0)
    # The block's mass was summed in another order, so the target is rescaled to the sum used here.
    share = left / sums.gather(1, block[:, None]).squeeze(1)
    inside, _ = _search_cumulative(shares, share.clamp_(0.0, 1.0) * shares.sum(-1))
    return token_ids.gather(1, inside[:, None]).squeeze(1)


def _search_cumulative(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first index whose cumulative mass exceeds the target, and the part of the target inside it.

    Args:
        weights: [N, M] float32, non-negative.
        target: [N] float32, from 0 to about the sum of a row.

    Returns:
        [N] int64 indices, each with a positive mass, and [N] float32.
    """
    wide = torch.float64 if weights.device.type != "mps" else torch.float32
    passed = torch.cumsum(weights, dim=-1, dtype=wide)
    wanted = torch.minimum(target.to(wide), passed[:, -1] * (1 - 1e-7))
    place = torch.searchsorted(passed, wanted[:, None], right=True).clamp_(max=weights.shape[1] - 1)
    before = passed.gather(1, place) - weights.gather(1, place)
    return place.squeeze(1), (wanted[:, None] - before).squeeze(1).to(torch.float32)


class _TopK:
    """The k most likely tokens so far."""

    def __init__(self, count: int, k: int, like: Tensor) -> None:
        self._k = k
        self._logits = like.new_full((count, k), _NEGATIVE, dtype=torch.float32)
        self._places = torch.zeros((count, k), dtype=torch.int64, device=like.device)

    def add(self, shares_log: Tensor, top: Tensor, start: int) -> None:
        """Add a chunk of logits that are relative to ``top``."""
        logits, ids = shares_log.topk(min(self._k, shares_log.shape[1]), dim=-1)
        logits = torch.cat([self._logits, logits + top[:, None]], dim=1)
        ids = torch.cat([self._places, ids + start], dim=1)
        self._logits, chosen = logits.topk(self._k, dim=-1)
        self._places = ids.gather(1, chosen)

    def mean(self, embeddings: Tensor) -> Tensor:
        """Return the mean embedding under the renormalized probabilities, [N, hidden] float32."""
        shares = torch.softmax(self._logits, dim=-1)
        rows = embeddings[self._places.view(-1)].view(*self._places.shape, -1).float()
        return torch.bmm(shares[:, None, :], rows).squeeze(1)
