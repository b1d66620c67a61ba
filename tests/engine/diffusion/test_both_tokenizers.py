"""The same behaviour with SentencePiece-like tokenizers, such as Gemma's, and byte-level ones, such as LFM2's."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("transformers")

from tests.benchmarks.schemas import SCHEMAS

from unwritten.formats.schema import json_schema_of, type_adapter
from unwritten_engine.diffusion.diffusion_gemma import random_tokenizer as gemma
from unwritten_engine.diffusion.lfm2 import random_tokenizer as lfm2
from unwritten_engine.diffusion.tokenization.canvas_plan import init_edit, plan_canvases
from unwritten_engine.diffusion.tokenization.detokenizer import DecodedText, Detokenizer
from unwritten_engine.diffusion.tokenization.schema_skeleton import Skeleton, build_skeleton
from unwritten_engine.errors import RequestRefused
from unwritten_engine.frames import Draft, Prompt, Request

REAL = 1100
"""Tokens that the model of the byte-level tokenizer can write; the tokenizer has 100 more."""
READERS = {
    "pieces": Detokenizer(gemma.make_tokenizer(1024), frozenset({1, 106, 50}), 0, 1024),
    "bytes": Detokenizer(lfm2.make_tokenizer(REAL + 100, REAL), frozenset({2, 7}), 0, REAL),
}
TEXTS = {
    "words": "The old bridge crosses the cold river.",
    "leading spaces": "   the river",
    "trailing spaces": "the river   ",
    "only spaces": "     ",
    "lines and tabs": "\n\n# The river\n\n\tIt is\t cold.\n",
    "Chinese": "东京的塔在河边，桥很旧。",
    "Japanese and Korean": "日本語の文章と、한국어 문장",
    "emoji": "🗼🌊 the river 🌉",
    "emoji with joiners": "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪",
    "right to left": "النهر القديم‏ and שלום",
    "combining marks": "e\u0301 a\u0308 Z\u0351\u036b\u0343 क्षि",
    "composed and decomposed": "\u00e9e\u0301\u212b\u00c5",
    "names of control tokens": "<|im_end|><|pad|> <turn|><|channel>thought\n<channel|> <|reserved_1150|><|reserved_",
    "spaces of both kinds": "▁the▁Ġthe Ġ ▁",
    "names of bytes": "<0x41><0x00> \\u00e9",
    "wide characters": "\U00010348\U0001f9ff\U000e0067\ufeff\u200b\u2028",
    "quotes": '"\'“”‘’`\\"\\n',
    "long": "The old bridge, 東京🗼 " * 450,
}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Detokenizer:
    return READERS[request.param]


def settled(reader: Detokenizer, ids: Sequence[int]) -> DecodedText:
    return reader.decode(ids, [False] * len(ids))


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_comes_back_from_its_tokens(reader: Detokenizer, name: str) -> None:
    text = TEXTS[name]
    ids = reader.encode(reader.protect_leading_space(text))
    assert settled(reader, ids).text == text
    assert max(ids) < reader.vocab_size and not reader.special_ids.intersection(ids)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("size", [1, 7, 32])
def test_a_text_grows_by_blocks(reader: Detokenizer, name: str, size: int) -> None:
    """Characters may be split over two blocks. What is shown of finished blocks never changes."""
    text = TEXTS[name][:400]
    ids = reader.encode(reader.protect_leading_space(text))
    before = DecodedText("")
    for end in range(size, len(ids) + size, size):
        whole = settled(reader, ids[:end])
        resumed = reader.decode(ids[:end], [False] * len(ids[:end]), before=before)
        assert resumed.text == whole.text and text.startswith(resumed.text)
        assert resumed.text.startswith(before.text) and resumed.starts == whole.starts
        before = resumed
    assert before.text == text


def test_no_draft_raises(reader: Detokenizer) -> None:
    rng = random.Random(3)
    for number in range(400):
        length = rng.choice((1, 2, 31, 32, 64, 300))
        ids = [rng.randrange(-1, reader.vocab_size + 200) for _ in range(length)]
        if number % 2:  # noise in a text, as in a draft of an edit
            start = reader.encode(TEXTS["emoji with joiners"] + TEXTS["Chinese"])
            ids = [id if rng.random() < 0.3 else real for id, real in zip(ids * 9, start, strict=False)]
        unsettled = [rng.random() < 0.7 for _ in ids]
        cut = rng.randrange(len(ids) + 1)
        before = reader.decode(ids[:cut], [False] * cut)
        for kept in (None, (cut // 2, cut)):
            decoded = reader.decode(ids, unsettled, kept_span=kept)
            decoded.text.encode()
            assert "\ufffd" not in decoded.text and "\x00" not in decoded.text
            assert len(decoded.starts) == len(ids) and list(decoded.starts) == sorted(decoded.starts)
            last = -1
            for a, b in decoded.unsettled:
                assert last < a < b <= len(decoded.text)
                last = b
        done = reader.decode(ids, [False] * len(ids))
        assert reader.decode(ids, [False] * len(ids), before=before).text == done.text


def test_tokens_beyond_the_real_ones_are_never_written() -> None:
    reader = READERS["bytes"]
    assert reader.vocab_size == REAL
    for name in ("<|reserved_1100|>", "<|reserved_1199|>"):
        ids = reader.encode(f"a {name} b")
        assert max(ids) < REAL and settled(reader, ids).text == f"a {name} b"
    assert settled(reader, [*reader.encode("a"), REAL, REAL + 99, *reader.encode("b")]).text == "ab"
    for mask in (reader.token_mask(pattern=r"(?s).*", parts=True, ids=(0,)), reader.token_mask(pattern="[0-9]+")):
        assert len(mask) == REAL and any(mask)
    plain = Detokenizer(lfm2.make_tokenizer(1200), frozenset({7}), 0, REAL)  # ordinary words beyond the real tokens
    words = plain.encode(
        "".join(
            Detokenizer(lfm2.make_tokenizer(1200), frozenset({7}), 0).token_bytes(id).decode()
            for id in range(REAL, 1200)
        )
    )
    assert max(words) < REAL and len(plain.token_mask(pattern=r"(?s).*")) == REAL


@pytest.mark.parametrize("char", ["\x00", "\r", "\x1b", "\ud800"])
def test_characters_that_are_never_shown_are_refused_in_openings_and_kept_text(reader: Detokenizer, char: str) -> None:
    def register(mask: bytes) -> int:
        return 1

    with pytest.raises(RequestRefused, match="unsupported character"):
        plan_canvases(Request(Prompt("Write.", opening=f"The{char}")), reader, 256, register)
    with pytest.raises(RequestRefused, match="unsupported character"):
        init_edit(Draft(f"The{char}river", ((0, 5),), 0.5), reader, budget=256)
    edit = init_edit(Draft(f"The{char}river", ((4, 9),), 0.5), reader, budget=256)
    assert settled(reader, edit.tokens).text == "Theriver"


@pytest.mark.parametrize("name", TEXTS)
def test_kept_text_is_pinned_exactly(reader: Detokenizer, name: str) -> None:
    text = TEXTS[name][:300]
    draft = Draft(f"{text}ab{text}", ((0, len(text)), (len(text) + 2, 2 * len(text) + 2)), 0.5)
    edit = init_edit(draft, reader, budget=4096)
    ids = [pin if pin >= 0 else token for pin, token in zip(edit.pins, edit.tokens, strict=True)]
    assert reader.decode(ids, [False] * len(ids), kept_span=edit.kept_span).text == draft.text


def fill(made: Skeleton, size: int, rng: random.Random, padding: float) -> list[str]:
    """Fill a skeleton at random within its masks, a block after the other. Return the JSON of every draft."""
    allowed = [[id for id, may in enumerate(mask) if may] for mask in made.masks]
    pad, texts = made.detokenizer.pad_id, []
    done: list[int] = []
    block: list[int] = []
    while len(done) <= made.length:
        slots = list(zip(made.pins, made.mask_ids, strict=True))[len(done) : len(done) + size]
        for _ in range(3):
            block = [
                pin if pin >= 0 else pad if pad in allowed[row - 1] and rng.random() < padding
                else rng.choice(allowed[row - 1])
                for pin, row in slots
            ]  # fmt: skip
            flags = [False] * len(done) + [pin < 0 and rng.random() < 0.5 for pin, _ in slots]
            texts.append(made.decode([*done, *block], flags).text)
        done += block
    return [*texts, made.decode(done, [False] * len(done)).text]


@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_draft_of_a_schema_is_valid(reader: Detokenizer, name: str, size: int) -> None:
    made = build_skeleton(json_schema_of(SCHEMAS[name]), reader, canvases=2, canvas_length=256)
    assert max(made.pins) < reader.vocab_size and all(len(mask) == reader.vocab_size for mask in made.masks)
    rng = random.Random(size)
    for padding in (0.0, 0.3, 0.9):
        for text in fill(made, size, rng, padding):
            value: Any = json.loads(text)
            assert isinstance(value, dict)
            type_adapter(SCHEMAS[name]).validate_json(text)
