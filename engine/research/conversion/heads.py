"""Attention heads of Gemma 3 as those of DiffusionGemma, whose values pass a norm and whose scores are not scaled.

Three things differ. The scores are not divided by the root of the head's size: that goes into the norm of the queries.
Values are divided by their size, so that a token cannot say little, as the first of a text does, at which everybody
looks who looks at nothing. And layers with full attention have no projection for values: keys, before their norm, serve
as such. Both norms are outwitted with dimensions that carry something else:

* In a sliding layer a dimension of the values holds a number that is much larger than they are and nearly the same for
  every token. It decides the size, and the values come out as they went in, times a constant. ``wide`` heads have room
  for the whole input, whose size is the same for every token by its own norm: that is exact. Narrow ones keep their
  size: the dimension in which values differ least makes room, for a linear function that is fitted to ordinary text.
* In a full layer heads are twice as wide. Keys lie in one half of the dimensions, values, made small, in the other. The
  norm's weights drop the values from the keys, and the output's the keys from the values. So keys are exact, and values
  are divided by the size of the keys, which is nearly the same for all tokens but the first. What differs is taken from
  the projection as far as a linear function can tell it.

Wider heads turn by the same angles: dimension ``i`` of a head of the size ``h`` turns with the frequency
``base ** (-2 i / h)``, so ``base ** (wider / h)`` as base gives the first dimensions of each half the old frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from .calibration import ridge

_EXACT: Final = 32.0
_NARROW: Final = 4.0
"""How many times larger what decides the size is than the rest: exact, or in numbers that are well to train with."""
_STRENGTHS: Final = (0.01, 0.1, 1.0, 10.0)
_FIRST: Final = 0.25
"""What the first token of a text counts, as a share of all others: much attention is spent on it."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The projections of one layer's attention.

    Attributes:
        query: [heads x head, hidden].
        keys: [key heads x head, hidden].
        values: [key heads x head, hidden]; None where keys serve as values.
        output: [hidden, heads x head].
        query_norm: [head], what normalised queries are multiplied with.
        key_norm: [head].
        head: numbers per head.
    """

    query: Tensor
    keys: Tensor
    values: Tensor | None
    output: Tensor
    query_norm: Tensor
    key_norm: Tensor
    head: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What a layer's attention is given for ordinary text.

    Attributes:
        inputs: [n, hidden], normalised, before the weights of the norm; the first token of a text comes last, once.
        counts: [n], how much each counts.
        weight: [hidden], of the norm.
    """

    inputs: Tensor
    counts: Tensor
    weight: Tensor

    @classmethod
    def of(cls, inputs: Tensor, weight: Tensor) -> Sample:
        """The sample of ``attention_inputs`` [n, length, hidden], whose rows all begin with the same token."""
        rest = inputs[:, 1:].flatten(0, 1)
        counts = torch.ones(len(rest) + 1)
        counts[-1] = _FIRST * len(rest)
        return cls(torch.cat([rest, inputs[:1, 0]]), counts, weight)

    def through(self, matrix: Tensor) -> Tensor:
        """[n, out]: what a projection [out, hidden] makes of it."""
        return (self.inputs * self.weight) @ matrix.T

    def plain(self, matrix: Tensor) -> Tensor:
        """A map of the inputs before the weights of the norm as a projection that comes after them."""
        return torch.where(self.weight.abs() > 1e-4, matrix / self.weight, torch.zeros_like(matrix))

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the sample but for the first token, which is unlike the others."""
        return values[:-1].mean()


def sliding_heads(old: Heads, sample: Sample, scale: float, wide: bool) -> Heads:
    """The heads of a layer with a sliding window.

    Args:
        old: Gemma 3's.
        sample: of the layer.
        scale: what the scores are multiplied with in Gemma 3.
        wide: exact, in heads that are wider by the hidden size; otherwise in heads of the old size.
    """
    assert old.values is not None
    hidden = old.query.shape[1]
    head = old.head + hidden if wide else old.head
    values, outputs = [], []
    groups = old.output.shape[1] // old.values.shape[0]
    for at, projection in enumerate(torch.split(old.values, old.head)):
        found = sample.through(projection)
        if wide:
            size = _EXACT * sample.mean(found.pow(2).sum(-1)).sqrt()
            kept = torch.eye(old.head)
            more = sample.plain(size / hidden**0.5 * torch.eye(hidden))
        else:
            # The directions in which values are large on the whole; all but the last.
            square = (found.T * sample.counts) @ found
            kept = torch.linalg.eigh(square).eigenvectors[:, 1:].T
            found = found @ kept.T
            squares = found.pow(2).sum(-1)
            size = _NARROW * sample.mean(squares).sqrt()
            target = (size**2 - squares).clamp(min=(size / 4) ** 2).sqrt()
            more = sample.plain(ridge(sample.inputs, target[:, None], sample.counts, 1e-3))
        values.append(torch.cat([kept @ projection, more]))
        # A norm divides by the root of the mean square, which is size / sqrt(head) now.
        back = torch.zeros(old.head, head)
        back[:, : len(kept)] = kept.T * size / head**0.5
        mine = torch.split(old.output, old.head, dim=1)[at * groups : (at + 1) * groups]
        outputs += [part @ back for part in mine]
    places = _places(old.head, head)
    return Heads(
        query=_spread(old.query, old.head, places, head),
        keys=_spread(old.keys, old.head, places, head),
        values=torch.cat(values),
        output=torch.cat(outputs, dim=1),
        query_norm=_norm(old.query_norm * scale, places, head),
        key_norm=_norm(old.key_norm, places, head),
        head=head,
    )


def full_heads(old: Heads, sample: Sample, scale: float) -> Heads:
    """The heads of a layer with full attention. Arguments are as for ``sliding_heads``."""
    assert old.values is not None
    head = 2 * old.head
    places = _places(old.head, head)
    others = torch.tensor(sorted(set(range(head)) - set(places.tolist())))
    keys, outputs, shares = [], [], []
    groups = old.output.shape[1] // old.values.shape[0]
    for at, (key, value) in enumerate(
        zip(torch.split(old.keys, old.head), torch.split(old.values, old.head), strict=True)
    ):
        sizes = sample.through(key).norm(dim=-1)
        found = sample.through(value)
        usual = sample.mean(sizes)
        value = value + _correction(sample, found, usual / sizes)
        small = usual / _NARROW / sample.mean(found.pow(2).sum(-1)).sqrt()
        whole = (sizes.square() + (small * sample.through(value)).pow(2).sum(-1)).sqrt()
        shares.append(sample.mean(whole / sizes))
        both = torch.zeros(head, key.shape[1])
        both[places], both[others] = key, small * value
        keys.append(both)
        back = torch.zeros(old.head, head)
        back[:, others] = torch.eye(old.head) * sample.mean(whole) / small / head**0.5
        mine = torch.split(old.output, old.head, dim=1)[at * groups : (at + 1) * groups]
        outputs += [part @ back for part in mine]
    share = torch.stack(shares).mean()
    return Heads(
        query=_spread(old.query, old.head, places, head),
        keys=torch.cat(keys),
        values=None,
        output=torch.cat(outputs, dim=1),
        query_norm=_norm(old.query_norm * scale, places, head),
        key_norm=_norm(old.key_norm * share, places, head),
        head=head,
    )


def _correction(sample: Sample, values: Tensor, factors: Tensor) -> Tensor:
    """What must be added to the projection of values, so that multiplied with these factors they are what they were.

    A linear function tells only a part of it. How strongly it is fitted is decided by a part of the sample that it has
    not seen.
    """
    inputs, targets = sample.inputs * factors[:, None], values - values * factors[:, None]
    seen = torch.arange(len(inputs)) % 4 != 0
    seen[-1] = True  # the first token of a text is the same in all
    tried = []
    for strength in _STRENGTHS:
        fitted = ridge(inputs[seen], targets[seen], sample.counts[seen], strength)
        tried.append(((inputs[~seen] @ fitted.T - targets[~seen]).square().sum().item(), strength))
    return sample.plain(ridge(inputs, targets, sample.counts, min(tried)[1]))


def _places(old: int, head: int) -> Tensor:
    """Where the dimensions of a head lie in a wider one, so that those that turn together still do."""
    half = torch.arange(old // 2)
    return torch.cat([half, half + head // 2])


def _spread(matrix: Tensor, old: int, places: Tensor, head: int) -> Tensor:
    parts = []
    for part in torch.split(matrix, old):
        wider = torch.zeros(head, matrix.shape[1])
        wider[places] = part
        parts.append(wider)
    return torch.cat(parts)


def _norm(weight: Tensor, places: Tensor, head: int) -> Tensor:
    """The weights of a norm over a wider head, most of which is zero: its root mean square is smaller."""
    wider = torch.zeros(head)
    wider[places] = weight * (len(places) / head) ** 0.5
    return wider
