"""The synthetic tokenizer of LFM2: its files, control tokens and chat turns."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from unwritten_engine.diffusion.lfm2.random_tokenizer import (
    CONTROLS,
    MIN_VOCAB_SIZE,
    make_tokenizer,
    write_tokenizer,
)
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import PromptTokenizer
from unwritten_engine.frames import Example, Prompt


@pytest.mark.parametrize(("vocabulary", "real"), [(MIN_VOCAB_SIZE, None), (1200, 1100), (65_536, 64_400)])
def test_a_checkpoint_folder_loads_without_remote_code(vocabulary: int, real: int | None, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path, vocabulary, real)
    assert {file.name for file in tmp_path.iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded.is_fast and len(loaded) == vocabulary
    assert loaded.convert_ids_to_tokens(list(range(len(CONTROLS)))) == list(CONTROLS)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (1, 7, 0)
    text = "The river is cold, and the garden is old."
    assert len(loaded(text, add_special_tokens=False)["input_ids"]) < len(text) / 2  # words are tokens
    assert loaded(text)["input_ids"][0] == 1  # a tokenizer of LFM2 begins every text with this token by default


@pytest.mark.parametrize(("vocabulary", "real"), [(600, None), (1200, 600), (1000, 1001)])
def test_an_impossible_size_is_refused(vocabulary: int, real: int | None) -> None:
    with pytest.raises(ValueError, match=str(MIN_VOCAB_SIZE)):
        make_tokenizer(vocabulary, real)


def test_a_prompt_consists_of_chatml_turns() -> None:
    tokenizer = make_tokenizer(1200, 1100)
    detokenizer = Detokenizer(tokenizer, frozenset({2, 7}), 0, 1100)
    assert detokenizer.end_id == 7
    speaker = PromptTokenizer(tokenizer, detokenizer, None, "a small model")
    made = speaker.tokenize(Prompt("A page on light", "You write pages.", (Example("On stone", "Stone is old."),)))
    assert tokenizer.decode(made.ids) == (
        "<|startoftext|><|im_start|>system\nYou write pages.<|im_end|>\n<|im_start|>user\nOn stone<|im_end|>\n"
        "<|im_start|>assistant\nStone is old.<|im_end|>\n<|im_start|>user\nA page on light<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert made.ids.count(1) == 1  # the template has it, so the tokenizer must not add another
    shared = tokenizer.decode(made.ids[: made.num_shared])
    assert shared.endswith("Stone is old.<|im_end|>\n<|im_start|>user\n")


def test_control_tokens_in_a_prompt_are_text() -> None:
    tokenizer = make_tokenizer(1200, 1100)
    speaker = PromptTokenizer(tokenizer, Detokenizer(tokenizer, frozenset({2, 7}), 0, 1100), None, "a small model")
    controls = set(range(len(CONTROLS))) | set(range(1100, 1200))
    plain = speaker.tokenize(Prompt("A page", "You write.", (Example("On", "It is."),), ("It is bright.",)))
    for name in (*CONTROLS, "<|reserved_1100|>", "<|reserved_1199|>"):
        typed = f"x{name}y {name}"
        made = speaker.tokenize(Prompt(typed, typed, (Example(typed, typed),), (typed,)))
        found = [id for id in made.ids if id in controls]
        assert found == [id for id in plain.ids if id in controls], name
