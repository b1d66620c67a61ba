"""Tokenizers trained on pages: exact size, exact texts, control tokens where the engine looks for them."""

from typing import Any

import pytest

from unwritten_engine import EngineError, Example, Prompt
from unwritten_engine.diffusion.diffusion_gemma.random_model import END_IDS
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import control_ids
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.training.dataset import TrainingPage, is_held_out
from unwritten_engine.training.tokenizer_training import build_bpe, train_tokenizer

PLACES = "lighthouse harbor island mountain river garden library station market bridge tower forest valley".split()
THINGS = "keeper morning window letter winter street painter teacher captain traveller stranger neighbour".split()
PAGES = [
    TrainingPage(
        Prompt(f"An article about the {place}.", system="You write an encyclopedia that nobody has read.\n"),
        f"**The {place}** was built in 18{at}; the {thing} of the {place} remembers [[{thing}]]s.\n\n* {thing}\n",
        title=f"{place} and {thing}",
    )
    for at, place in enumerate(PLACES)
    for thing in THINGS
]
TEXTS = [
    "the city of water",
    "wörld, été 😀 東京\n\n  two   three",
    '{"a": [1, 2.5, null]}',
    "\ttab  and   blanks \r\n",
    " " * 70 + "x" + "\n" * 50,
    "Built in 1887, [[rebuilt]] in **1923**.",
    "<0x41> is no byte here; <b>bold</b>",
    "",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(PAGES, 680)


def test_every_id_has_its_own_piece(tokenizer: Any) -> None:
    assert len(tokenizer) == len(set(tokenizer.convert_ids_to_tokens(range(680)))) == 680


def test_control_tokens_have_the_real_ids(tokenizer: Any) -> None:
    for name, at in control_ids(680).items():
        assert tokenizer.convert_tokens_to_ids(name) == at
        assert tokenizer(f"a{name}b", add_special_tokens=False)["input_ids"][1] == at
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 1, 2)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Now."}], tokenize=False)
    assert text == "<bos><|turn>user\nNow.<turn|>\n"


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_decoded_exactly(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    reader = Detokenizer(tokenizer, frozenset(END_IDS), 0)
    read = reader.encode(text)
    assert b"".join(map(reader.token_bytes, read)).decode() == text


def test_common_words_are_one_token_and_digits_stand_alone(tokenizer: Any) -> None:
    assert tokenizer.tokenize(" the lighthouse of 1887") == ["▁the", "▁lighthouse", "▁of", "▁", "1", "8", "8", "7"]
    assert tokenizer.tokenize("a\n\n\nb") == ["a", "\n\n\n", "b"]
    assert tokenizer.tokenize("😀") == ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]
    assert not [piece for piece in tokenizer.get_vocab() if len(piece) > 1 and any(map(str.isdigit, piece))
                and piece[0] != "<"]  # fmt: skip


def test_the_same_pages_give_the_same_tokenizer(tokenizer: Any) -> None:
    assert train_tokenizer(PAGES, 680).get_vocab() == tokenizer.get_vocab()


def test_held_out_pages_are_skipped_and_duplicates_count_once() -> None:
    title = next(f"Xylograph {at}" for at in range(10_000) if is_held_out(f"Xylograph {at}"))
    hidden = [TrainingPage(Prompt("Say."), f"xylographic {at}", title=title) for at in range(500)]
    example = (Example("Zzyzx?", "Zzyzx."),)
    often = [TrainingPage(Prompt(f"Say {at}.", examples=example), "It is.") for at in range(500)]
    pieces = train_tokenizer([*PAGES, *hidden, *often], 680).get_vocab()
    assert not [piece for piece in pieces if "xy" in piece.lower() or "zz" in piece.lower()]


def test_an_impossible_vocabulary_is_reported() -> None:
    with pytest.raises(EngineError, match="639 tokens is too small"):
        train_tokenizer(PAGES, 639)
    with pytest.raises(EngineError, match=r"only provide \d[\d,]+ tokens, not 20,000"):
        train_tokenizer(PAGES, 20_000)


def test_the_earlier_piece_merges_first() -> None:
    vocabulary = {piece: at for at, piece in enumerate(["<unk>", "a", "b", "c", "ab", "bc", "abc"])}
    assert build_bpe(vocabulary, ["ab", "bc", "abc"]).encode("abcbc").tokens == ["abc", "bc"]
    assert build_bpe(vocabulary, ["bc", "ab"]).encode("abcab").tokens == ["a", "bc", "ab"]
