"""Requests that are denoised in blocks: frames, ends, and values of schemas, with both kinds of tokenizers."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from tests.benchmarks.schemas import SCHEMAS
from tests.engine.diffusion.test_both_tokenizers import READERS, TEXTS

from unwritten.formats.schema import json_schema_of, type_adapter
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SamplingParams
from unwritten_engine.diffusion.model_runner import TokenMasks
from unwritten_engine.diffusion.sequence import BlockState, Sequence
from unwritten_engine.diffusion.tokenization.canvas_plan import plan_canvases
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import TokenizedPrompt
from unwritten_engine.frames import Draft, Frame, Prompt, Request

STEPS = 4


def generate(seq: Sequence, choose: Callable[[int, int], int], rng: random.Random) -> list[Frame]:
    """Return the frames of a request in which a script chooses the token of each free position, by its mask."""
    frames: list[Frame] = []
    size = seq.plan.block_length
    while True:
        block = seq.plan.init_block(seq.block)
        pins, rows = block.pins or [-1] * size, block.mask_ids or [0] * size
        at = seq.block * size
        for step in (1, STEPS):
            ids = [pin if pin >= 0 else choose(at + n, rows[n]) for n, pin in enumerate(pins)]
            unsettled = [pin < 0 and rng.random() < 0.5 for pin in pins]
            seq.state = BlockState(seq.block, seq.finished_text, ids, unsettled, step, STEPS)
            frame = seq.frame()
            assert frame is not None
            frames.append(frame)
        reason = seq.commit(ids)
        if reason is not None:
            seq.finish(reason)
            last = seq.frame()
            assert last is not None
            return [*frames, last]


def check(frames: list[Frame], num_canvases: int) -> None:
    """Progress never goes back, and text that is fixed stays."""
    for frame, later in itertools.pairwise(frames):
        assert later.text[: frame.fixed] == frame.text[: frame.fixed] and later.fixed >= frame.fixed
        assert (later.canvas, later.step) >= (frame.canvas, frame.step)
    for frame in frames:
        assert 0 <= frame.canvas < frame.canvases == num_canvases and 0 <= frame.step <= frame.steps
        assert all(0 <= a < b <= len(frame.text) for a, b in frame.unsettled)


def sequence(name: str, size: int, request: Request) -> tuple[Sequence, dict[int, list[int]]]:
    """Return a sequence, and the allowed tokens by mask."""
    reader = READERS[name]
    masks = TokenMasks(reader.vocab_size, torch.device("cpu"))
    plan = plan_canvases(request, reader, 256, masks.register, block_length=size)
    masks.upload()
    allowed = {row: mask.nonzero()[:, 0].tolist() for row, mask in enumerate(masks.rows)}
    return Sequence(TokenizedPrompt((2, 3), (2, 3), 0), plan, SamplingParams(steps=STEPS), 5), allowed


@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_frame_of_a_schema_is_valid(schema: str, name: str, size: int) -> None:
    """Tokens are chosen at random among the allowed ones, so that values often cross the borders of blocks."""
    rng = random.Random(size)
    for padding in (0.0, 0.3, 0.9):
        request = Request(Prompt("Write."), canvases=2, schema=json_schema_of(SCHEMAS[schema]))
        seq, allowed = sequence(name, size, request)

        def choose(at: int, row: int, seq: Sequence = seq, allowed: Any = allowed, padding: float = padding) -> int:
            pad = 0 in allowed[row] and rng.random() < padding
            return 0 if pad else rng.choice(allowed[row])

        frames = generate(seq, choose, rng)
        check(frames, seq.plan.canvases)
        for frame in frames:
            type_adapter(SCHEMAS[schema]).validate_json(frame.text)
            assert isinstance(json.loads(frame.text), dict)
        assert frames[-1].usage is not None and frames[-1].usage.reason == "end"


@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", TEXTS)
def test_an_opening_and_a_text_come_out_as_they_were_written(text: str, name: str, size: int) -> None:
    reader, written = READERS[name], TEXTS[text][:250].rstrip()
    opening = written[: len(written) // 2]
    seq, _ = sequence(name, size, Request(Prompt("Write.", opening=opening), canvases=4))
    ids = [*seq.plan.pins, *reader.encode(written[len(opening) :]), reader.end_id]
    rng = random.Random(1)
    frames = generate(seq, lambda at, _: ids[at] if at < len(ids) else rng.randrange(reader.vocab_size), rng)
    check(frames, 4)
    assert all(frame.text.startswith(opening.rstrip()) for frame in frames), "also while its first block is written"
    usage = frames[-1].usage
    assert frames[-1].text == written and usage is not None and usage.reason == "end"
    assert len(seq.output_ids) == -(-len(ids) // size) * size  # ends with the block that has the end token


@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("name", READERS)
def test_noise_grows_to_the_budget(name: str, size: int) -> None:
    rng = random.Random(4)
    reader = READERS[name]
    tokens = [id for id in range(reader.vocab_size) if id not in reader.end_ids]
    seq, _ = sequence(name, size, Request(Prompt("Write."), canvases=2, max_tokens=300))
    frames = generate(seq, lambda at, row: rng.choice(tokens), rng)
    check(frames, 2)
    usage = frames[-1].usage
    assert usage is not None and (usage.reason, usage.canvases) == ("length", 2)
    assert len(seq.output_ids) == -(-300 // size) * size and usage.tokens <= 300


@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("name", READERS)
def test_kept_text_of_an_edit_survives_its_blocks(name: str, size: int) -> None:
    text = "The old bridge crosses the cold river 🗼 東京. " * 8
    keep = ((20, 130), (150, 300))
    rng = random.Random(5)
    reader = READERS[name]
    words = reader.matching_tokens("[a-z ]+")
    seq, _ = sequence(name, size, Request(Prompt("Write."), canvases=4, draft=Draft(text, keep, 0.5)))
    count = len(seq.plan.pins)
    end = reader.end_id
    frames = generate(seq, lambda at, row: rng.choice(words) if at < count - 5 else end, rng)
    check(frames, 4)
    for a, b in keep:
        assert all(text[a:b] in frame.text for frame in frames), "also while earlier blocks are written"
    if size == 32:  # the end of the old text is in a later block
        assert frames[0].text.endswith(text[300:])
        assert frames[0].unsettled[-1][1] == len(frames[0].text), "it may still change"


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_text_is_judged_when_its_first_canvas_is_full_or_ends(reader: Any) -> None:
    """The first block may have room for a single token, which says nothing about the text."""
    (letter,) = reader.encode("a")
    opening = next(text for length in range(20, 80) if len(reader.encode(text := ("a b c d " * 20)[:length])) == 31)
    masks = TokenMasks(reader.vocab_size, torch.device("cpu"))
    request = Request(Prompt("x", opening=opening), canvases=2)
    plan = plan_canvases(request, reader, 256, masks.register, block_length=32)
    pins = list(plan.pins)
    assert len(pins) == 31
    for token in (reader.pad_id, *reader.encode("\n")):
        assert not plan.is_judged([*pins, token])
    padding = [*pins, *[reader.pad_id] * 225]
    assert plan.is_judged(padding) and plan.is_padding(padding)
    assert not plan.is_judged(padding[:-32]) and not plan.is_judged([*padding, *[letter] * 32])
    ended = [*pins, reader.pad_id, *[reader.end_id] * 32]
    assert plan.is_judged(ended) and plan.is_empty(ended) and not plan.is_padding(ended)
    written = [*pins, letter, *[reader.end_id] * 32]
    assert plan.is_judged(written) and not plan.is_empty(written)
    again = plan.require_text(1, masks.register)
    assert again.init_block(1).mask_ids[0] and not any(again.init_block(0).mask_ids)
    short = plan_canvases(Request(Prompt("x"), canvases=1, max_tokens=40), reader, 256, masks.register, block_length=32)
    assert not short.is_judged([reader.pad_id] * 32) and short.is_judged([reader.pad_id] * 64)
