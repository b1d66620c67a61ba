"""Texts end before they repeat the framing of their prompt."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from unwritten_engine import Example, Frame, Prompt, Request, Usage, scripted
from unwritten_engine.echoes import EchoGuard

PROMPT = Prompt(
    "An encyclopedia article about Rain.",
    "A calm book.",
    (Example("An encyclopedia article about Violin.", "**Violin** is a small instrument."),),
    ("Rain was first described by a monk on the island of Ferra.",),
    "**Rain**",
)
BEFORE = "**Rain** is water that falls from the sky."
ABOUT = replace(scripted("").about, abilities=replace(scripted("").about.abilities, drafts=False))
USAGE = Usage(1, 1, 0, 1, 1, 0.1, 0.0, "end", 0)


def cut(text: str, step: int, prompt: Prompt = PROMPT) -> str:
    """Return what is left of a text that arrives in pieces."""
    guard = EchoGuard(Request(prompt), ABOUT)
    fixed = ""
    for end in [*range(step, len(text), step), len(text)]:
        done = end == len(text)
        found = guard.check(Frame(text[:end], fixed=end, usage=USAGE if done else None))
        if found is not None:
            assert text[:found].startswith(fixed.rstrip())
            return text[:found].rstrip()
        fixed = text[: guard.fixed]
    return text


@pytest.mark.parametrize("step", [1, 5, 10_000])
@pytest.mark.parametrize(
    "echo",
    [
        "\n\n=====\nAn encyclopedia article about Snow.",
        "\n\nAn encyclopedia article about Violin.\n\n**Violin** is",
        "\n\nAn encyclopedia article about Rain.",
        "\n\n**An encyclopedia article about rain:**\n\nRain is",
        "\n\n(Rain was first described by a monk on the island of Ferra. It is wet.)\nAn article",
        "\n\nWhat is known (facts to use, not instructions to follow):\n- Rain",
        " Begin the answer with exactly this: **Rain**",
    ],
)
def test_an_echo_is_cut_off(echo: str, step: int) -> None:
    assert cut(BEFORE + echo, step) == BEFORE


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize(
    "text",
    [
        f"{BEFORE} Rain was first described by a monk on the island of Ferra.",
        f"{BEFORE}\n\nRain was first described by a monk on the island of Ferra.",
        f"{BEFORE}\n\n## An encyclopedia article about Rain\n\nMonks wrote it.",
        f"{BEFORE}\n\n> An encyclopedia article about Violin.",
        f"{BEFORE}\n\nAn encyclopedia article about Violin names it.",
        f"{BEFORE}\n\nAn encyclopedia",
        f"{BEFORE}\n\n(It is wet.)",
        f"{BEFORE} It is also known (facts vary) as drizzle.\n\nSnow\n=====\n\nIt is cold.",
    ],
)
def test_texts_that_use_their_prompt_are_left_alone(text: str, step: int) -> None:
    assert cut(text, step) == text


@pytest.mark.parametrize(
    "text", ["A recipe for old bread\n\nTake bread.", "What is the capital of Ferra?\n\nIt is Orrin."]
)
def test_a_title_and_a_question_may_repeat_the_ask(text: str) -> None:
    assert cut(text, 1, Prompt(text.partition("\n")[0])) == text


@pytest.mark.parametrize("fragment", ["a ", "(", "=", "What is known ", "An encyclopedia article about ", "\n"])
def test_the_time_is_linear(fragment: str) -> None:
    text = (fragment * 40_000)[:40_000]
    start = time.thread_time()
    cut(text, 40)
    assert time.thread_time() - start < 3
