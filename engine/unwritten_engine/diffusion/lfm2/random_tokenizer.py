"""A synthetic tokenizer in the format of LFM2's, for small random models. Nothing is downloaded.

It is a byte-level BPE with the same control tokens, at the same ids, and the same form of chat turns. Its other tokens
are bytes, common English words and syllables, parts of characters, and generated words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..loading.random_words import readable

CONTROLS: Final = (
    "<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>", "<|fim_suf|>", "<|im_start|>",
    "<|im_end|>", "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>",
    "<|tool_response_start|>", "<|tool_response_end|>",
)  # fmt: skip
"""The control tokens, from id 0."""
MIN_VOCAB_SIZE: Final = 640
"""The smallest vocabulary: control tokens, bytes and some words."""
_WHOLE_CHARACTERS: Final = "éèüöäñçøåß–—“”’…·°東日本語中文"
CHAT_TEMPLATE: Final = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""Turns as in LFM2, without tools."""


def make_tokenizer(vocabulary: int, real: int | None = None) -> Any:
    """Return a fast tokenizer of ``transformers`` with exactly this many tokens.

    Args:
        vocabulary: number of tokens.
        real: number of tokens that the model can write, at least ``MIN_VOCAB_SIZE``; the others are reserved. None for
            all.

    Raises:
        ValueError: the vocabulary is too small.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    real = vocabulary if real is None else real
    if not MIN_VOCAB_SIZE <= real <= vocabulary:
        raise ValueError(
            f"A vocabulary of {vocabulary} tokens, {real} of them real, is not possible; the smallest has "
            f"{MIN_VOCAB_SIZE} real ones."
        )
    ids = {name: at for at, name in enumerate(CONTROLS)}
    merges: list[tuple[str, str]] = []
    for piece in _pieces():
        if len(ids) == real:
            break
        if piece not in ids:
            parts = next(((piece[:at], piece[at:]) for at in range(1, len(piece)) if _can_merge(piece, at, ids)), None)
            merges += [parts] if parts else []
            ids[piece] = len(ids)
    reserved = [f"<|reserved_{at}|>" for at in range(real, vocabulary)]
    ids |= {name: real + at for at, name in enumerate(reserved)}
    # A word that is a token is used whole, so that it needs no merges.
    tokenizer: Any = Tokenizer(models.BPE(ids, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    begin = CONTROLS[1]
    tokenizer.post_processor = processors.TemplateProcessing(f"{begin} $A", special_tokens=[(begin, ids[begin])])
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*CONTROLS, *reserved)])
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token="<|im_end|>",  # noqa: S106 - the end of a turn, not a password
        pad_token="<|pad|>",  # noqa: S106
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def write_tokenizer(folder: str | Path, vocabulary: int, real: int | None = None) -> None:
    """Write the files of a tokenizer into a checkpoint folder. The arguments are those of ``make_tokenizer``."""
    make_tokenizer(vocabulary, real).save_pretrained(str(folder))


def _can_merge(piece: str, at: int, ids: dict[str, int]) -> bool:
    return piece[:at] in ids and piece[at:] in ids


def _pieces() -> Iterator[str]:
    """Yield the tokens after the control tokens, in the characters of byte-level vocabularies. Some are repeated."""
    from tokenizers import pre_tokenizers

    yield from sorted(pre_tokenizers.ByteLevel.alphabet())
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for char in _WHOLE_CHARACTERS:
        ((piece, _),) = as_bytes.pre_tokenize_str(char)
        yield from (f"Ġ{piece[0]}", piece[:2], piece)  # parts of characters, as training gives them
    for text in readable():
        ((piece, _),) = as_bytes.pre_tokenize_str(text.replace("▁", " "))
        yield piece
