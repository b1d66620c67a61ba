"""BPE in the manner of Gemma's tokenizers: made from pieces and their order alone, without a list of merges.

Two neighbouring pieces merge if what they make is a piece, the earliest piece in order first. That is how
SentencePiece encodes; ``tokenizers`` wants every such pair spelt out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def bpe(vocabulary: Mapping[str, int], order: Iterable[str]) -> Any:
    """A ``tokenizers.Tokenizer`` that falls back to bytes and keeps blanks as they are; without a pre-tokenizer.

    Args:
        vocabulary: all pieces with their ids, ``<unk>`` and the bytes among them.
        order: the pieces that are made of others, those that merge first first. The rest (control tokens, bytes, single
            characters) may be left out.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    merges = list(_merges(set(order := list(order)), vocabulary, order))
    model = models.BPE(dict(vocabulary), merges, unk_token="<unk>", byte_fallback=True, fuse_unk=False)  # noqa: S106
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _merges(made: set[str], vocabulary: Mapping[str, int], order: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Every pair of pieces that is a piece, in order."""
    for whole in order:
        for cut in range(1, len(whole)):
            left, right = whole[:cut], whole[cut:]
            if all(part in made or (len(part) == 1 and part in vocabulary) for part in (left, right)):
                yield left, right
