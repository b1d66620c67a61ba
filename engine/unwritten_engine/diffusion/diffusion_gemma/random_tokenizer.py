"""A synthetic tokenizer in the format of Gemma 4's, for small random models. Nothing is downloaded.

Ids of control tokens, byte tokens and the chat template equal the real ones, so that code works with both. Other tokens
are common English words and syllables, then generated words.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

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
_WORDS: Final = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one
you were all her she there would their we him been has when who will no more if out so up said what its about than
into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many off before must well back through years where much your way down should because each
long those people world day life house water light city river garden letter winter morning night story book page
stone paper glass bread music color window street mountain island forest valley harbor market bridge tower library
under between again never always often small great old young high low cold warm quiet bright dark green blue red
white black round open last next early late left right north south east west hand eye head heart word name line end
begin write read walk turn hold bring find give take make keep call show move live believe happen become remember
""".split()
_SYLLABLES: Final = """
ing ed er es ly tion al en ment ness able est ity ous ive ful less ish ar or an in on at it is re un dis pre con com
pro ex de be th ch sh st tr pl gr br cl fr wh qu ck ll ss tt ee oo ea ai ou ow ay ie igh ound ight
""".split()
_ONSETS: Final = "b br c ch d dr f fl g gl h j k l m n p pl qu r s sh st t th tr v w y z".split()
_NUCLEI: Final = "a e i o u ai ea ia ou".split()
_CODAS: Final = ("", *"l m n r s t nd rk lm st ng".split())
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
    more = _readable()
    pieces = []
    for at in range(vocabulary):
        piece = fixed.get(at)
        if piece is None:
            piece = next(text for text in more if text not in taken)
            taken.add(piece)
        pieces.append(piece)
    return pieces


def _readable() -> Iterator[str]:
    """Yield the other tokens: characters, words, syllables, capitalized words, and generated words."""
    yield "▁"
    yield "\t"
    yield from (chr(code) for code in range(33, 127))
    yield from ("system", "user", "model", "thought")
    for word in _WORDS:
        yield f"▁{word}"
    yield from _SYLLABLES
    yield from "éèüöäñçøåß–—“”’…·°"
    for word in _WORDS:
        yield f"▁{word.capitalize()}"
    yield from _WORDS
    syllables = [onset + nucleus + coda for coda in _CODAS for nucleus in _NUCLEI for onset in _ONSETS]
    random.Random(1).shuffle(syllables)  # noqa: S311 - not for secrets; the same vocabulary every time
    for at, second in enumerate(("", *syllables)):
        for first in syllables:
            yield f"▁{first}{second}"
            if at % 4 == 0:
                yield first + second
