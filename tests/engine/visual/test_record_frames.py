"""The frames of one request, for any blocks that the program may write."""

from __future__ import annotations

import itertools
import random

import pytest

from unwritten_engine.frames import Frame
from unwritten_engine.visual.program import (
    CommitRecord,
    DraftRecord,
    ErrorRecord,
    StatsRecord,
    UnknownRecord,
    parse_line,
)
from unwritten_engine.visual.record_frames import RecordFrames

WORDS = ("a", "lamp", "bright", "lighthouse", "tea\n\n", "東京", "thought", "<b>", "x" * 30)


def test_lines_are_parsed() -> None:
    assert parse_line("DONE") is None
    assert parse_line('F 1 0 48 "a \\"b\\"\\n"') == DraftRecord(1, 1, 48, 'a "b"\n')
    assert parse_line('C 0 "<|channel>\\u00e9"') == CommitRecord(0, "<|channel>é")
    stats = parse_line("STATS prompt_n=3 predicted_n=256 wall_ms=9.5 blocks=1")
    assert stats == StatsRecord({"prompt_n": 3, "predicted_n": 256, "blocks": 1})
    assert parse_line("ERR toolong 5000 4096") == ErrorRecord("toolong", "5000 4096")
    assert parse_line("ERR") == ErrorRecord("", "")
    for line in ("", "F", 'F 0 1 "x"', "F 0 1 48 x", 'F 0 1 48 "x', "C 0 3", 'C x "y"', "DONE 1", "READY 5 5", "\0"):
        assert isinstance(parse_line(line), UnknownRecord), line


def blocks_of(chance: random.Random, count: int) -> list[str]:
    """Return the texts of some blocks. Thoughts are opened and closed, and the last may stay open."""
    blocks, is_open = [], False
    for _ in range(count):
        block = ""
        for _ in range(chance.randint(1, 60)):
            if chance.random() < 0.04:
                block += "<channel|>" if is_open else "<|channel>thought\n"
                is_open = not is_open
            block += chance.choice(WORDS) + chance.choice(("", " "))
        blocks.append(block)
    return blocks


@pytest.mark.parametrize("seed", range(60))
def test_fixed_text_stays_and_the_budget_holds(seed: int) -> None:
    chance = random.Random(seed)
    budget, canvas_length = chance.choice((16, 64, 100)), 32
    texts = RecordFrames(budget, canvas_length)
    frames: list[Frame] = []
    committed = ""
    for number, block in enumerate(blocks_of(chance, 8)):
        for step in range(chance.randint(0, 4)):
            noise = "".join(chance.choice((word, "q ")) for word in block.split(" "))
            frames.append(texts.draft(DraftRecord(number, step + 1, 48, noise if step < 3 else block)))
        committed += block
        frames.append(texts.commit(CommitRecord(number, committed)))
        if texts.full:
            break
    last = texts.last({}, seconds=1.0, queued=0.0, seed=1)
    if last is not None:
        frames.append(last)
    for frame, later in itertools.pairwise(frames):
        assert later.text.startswith(frame.text[: frame.fixed])
        assert later.fixed >= frame.fixed
        assert all(frame.fixed <= start < end <= len(frame.text) for start, end in frame.unsettled)
        assert not any(mark in frame.text for mark in ("<|channel>", "<channel|>"))
    if last is not None:
        assert last.usage is not None and last.usage.tokens <= budget and last.usage.reason == "length"
