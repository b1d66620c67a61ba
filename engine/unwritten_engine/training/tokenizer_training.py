"""A tokenizer trained on pages: few tokens, all of them useful. Control tokens and chat format are those of Gemma 4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..diffusion.loading.random_tokenizer import MIN_VOCAB_SIZE, as_fast, fixed_pieces
from ..errors import EngineError
from .dataset import TrainingPage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORDS: Final = (
    r"▁?[\p{L}\p{M}]+"  # a word, with the blank before it
    r"|\p{N}"  # a digit is a token: numbers are read alike wherever they begin
    r"|▁?[^\p{L}\p{M}\p{N}\s▁]+"  # marks, with the blank before them
    r"|▁+(?=▁[^\p{N}\s▁])|▁+"  # blanks, but for the last, which belongs to what follows
    r"|\n+|\s"
)
_CHARACTERS: Final = 4
"""At most one in so many tokens is a single character; rarer characters are written in bytes."""


def train_tokenizer(pages: Iterable[TrainingPage], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with exactly this many tokens.

    Args:
        pages: what it should be good at; pages that are held out are left out. Texts that come many times, such as a
            system part, count once.
        size: tokens, at least ``vocabulary.SMALLEST``.

    Returns:
        A BPE tokenizer that falls back to bytes: every text comes back as it was, but that ``▁`` is a blank.

    Raises:
        EngineError: the size is too small, or the pages too few for it.
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
        vocab_size=size,  # as many as there may be; some of them are among the fixed ones
        min_frequency=2,
        limit_alphabet=max(128, free // _CHARACTERS),
        initial_alphabet=["▁", *map(chr, range(33, 127))],
        show_progress=False,
    )
    learner.train_from_iterator(training_texts(pages), trainer)
    learned = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    taken = set(fixed.values())
    fresh = [piece for piece, _ in learned if piece not in taken][:free]
    if len(fresh) < free:
        raise EngineError(
            f"The pages have words for {len(fixed) + len(fresh):,} tokens, not for {size:,}. Give more pages, or a "
            f"smaller vocabulary."
        )
    more = iter(fresh)
    vocabulary = {fixed[at] if at in fixed else next(more): at for at in range(size)}
    runs = sorted((piece for piece in taken if piece.strip("\n") == "" or piece.strip("▁") == ""), key=len)
    tokenizer = build_bpe(vocabulary, [piece for piece in (*runs, *fresh) if len(piece) > 1])
    tokenizer.pre_tokenizer = words
    fast: PreTrainedTokenizerFast = as_fast(tokenizer, size)
    return fast


def training_texts(pages: Iterable[TrainingPage]) -> Iterator[str]:
    """All that a model reads and writes in these pages but what is held out, every text once."""
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
