"""A synthetic tokenizer in the format of Gemma 4's, for small random models. Nothing is downloaded.

Ids of control tokens, byte tokens and the chat template equal the real ones, so that code works with both. Other tokens
are common English words and syllables, then generated words.
"""

from __future__ import annotations

from typing import Any, Final

from ..loading.random_words import readable

_CONTROLS: Final = {
    0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 4: "<mask>",
    46: "<|tool>", 47: "<tool|>", 48: "<|tool_call>", 49: "<tool_call|>", 50: "<|tool_response>",
    51: "<tool_response|>", 52: '<|"|>', 98: "<|think|>", 100: "<|channel>", 101: "<channel|>",
    105: "<|turn>", 106: "<turn|>",
}  # fmt: skip
_MEDIA: Final = {
    255_999: "<|image>", 256_000: "<|audio>", 258_880: "<|image|>", 258_881: "<|audio|>", 258_882: "<image|>",
    258_883: "<audio|>", 258_884: "<|video|>",
}  # fmt: skip
_RUNS, _BYTES, _PIECES, _REAL = 107, 238, 494, 262_144
MIN_VOCAB_SIZE: Final = 640
"""The smallest vocabulary: control tokens, bytes, characters of English, and some words."""
_TAGS: Final = """
a abbr article aside b blockquote body br button caption code dd div dl dt em figcaption figure footer h1 h2 h3 h4
header hr i img li main mark nav ol p pre s section small span strong sub sup table tbody td th thead tr u ul
""".split()
CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{%- macro said(content) -%}"
    "{%- if content is string -%}{{ content | trim }}"
    "{%- else -%}"
    "{%- for part in content -%}"
    "{%- if part.type == 'text' -%}{{ part.text | trim }}"
    "{%- elif part.type in ('image', 'video') -%}{{ '<|' ~ part.type ~ '|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{%- endmacro -%}"
    "{%- set ns = namespace(thinks=enable_thinking | default(false)) -%}"
    "{%- if ns.thinks and (not messages or messages[0].role != 'system') -%}"
    "{{ '<|turn>system\\n<|think|>\\n<turn|>\\n' }}"
    "{%- set ns.thinks = false -%}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' }}"
    "{%- if loop.first and ns.thinks -%}{{ '<|think|>\\n' }}{%- endif -%}"
    "{{ said(message.content) }}"
    "{{ '<turn|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}{%- endif -%}"
)
"""Turns as in Gemma 4; with ``enable_thinking`` the system turn starts with ``<|think|>``."""


def control_ids(vocabulary: int) -> dict[str, int]:
    """Return the ids of control tokens by name. In a small vocabulary, image tokens have lower ids."""
    media = _MEDIA if vocabulary == _REAL else {_PIECES + at: name for at, name in enumerate(_MEDIA.values())}
    return {name: at for at, name in (_CONTROLS | media).items()}


def make_tokenizer(vocabulary: int) -> Any:
    """Return a fast tokenizer of ``transformers`` with exactly this many tokens.

    Args:
        vocabulary: number of tokens, at least ``MIN_VOCAB_SIZE``.

    Raises:
        ValueError: the vocabulary is too small.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    if vocabulary < MIN_VOCAB_SIZE:
        raise ValueError(f"A vocabulary of {vocabulary} tokens is too small; the smallest has {MIN_VOCAB_SIZE}.")
    pieces = _pieces(vocabulary)
    # Equal scores minimize the number of tokens.
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return as_fast(tokenizer, vocabulary)


def as_fast(tokenizer: Any, vocabulary: int) -> Any:
    """Convert a tokenizer of ``tokenizers`` to ``transformers``, with the control tokens and chat template of Gemma 4.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` with the tokens of ``fixed_pieces`` at their ids.
        vocabulary: number of tokens.
    """
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    controls = control_ids(vocabulary)
    reserved = [piece for at, piece in sorted(fixed_pieces(vocabulary).items()) if at < _RUNS]
    names = [*controls, *(piece for piece in reserved if piece not in controls)]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    named = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    media = {"boi": "<|image>", "eoi": "<image|>", "image": "<|image|>", "boa": "<|audio>", "eoa": "<audio|>"}
    media |= {"audio": "<|audio|>", "video": "<|video|>", "sot": "<|turn>", "eot": "<turn|>"}
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        **{f"{key}_token": name for key, name in named.items()},
        extra_special_tokens={f"{key}_token": name for key, name in media.items()},
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def fixed_pieces(vocabulary: int) -> dict[int, str]:
    """Return the tokens with the same ids in every vocabulary: control tokens, runs of blanks, bytes."""
    fixed = {at: name for name, at in control_ids(vocabulary).items()}
    fixed |= {at: f"<unused{at}>" for at in range(_RUNS) if at not in fixed}
    fixed |= {_RUNS + at: "\n" * (at + 1) for at in range(31)} | {138 + at: "▁" * (at + 2) for at in range(30)}
    return fixed | {_BYTES + at: f"<0x{at:02X}>" for at in range(256)}


def _pieces(vocabulary: int) -> list[str]:
    """Return all tokens by id."""
    fixed = fixed_pieces(vocabulary)
    tags = [f"<{tag}>" for tag in _TAGS] + [f"</{tag}>" for tag in _TAGS]
    fixed |= {168 + at: tag for at, tag in enumerate(tags[:70])}
    taken = set(fixed.values())
    more = readable()
    pieces = []
    for at in range(vocabulary):
        piece = fixed.get(at)
        if piece is None:
            piece = next(text for text in more if text not in taken)
            taken.add(piece)
        pieces.append(piece)
    return pieces
