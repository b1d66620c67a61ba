"""Convert Gemma 3's attention to DiffusionGemma's, whose values are normalized and whose scores are not scaled.

There are three differences. Scores are not divided by the root of the head size; the norm of the queries absorbs it.
Values are RMS-normalized, so that tokens such as the first of a text cannot have small values. Layers with full
attention have no value projection and use keys before their norm. Constant dimensions are added so that RMS norm leaves
the values unchanged:

* In a sliding layer a dimension of the values holds a number that is much larger than the values and nearly constant.
  It dominates the norm, so that values are only scaled by a constant. ``wide`` heads have room for the whole input,
  whose norm is constant: this is exact. Narrow heads keep their size: the dimension with the least variance is replaced
  by a linear function that is fitted to text.
* In a full layer heads are twice as wide. Keys are in one half of the dimensions and scaled-down values in the other.
  The norm's weights remove the values from the keys, and the output projection removes the keys from the values. Keys
  are exact; values are divided by the norm of the keys, which is nearly constant except for the first token. A linear
  correction of the projection compensates the difference.

Rotary frequencies are preserved in wider heads: dimension ``i`` of a head of size ``h`` has the frequency
``base ** (-2 i / h)``, so the base ``base ** (wider / h)`` gives the first dimensions of each half the old frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from .calibration import ridge_regression

_EXACT: Final = 32.0
_NARROW: Final = 4.0
"""Size of the constant dimension relative to the values: nearly exact, or suitable for training."""
_STRENGTHS: Final = (0.01, 0.1, 1.0, 10.0)
_FIRST: Final = 0.25
"""Weight of the first token of a text relative to all others, because it receives much attention."""


@dataclass(frozen=True, slots=True)
class AttentionWeights:
    """Weights of one layer's attention.

    Attributes:
        query: [heads x head, hidden].
        keys: [key heads x head, hidden].
        values: [key heads x head, hidden]; None if keys serve as values.
        output: [hidden, heads x head].
        query_norm: [head], weights of the query norm.
        key_norm: [head], weights of the key norm.
        head: head size.
    """

    query: Tensor
    keys: Tensor
    values: Tensor | None
    output: Tensor
    query_norm: Tensor
    key_norm: Tensor
    head: int


@dataclass(frozen=True, slots=True)
class CalibrationSample:
    """Attention inputs of a layer for calibration text.

    Attributes:
        inputs: [n, hidden], normalized, before the norm's weights; the first token of a text is last, once.
        counts: [n], weights of the samples.
        weight: [hidden], weights of the norm.
    """

    inputs: Tensor
    counts: Tensor
    weight: Tensor

    @classmethod
    def of(cls, inputs: Tensor, weight: Tensor) -> CalibrationSample:
        """Return the sample of ``attention_inputs`` [n, length, hidden], whose rows start with the same token."""
        rest = inputs[:, 1:].flatten(0, 1)
        counts = torch.ones(len(rest) + 1)
        counts[-1] = _FIRST * len(rest)
        return cls(torch.cat([rest, inputs[:1, 0]]), counts, weight)

    def through(self, matrix: Tensor) -> Tensor:
        """Apply a projection [out, hidden], [n, out]."""
        return (self.inputs * self.weight) @ matrix.T

    def plain(self, matrix: Tensor) -> Tensor:
        """Convert a map of the unweighted inputs to a projection after the norm's weights."""
        return torch.where(self.weight.abs() > 1e-4, matrix / self.weight, torch.zeros_like(matrix))

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the sample without the first token."""
        return values[:-1].mean()


def convert_sliding_attention(
    old: AttentionWeights, sample: CalibrationSample, scale: float, wide: bool
) -> AttentionWeights:
    """Convert a layer with a sliding window.

    Args:
        old: weights of Gemma 3.
        sample: of the layer.
        scale: factor of the scores in Gemma 3.
        wide: exact, with heads that are wider by the hidden size; otherwise heads keep their size.
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
            more = sample.plain(ridge_regression(sample.inputs, target[:, None], sample.counts, 1e-3))
        values.append(torch.cat([kept @ projection, more]))
        # A norm divides by the root of the mean square, which is size / sqrt(head) now.
        back = torch.zeros(old.head, head)
        back[:, : len(kept)] = kept.T * size / head**0.5
        mine = torch.split(old.output, old.head, dim=1)[at * groups : (at + 1) * groups]
        outputs += [part @ back for part in mine]
    places = _places(old.head, head)
    return AttentionWeights(
        query=_spread(old.query, old.head, places, head),
        keys=_spread(old.keys, old.head, places, head),
        values=torch.cat(values),
        output=torch.cat(outputs, dim=1),
        query_norm=_norm(old.query_norm * scale, places, head),
        key_norm=_norm(old.key_norm, places, head),
        head=head,
    )


def convert_full_attention(old: AttentionWeights, sample: CalibrationSample, scale: float) -> AttentionWeights:
    """Convert a layer with full attention. Arguments are those of ``convert_sliding_attention``."""
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
    return AttentionWeights(
        query=_spread(old.query, old.head, places, head),
        keys=torch.cat(keys),
        values=None,
        output=torch.cat(outputs, dim=1),
        query_norm=_norm(old.query_norm * scale, places, head),
        key_norm=_norm(old.key_norm * share, places, head),
        head=head,
    )


def _correction(sample: CalibrationSample, values: Tensor, factors: Tensor) -> Tensor:
    """Return the change of the value projection that compensates multiplication with these factors, as far as linear.

    The regularization is chosen on a held-out part of the sample.
    """
    inputs, targets = sample.inputs * factors[:, None], values - values * factors[:, None]
    seen = torch.arange(len(inputs)) % 4 != 0
    seen[-1] = True  # the first token of a text is the same in all
    tried = []
    for strength in _STRENGTHS:
        fitted = ridge_regression(inputs[seen], targets[seen], sample.counts[seen], strength)
        tried.append(((inputs[~seen] @ fitted.T - targets[~seen]).square().sum().item(), strength))
    return sample.plain(ridge_regression(inputs, targets, sample.counts, min(tried)[1]))


def _places(old: int, head: int) -> Tensor:
    """Return the positions of a head's dimensions in a wider one, preserving rotary pairs."""
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
    """Return norm weights for a wider head that is mostly zero and therefore has a smaller RMS."""
    wider = torch.zeros(head)
    wider[places] = weight * (len(places) / head) ** 0.5
    return wider
