from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers")

from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer, cut_at_stop
from unwritten_engine.errors import ModelUnsupported


def byte_level() -> Any:
    """A tokenizer in the manner of GPT-2, with a few merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġt", "Ġthe", "in", "æĿ"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "t"), ("Ġt", "he"), ("i", "n"), ("æ", "Ŀ")]
    merges = [merge for merge in merges if all(part in pieces for part in merge)]
    made = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(
        [AddedToken(name, special=True) for name in ("<pad>", "<turn|>", "<|channel>", "<channel|>")]
    )
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=made, eos_token="<turn|>", pad_token="<pad>")


def like_llama() -> Any:
    """A tokenizer that puts a space before every text, and takes it away again."""
    made = make_tokenizer(1000)
    from tokenizers import decoders, normalizers

    made.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def reader_of(tokenizer: Any) -> Detokenizer:
    ends = tokenizer.convert_tokens_to_ids("<turn|>")
    return Detokenizer(tokenizer, frozenset({ends}), tokenizer.convert_tokens_to_ids("<pad>"))


READERS = {
    "pieces": reader_of(make_tokenizer(2000)),
    "bytes": reader_of(byte_level()),
    "llama": reader_of(like_llama()),
}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Detokenizer:
    return READERS[request.param]


def settled(reader: Detokenizer, ids: Any) -> str:
    return reader.decode(list(ids), [False] * len(ids)).text


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t▁"), max_size=40)


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.sampled_from(sorted(READERS)))
def test_text_is_decoded_from_its_tokens(text: str, name: str) -> None:
    reader = READERS[name]
    ids = reader.encode(reader.protect_leading_space(text))
    assert not reader.special_ids.intersection(ids)
    assert settled(reader, ids) == text


def test_names_of_special_tokens_in_a_text_are_text(reader: Detokenizer) -> None:
    text = "a <turn|> b<|channel>thought<channel|><pad>"
    ids = reader.encode(text)
    assert settled(reader, ids) == text and not reader.special_ids.intersection(ids)


def test_nothing_is_shown_after_the_first_end(reader: Detokenizer) -> None:
    ids = [*reader.encode("the"), reader.end_id, *reader.encode("in"), reader.pad_id]
    reading = reader.decode(ids, [True] * len(ids))
    assert (reading.text, reading.ended, reading.unsettled) == ("the", True, ((0, 3),))
    assert reading.num_tokens == len(reader.encode("the"))


def test_incomplete_characters_are_withheld(reader: Detokenizer) -> None:
    tower = [reader.token_for(bytes([byte])) for byte in "東".encode()]
    ids = [id for id in tower if id is not None]
    assert len(ids) == 3
    assert settled(reader, ids[:2]) == "" and settled(reader, ids) == "東"
    assert settled(reader, [*ids[:2], *reader.encode("a"), *ids[1:]]) == "a"
    reading = reader.decode([*reader.encode("a"), *ids], [False] * len(reader.encode("a")) + [False, True, False])
    assert reading.unsettled == ((1, 2),)
    assert (
        reader.decode([*reader.encode("a"), *ids[:2]], [False] * len(reader.encode("a")) + [True] * 2).unsettled == ()
    )


def test_control_characters_are_withheld(reader: Detokenizer) -> None:
    ids = [id for byte in b"\x00\x1b\r\x7f\t\n" if (id := reader.token_for(bytes([byte]))) is not None]
    assert set(settled(reader, ids)) <= {"\t", "\n"}


def channel(reader: Detokenizer, tokenizer: Any) -> tuple[int, int]:
    return tokenizer.convert_tokens_to_ids("<|channel>"), tokenizer.convert_tokens_to_ids("<channel|>")


@pytest.mark.parametrize("make", [lambda: make_tokenizer(700), byte_level])
def test_a_thought_at_the_beginning_is_stripped(make: Any) -> None:
    tokenizer = make()
    reader = reader_of(tokenizer)
    (opened, closed), label, said = channel(reader, tokenizer), reader.encode("thought\n"), reader.encode("the answer")
    for before in (
        (opened, *label, closed),
        (opened, closed),
        (opened, *label, *said, closed),
        (*label, closed),
        (closed,),
    ):
        assert settled(reader, [*before, *said]) == "the answer"
    assert settled(reader, [opened, *label, *said]) == ""
    ended = reader.decode([opened, *said, reader.end_id, closed], [False] * (len(said) + 3))
    assert ended.ended and ended.text == ""
    assert not reader.decode([opened, *label], [False] * (1 + len(label))).resumable
    assert settled(reader, said) == "the answer"
    assert settled(reader, [*said, opened, *said]) == "the answer" * 2


def test_thoughts_are_stripped_anywhere() -> None:
    tokenizer = make_tokenizer(700)
    reader = reader_of(tokenizer)
    (opened, closed), label = channel(reader, tokenizer), reader.encode("thought\n")
    start, said = reader.encode("Hello world"), reader.encode(" and more.")
    for thought in (
        (opened, *label, closed),
        (opened, closed),
        (opened, *label, *said, closed),
        (*label, closed),  # the opening marker is not settled yet
        (closed,),
    ):
        kept = (0, len(start))
        ids = [*start, *thought, *said]
        assert reader.decode(ids, [False] * len(ids), kept_span=kept).text == "Hello world and more."
        assert settled(reader, ids) == "Hello world and more."
        assert settled(reader, [*thought, *ids]) == "Hello world and more."
        assert settled(reader, [*ids, *thought, *said]) == "Hello world and more. and more."
    open_thought = [*start, opened, *label, *said]
    assert settled(reader, open_thought) == "Hello world"
    assert settled(reader, [*open_thought, reader.end_id, closed]) == "Hello world"
    # Kept text is not hidden, and the text before it is not a part of it.
    ids = [opened, *label, *start, *said]
    first = 1 + len(label)
    assert reader.decode(ids, [False] * len(ids), kept_span=(first, first + len(start))).text == "Hello world and more."
    assert settled(reader, [*start, opened, *said]) == "Hello world and more."  # noise does not hide the rest
    # A word of the text is no label.
    assert settled(reader, [*reader.encode("a thought"), *said]) == "a thought and more."


def test_a_thought_may_continue_in_the_next_canvas() -> None:
    tokenizer = make_tokenizer(700)
    reader = reader_of(tokenizer)
    (opened, closed), label = channel(reader, tokenizer), reader.encode("thought\n")
    start, said = reader.encode("Hello world"), reader.encode(" and more.")
    for thought in ([opened, *label, *said, closed], [opened, *label, closed]):
        ids = [*start, *thought, *said]
        for split in range(len(start), len(ids)):
            flags = [False] * len(ids)
            before = reader.decode(ids[:split], flags[:split])
            assert "Hello world and more.".startswith(before.text)
            assert reader.decode(ids, flags, before=before).text == "Hello world and more."
            assert before.in_thought == (opened in ids[:split] and closed not in ids[:split])


def test_a_marker_at_the_end_of_a_block_may_be_noise() -> None:
    tokenizer = make_tokenizer(700)
    reader = reader_of(tokenizer)
    (opened, _), start, said = channel(reader, tokenizer), reader.encode("Hello"), reader.encode(" and more.")
    ids = [*start, opened, *said]
    before = reader.decode(ids[: len(start) + 1], [False] * (len(start) + 1))
    flags = [False] * len(ids)
    assert reader.decode(ids, flags, before=before) == reader.decode(ids, flags)
    assert reader.decode(ids, flags).text == "Hello and more."


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(sorted(READERS)))
def test_any_tokens_give_clean_text_with_spans_inside(data: st.DataObject, name: str) -> None:
    reader = READERS[name]
    ids = data.draw(st.lists(st.integers(0, reader.vocab_size - 1), max_size=60))
    flags = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    reading = reader.decode(ids, flags)
    reading.text.encode()
    assert all(char in "\n\t" or (char >= " " and not "\x7f" <= char < "\xa0") for char in reading.text)
    end = -1
    for a, b in reading.unsettled:
        assert end < a < b <= len(reading.text)
        end = b
    assert len(reading.starts) == len(ids) and list(reading.starts) == sorted(reading.starts)
    assert reader.decode(ids, [False] * len(ids)).unsettled == ()
    assert reader.decode(ids, [True] * len(ids)).unsettled == (((0, len(reading.text)),) if reading.text else ())
    at = data.draw(st.integers(0, len(ids)))
    assert reader.decode(ids, flags, before=reader.decode(ids[:at], flags[:at])) == reading


def test_ids_outside_the_vocabulary_are_ignored(reader: Detokenizer) -> None:
    assert settled(reader, [reader.vocab_size + 5, *reader.encode("in"), -1]) == "in"


def test_stop_strings_cut_settled_text_only(reader: Detokenizer) -> None:
    ids = reader.encode("the end. the rest.")
    reading = cut_at_stop(reader.decode(ids, [False] * len(ids)), (". ", "rest"))
    assert reading.text == "the end" and reading.ended and reading.num_tokens < len(ids)
    assert all(start <= 7 for start in reading.starts)
    unsettled = reader.decode(ids, [True] * len(ids))
    assert cut_at_stop(unsettled, (". ",)) == unsettled
    half = reader.decode(ids, [at < 3 for at in range(len(ids))])
    assert cut_at_stop(half, (".",)).unsettled == half.unsettled


def test_a_canvas_is_read_in_a_fraction_of_a_millisecond(reader: Detokenizer) -> None:
    rng = random.Random(1)
    ids = [rng.choice([id for id in range(reader.vocab_size) if id not in reader.special_ids]) for _ in range(256)]
    flags = [rng.random() < 0.5 for _ in ids]

    def once() -> float:
        begun = time.thread_time()
        reader.decode(ids, flags)
        return time.thread_time() - begun

    assert min(once() for _ in range(30)) < 0.001


def test_other_tokenizers_are_refused() -> None:
    from tokenizers import decoders

    tokenizer = make_tokenizer(700)
    tokenizer.backend_tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(ModelUnsupported, match="decoder is WordPiece"):
        reader_of(tokenizer)
    assert json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]["type"] == "WordPiece"
