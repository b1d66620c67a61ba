"""From hidden states to tokens, entropies and the next self-conditioning, in one pass over the vocabulary.

The published sampler (entropy-bounded unmasking, arXiv 2505.24857, as in DiffusionGemma) needs of each position's
distribution over 262,144 tokens: its largest, one sample, its entropy, and its mean embedding. Written plainly that
is half a dozen temporaries of [positions, vocabulary], each larger than any cache. Here the vocabulary is walked in
chunks, with running maxima as in flash attention: logits of a chunk are made, reduced and forgotten while they are
in the cache.

The sample is drawn by inverting the cumulative distribution with one uniform number per position. During the walk
only the masses of blocks of 64 tokens are kept; afterwards the block in which the number falls is found, and its 64
logits are made once more. Drawing one number per token, as the exponential race of ``torch.multinomial`` does,
would cost more than all the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

BLOCK: Final = 64
"""Tokens in a block, the unit in which masses are kept for sampling."""
CHUNK: Final = {"cpu": 2048}
"""Tokens of the vocabulary at a time: on a CPU 256 positions of it are 2 MB, which stay in the cache (``LOG.md``)."""
CHUNK_ON_GPU: Final = 16384
TILE: Final = 512
"""Positions at a time on a CPU: more of them would push each other out of the cache."""
_NEGATIVE: Final = -1e30
"""Stands for minus infinity where infinities would make nan."""


@dataclass(frozen=True, slots=True)
class OutputHead:
    """What makes logits of hidden states.

    Attributes:
        weight: [vocabulary, hidden], of the output; tied to the embeddings.
        embeddings: [vocabulary, hidden], for the mean embedding.
        scale: of the embeddings, a number.
        cap: logits are soft-capped to lie between -cap and cap.
    """

    weight: Tensor
    embeddings: Tensor
    scale: float
    cap: float

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.weight.shape[0]


@dataclass(frozen=True, slots=True)
class TokenConstraints:
    """Which tokens may stand at positions of shaped canvases.

    Attributes:
        classes: [N] int64, a row of ``allowed`` per position.
        allowed: [classes, vocabulary] bool; row 0 allows everything.
    """

    mask_ids: Tensor
    masks: Tensor


@dataclass(frozen=True, slots=True)
class SamplerOutput:
    """What the sampler finds at N positions.

    Attributes:
        best: [N] int64, the likeliest token (the first of equals).
        drawn: [N] int64, a token drawn from the distribution.
        entropy: [N] float32, of the distribution, in nats.
        soft: [N, hidden] in the dtype of the embeddings, the scaled mean embedding.
    """

    best: Tensor
    sampled: Tensor
    entropy: Tensor
    soft_embeddings: Tensor


def sample(
    hidden: Tensor,
    head: OutputHead,
    temperature: Tensor,
    uniform: Tensor,
    *,
    constraints: TokenConstraints | None = None,
    top_k: int | None = None,
    chunk: int | None = None,
) -> SamplerOutput:
    """One pass over the vocabulary.

    Args:
        hidden: [N, hidden], the last hidden states.
        head: makes logits of them.
        temperature: [N] float32, by which the capped logits are divided.
        chance: [N] float32 in [0, 1), where in the cumulative distribution the sample is drawn.
        limits: which tokens may stand where; None allows all.
        top_k: take the mean embedding over the k likeliest tokens only, with their shares scaled to 1.
        chunk: tokens of the vocabulary at a time, a multiple of ``BLOCK``; None chooses by the device.

    No value is read back to the host.
    """
    if hidden.device.type == "cpu" and hidden.shape[0] > TILE:
        return _tiled(hidden, head, temperature, uniform, limits=constraints, top_k=top_k, chunk=chunk)
    count, vocabulary = hidden.shape[0], head.vocabulary
    size = chunk or CHUNK.get(hidden.device.type, CHUNK_ON_GPU)
    starts = range(0, vocabulary, size)
    per_chunk = size // BLOCK
    scale = (head.cap / temperature)[:, None]

    top = hidden.new_full((count,), _NEGATIVE, dtype=torch.float32)  # the largest logit so far
    mass = torch.zeros_like(top)  # sum of exp(logit - top)
    moment = torch.zeros_like(top)  # sum of exp(logit - top) * (logit - top)
    best = torch.zeros_like(top, dtype=torch.int64)
    mean = hidden.new_zeros((count, hidden.shape[1]), dtype=torch.float32)
    masses = hidden.new_zeros((count, len(starts) * per_chunk), dtype=torch.float32)
    tops = hidden.new_zeros((count, len(starts)), dtype=torch.float32)
    likeliest = _TopK(count, top_k, hidden) if top_k else None

    for number, start in enumerate(starts):
        end = min(start + size, vocabulary)
        logits = _logits(hidden, head.weight[start:end], head.cap, scale)
        if constraints is not None:
            logits.masked_fill_(~constraints.masks[constraints.mask_ids, start:end], _NEGATIVE)
        here = _update_best(logits, top, best, start)
        new = torch.maximum(top, here)
        shrink = torch.exp(top - new)  # 0 for the first chunk
        logits -= new[:, None]
        shares = torch.exp(logits)
        blocks = _block_sums(shares)
        masses[:, number * per_chunk : number * per_chunk + blocks.shape[1]] = blocks
        tops[:, number] = new
        if likeliest is not None:
            likeliest.add(logits, new, start)
        moment = (moment + mass * (top - new)) * shrink + _moment(shares, logits)  # uses the logits up
        mass = mass * shrink + blocks.sum(-1)
        if likeliest is None:
            table = head.embeddings[start:end]
            if table.dtype == torch.float32:
                mean.mul_(shrink[:, None]).addmm_(shares, table)
            else:
                mean.mul_(shrink[:, None]).add_(torch.mm(shares.to(table.dtype), table))
        top = new

    drawn = _draw(hidden, head, scale, uniform, masses, tops, top, per_chunk, constraints)
    soft = likeliest.mean(head.embeddings) if likeliest is not None else mean / mass[:, None]
    return SamplerOutput(
        best=best,
        sampled=drawn,
        entropy=torch.log(mass) - moment / mass,
        soft_embeddings=(soft * head.scale).to(head.embeddings.dtype),
    )


def _tiled(hidden: Tensor, *given: Any, limits: TokenConstraints | None, **options: Any) -> SamplerOutput:
    """``sample``, so many positions at a time."""
    head, *rows = given
    found = []
    for start in range(0, hidden.shape[0], TILE):
        here = slice(start, start + TILE)
        mine = None if limits is None else TokenConstraints(limits.mask_ids[here], limits.masks)
        found.append(sample(hidden[here], head, *(row[here] for row in rows), constraints=mine, **options))
    names = ("best", "drawn", "entropy", "soft")
    return SamplerOutput(**{name: torch.cat([getattr(tile, name) for tile in found]) for name in names})


def accept_tokens(entropy: Tensor, bound: Tensor) -> Tensor:
    """Which positions keep their sampled token: the k of lowest entropy whose sum, less the largest, is in the bound.

    Args:
        entropy: [B, C] float32.
        bound: [B] float32, in nats.

    Returns:
        [B, C] bool, at least one true in each row.
    """
    ordered, places = torch.sort(entropy, dim=-1)
    fits = torch.cumsum(ordered, dim=-1) - ordered <= bound[:, None]
    return torch.zeros_like(fits).scatter(-1, places, fits)


def _logits(hidden: Tensor, weight: Tensor, cap: float, scale: Tensor) -> Tensor:
    """[N, tokens] float32: soft-capped, divided by the temperature (``scale`` is cap over temperature)."""
    return torch.mm(hidden, weight.t()).float().mul_(1 / cap).tanh_().mul_(scale)


def _update_best(logits: Tensor, top: Tensor, best: Tensor, start: int) -> Tensor:
    """[N]: the largest logit of a chunk; where it is above ``top``, its token becomes ``best``, in place."""
    if logits.device.type == "cpu":
        # Looking for the place takes ten times as long as for the value, and few rows find a larger one in a chunk.
        here = logits.amax(dim=-1)
        rows = (here > top).nonzero().squeeze(1)
        best[rows] = logits[rows].argmax(dim=-1) + start
        return here
    here, place = logits.max(dim=-1)
    best.copy_(torch.where(here > top, place + start, best))
    return here


def _block_sums(shares: Tensor) -> Tensor:
    """[N, blocks]: sums over blocks of tokens, the last one filled up with zeros."""
    missing = -shares.shape[1] % BLOCK
    if missing:
        shares = torch.nn.functional.pad(shares, (0, missing))
    return shares.view(shares.shape[0], -1, BLOCK).sum(-1)


def _moment(shares: Tensor, logits: Tensor) -> Tensor:
    """[N]: sum of shares times logits; ``logits`` is used up."""
    return logits.mul_(shares).sum(-1)


def _draw(
    hidden: Tensor,
    head: OutputHead,
    scale: Tensor,
    chance: Tensor,
    masses: Tensor,
    tops: Tensor,
    top: Tensor,
    per_chunk: int,
    limits: TokenConstraints | None,
) -> Tensor:
    """[N] int64: the token at which the cumulative distribution passes ``chance``."""
    count = hidden.shape[0]
    shrink = torch.exp(tops - top[:, None])
    masses = (masses.view(count, -1, per_chunk) * shrink[:, :, None]).view(count, -1)
    block, left = _search_cumulative(masses, chance * masses.sum(-1))
    places = (block * BLOCK)[:, None] + torch.arange(BLOCK, device=hidden.device)
    real = places < head.vocabulary
    places = places.clamp_(max=head.vocabulary - 1)
    rows = head.weight[places.view(-1)].view(count, BLOCK, -1)
    logits = torch.bmm(rows, hidden[:, :, None]).squeeze(-1).float().mul_(1 / head.cap).tanh_().mul_(scale)
    if limits is not None:
        real &= limits.masks[limits.mask_ids[:, None], places]
    shares = torch.exp(logits - top[:, None]).masked_fill_(~real, 0.0)
    # The block's mass was summed in another order: its own sum is the yardstick, so that the end is never passed.
    share = left / masses.gather(1, block[:, None]).squeeze(1)
    inside, _ = _search_cumulative(shares, share.clamp_(0.0, 1.0) * shares.sum(-1))
    return places.gather(1, inside[:, None]).squeeze(1)


def _search_cumulative(masses: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first place whose cumulative mass passes the target, and how much of the target lies in it.

    Args:
        masses: [N, M] float32, none negative.
        target: [N] float32, at least 0 and hardly more than the sum of a row.

    Returns:
        [N] int64 places, each with a mass above 0, and [N] float32.
    """
    wide = torch.float64 if masses.device.type != "mps" else torch.float32
    passed = torch.cumsum(masses, dim=-1, dtype=wide)
    wanted = torch.minimum(target.to(wide), passed[:, -1] * (1 - 1e-7))
    place = torch.searchsorted(passed, wanted[:, None], right=True).clamp_(max=masses.shape[1] - 1)
    before = passed.gather(1, place) - masses.gather(1, place)
    return place.squeeze(1), (wanted[:, None] - before).squeeze(1).to(torch.float32)


class _TopK:
    """The k likeliest tokens so far."""

    def __init__(self, count: int, k: int, like: Tensor) -> None:
        self._k = k
        self._logits = like.new_full((count, k), _NEGATIVE, dtype=torch.float32)
        self._places = torch.zeros((count, k), dtype=torch.int64, device=like.device)

    def add(self, shares_log: Tensor, top: Tensor, start: int) -> None:
        """Take in a chunk: its logits less ``top``."""
        logits, places = shares_log.topk(min(self._k, shares_log.shape[1]), dim=-1)
        logits = torch.cat([self._logits, logits + top[:, None]], dim=1)
        places = torch.cat([self._places, places + start], dim=1)
        self._logits, chosen = logits.topk(self._k, dim=-1)
        self._places = places.gather(1, chosen)

    def mean(self, embeddings: Tensor) -> Tensor:
        """[N, hidden] float32: the mean embedding under the scaled shares."""
        shares = torch.softmax(self._logits, dim=-1)
        rows = embeddings[self._places.view(-1)].view(*self._places.shape, -1).float()
        return torch.bmm(shares[:, None, :], rows).squeeze(1)
