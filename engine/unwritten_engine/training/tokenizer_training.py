"""Train a tokenizer on pages. Control tokens and chat template are those of Gemma 4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..diffusion.diffusion_gemma.random_tokenizer import MIN_VOCAB_SIZE, as_fast, fixed_pieces
from ..errors import EngineError
from .dataset import TrainingPage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORDS: Final = (
    r"▁?[\p{L}\p{M}]+"  # a word with a leading blank
    r"|\p{N}"  # single digits, so that numbers are tokenized consistently
    r"|▁?[^\p{L}\p{M}\p{N}\s▁]+"  # punctuation with a leading blank
    r"|▁+(?=▁[^\p{N}\s▁])|▁+"  # blanks, except the last before a word
    r"|\n+|\s"
)
_CHARACTERS: Final = 4
"""At most one in this many tokens is a single character; rarer characters are encoded as bytes."""


def train_tokenizer(pages: Iterable[TrainingPage], size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer with exactly this many tokens.

    Args:
        pages: training pages; held-out pages are skipped. Texts that occur several times, such as a system text, count
            once.
        size: number of tokens, at least ``random_tokenizer.MIN_VOCAB_SIZE``.

    Returns:
        A BPE tokenizer with a byte fallback. It is lossless, except that ``▁`` decodes to a blank.

    Raises:
        EngineError: the size is too small, or there are too few pages for it.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    if size < MIN_VOCAB_SIZE:
        raise EngineError(f"A vocabulary of {size} tokens is too small. Give at least {MIN_VOCAB_SIZE}.")
    fixed = fixed_pieces(size)
    words: Any = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = words
    free = size - len(fixed)
    trainer = trainers.BpeTrainer(
        vocab_size=size,  # the maximum; some tokens are among the fixed ones
        min_frequency=2,
        limit_alphabet=max(128, free // _CHARACTERS),
        initial_alphabet=["▁", *map(chr, range(33, 127))],
        show_progress=False,
    )
    learner.train_from_iterator(training_texts(pages), trainer)
    tokens = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    taken = set(fixed.values())
    fresh = [piece for piece, _ in tokens if piece not in taken][:free]
    if len(fresh) < free:
        raise EngineError(
            f"The pages only provide {len(fixed) + len(fresh):,} tokens, not {size:,}. Give more pages, or a smaller "
            f"vocabulary."
        )
    more = iter(fresh)
    vocabulary = {fixed[at] if at in fixed else next(more): at for at in range(size)}
    runs = sorted((piece for piece in taken if piece.strip("\n") == "" or piece.strip("▁") == ""), key=len)
    tokenizer = build_bpe(vocabulary, [piece for piece in (*runs, *fresh) if len(piece) > 1])
    tokenizer.pre_tokenizer = words
    fast: PreTrainedTokenizerFast = as_fast(tokenizer, size)
    return fast


def training_texts(pages: Iterable[TrainingPage]) -> Iterator[str]:
    """Yield all texts of the pages that are not held out, without duplicates."""
    seen = set[int]()
    for page in pages:
        if page.held_out:
            continue
        prompt = page.prompt
        texts = [prompt.system, prompt.ask, *prompt.facts, page.text]
        for example in prompt.examples:
            texts += [example.ask, *example.facts, example.answer]
        for text in texts:
            if text and (key := hash(text)) not in seen:
                seen.add(key)
                yield text


def build_bpe(vocabulary: Mapping[str, int], order: Iterable[str]) -> Any:
    """Return a ``tokenizers.Tokenizer`` with a byte fallback that preserves blanks, without a pre-tokenizer.

    Args:
        vocabulary: all tokens with their ids, including ``<unk>`` and the bytes.
        order: composed tokens in merge order. Others (control tokens, bytes, single characters) may be omitted.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    merges = list(_merges(set(order := list(order)), vocabulary, order))
    model = models.BPE(dict(vocabulary), merges, unk_token="<unk>", byte_fallback=True, fuse_unk=False)  # noqa: S106
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _merges(known: set[str], vocabulary: Mapping[str, int], order: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield every pair of tokens that forms a token, in order."""
    for token in order:
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if all(part in known or (len(part) == 1 and part in vocabulary) for part in (left, right)):
                yield left, right
