"""Prune the vocabulary of Gemma's tokenizer. Texts of kept tokens are tokenized as before.

Keeping a token also keeps all tokens on its merge path. So merges of the original tokenizer also happen in the pruned
one, in the same order, if the result is kept. Other texts are split into smaller tokens, down to bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Final

from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import as_fast, fixed_pieces
from unwritten_engine.errors import EngineError
from unwritten_engine.training.tokenizer_training import build_bpe

NORMAL, WHOLE = 1, 4
"""Kinds of tokens: merged ones, and those that are split off in advance (runs of blanks, tags)."""
_RUNS: Final = r"\n{1,31}|▁{2,31}|\t{2,31}"
"""Runs that are split off in advance, longest first."""
_CONTROLS: Final = 107
"""Number of leading ids that are control tokens in both vocabularies."""
_COUNTERPARTS: Final = {"<|image>": "<start_of_image>", "<image|>": "<end_of_image>"}
_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The vocabulary of a GGUF file, by id.

    Attributes:
        names: the tokens; ``▁`` is a blank.
        kinds: kind of each.
        scores: merge priorities.
    """

    names: Sequence[str]
    kinds: Sequence[int]
    scores: Sequence[float]

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Vocabulary:
        """Return the vocabulary of a file's metadata."""
        names, kinds, scores = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "scores"))
        # The file writes runs of blanks as such, and a blank in other pieces as ▁.
        return cls([name.replace(" ", "▁") for name in names], kinds, scores)


def whole_tokenizer(pieces: Vocabulary) -> Any:
    """Return the ``tokenizers.Tokenizer`` of the whole vocabulary. Names of control tokens are plain text."""
    return _tokenizer({name: at for at, name in enumerate(pieces.names)}, pieces)


def pruned_tokenizer(pieces: Vocabulary, size: int, texts: Iterable[str]) -> tuple[Any, list[int]]:
    """Return a tokenizer with a part of the vocabulary, in the format of Gemma 4.

    Args:
        pieces: the whole vocabulary.
        size: number of tokens.
        texts: their most frequent tokens are kept, then the first merges of Gemma's tokenizer.

    Returns:
        A fast tokenizer of ``transformers``, and for each id the original id.

    Raises:
        EngineError: the size is too small or too large.
    """
    fixed = fixed_pieces(size)
    free = size - len(fixed)
    usual = [at for at, kind in enumerate(pieces.kinds) if kind in (NORMAL, WHOLE)]
    readable = [pieces.names.index(char) for char in ("▁", *map(chr, range(33, 127)))]
    if not len(readable) < free < len(usual):
        raise EngineError(
            f"A vocabulary of {size:,} tokens cannot be made of one of {len(pieces.names):,}. Take 8,192 to 65,536."
        )
    used = count_pieces(whole_tokenizer(pieces), texts)
    often = [at for at, _ in sorted(used.items(), key=lambda item: (-item[1], item[0]))]
    kept = iter(sorted(_closed([*readable, *often, *usual], pieces, set(fixed.values()), free)))
    ids = {name: at for at, name in enumerate(pieces.names)}
    origins = [_origin(at, fixed[at], ids) if at in fixed else next(kept) for at in range(size)]
    vocabulary = {fixed.get(at) or pieces.names[origin]: at for at, origin in enumerate(origins)}
    return as_fast(_tokenizer(vocabulary, pieces), size), origins


def count_pieces(tokenizer: Any, texts: Iterable[str]) -> Counter[int]:
    """Count the tokens of some texts."""
    found = Counter[int]()
    left = iter(texts)
    while batch := list(islice(left, _BATCH)):
        for encoded in tokenizer.encode_batch(batch, add_special_tokens=False):
            found.update(encoded.ids)
    return found


def _tokenizer(vocabulary: Mapping[str, int], pieces: Vocabulary) -> Any:
    from tokenizers import AddedToken, Regex, pre_tokenizers

    there = [at for at, name in enumerate(pieces.names) if name in vocabulary and len(name) > 1]
    whole = [pieces.names[at] for at in there if pieces.kinds[at] == WHOLE]
    runs = sorted((name for name in whole if not name.strip("\n\t▁")), key=len)
    scored = sorted((at for at in there if pieces.kinds[at] == NORMAL), key=lambda at: (-pieces.scores[at], at))
    tokenizer = build_bpe(vocabulary, [*runs, *(pieces.names[at] for at in scored)])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_RUNS), behavior="isolated")
    tags = [name for name in whole if name[0] == "<" and name[-1] == ">"]
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in tags])
    return tokenizer


def _closed(ranking: Iterable[int], pieces: Vocabulary, fixed: set[str], free: int) -> set[int]:
    """Return the first tokens of the ranking that fit, each with its merge path."""
    ranks = {name: at for at, (name, kind) in enumerate(zip(pieces.names, pieces.kinds, strict=True)) if kind == NORMAL}
    usable = {at for name, at in ranks.items() if name not in fixed}
    usable |= {at for at, kind in enumerate(pieces.kinds) if kind == WHOLE and pieces.names[at] not in fixed}
    kept = set[int]()
    for at in ranking:
        if at not in usable or at in kept:
            continue
        made = {at} if pieces.kinds[at] == WHOLE else {ranks[part] for part in _built_of(pieces.names[at], ranks)}
        made -= kept
        if len(kept) + len(made) <= free:
            kept |= made
        if len(kept) == free:
            break
    return kept


def _built_of(piece: str, ranks: Mapping[str, int]) -> Iterator[str]:
    """Yield a token, its characters, and the intermediate merges."""
    yield piece
    parts = list(piece)
    yield from (part for part in parts if part in ranks)
    while len(parts) > 1:
        found = [(ranks[pair], at) for at, pair in enumerate(map("".join, pairwise(parts))) if pair in ranks]
        if not found:
            return
        at = min(found)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        yield parts[at]


def _origin(at: int, name: str, ids: Mapping[str, int]) -> int:
    """Return the original id for the embedding of a fixed token, or an unused token."""
    if at < _CONTROLS:
        return at
    return ids.get(_COUNTERPARTS.get(name, name), ids["<unused0>"])
