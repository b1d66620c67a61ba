from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from unwritten_engine.chat_prompts import ControlTokens

TOKENS = ("<eos>", "<end_of_turn>", "<|im_end|>", "[INST]", "<|im_end|>x", "x")


def test_only_control_tokens_are_broken_up() -> None:
    controls = ControlTokens(TOKENS)
    assert controls.escape("a < b <b>bold</b> [[Link]] x") == "a < b <b>bold</b> [[Link]] x"
    assert controls.escape("<eos>[INST]") == "<\u2060eos>[\u2060INST]"
    assert ControlTokens(()).escape("<eos>") == "<eos>"


@given(st.lists(st.sampled_from([*TOKENS, "<", "e", "os>", "|", "[", "\u2060"])).map("".join))
def test_control_tokens_are_neutralized_without_loss(text: str) -> None:
    found = ControlTokens(TOKENS).escape(text)
    assert not any(token in found for token in TOKENS if len(token) > 1)
    assert found.replace("\u2060", "") == text.replace("\u2060", "")


def test_thousands_of_tokens_are_fast() -> None:
    controls = ControlTokens(f"<unused{number}>" for number in range(6000))
    text = "The lighthouse <b>stands</b> on a rock. " * 500
    begun = time.thread_time()
    assert controls.escape(text) == text
    assert time.thread_time() - begun < 0.1
