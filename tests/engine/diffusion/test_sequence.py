"""One request: its frames, where it is cut, and why it ends."""

from __future__ import annotations

import json
import random
from collections import abc
from typing import Any

import pytest
import torch
from tests.support.diffusion_models import Model

from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SamplingParams
from unwritten_engine.diffusion.model_runner import TokenMasks
from unwritten_engine.diffusion.sequence import BlockState, Sequence
from unwritten_engine.diffusion.tokenization.canvas_plan import plan_canvases
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import TokenizedPrompt
from unwritten_engine.frames import Draft as Edit
from unwritten_engine.frames import Frame, Prompt, Request

SIZE, PAD, TURN = 16, 0, 106
READER = Detokenizer(make_tokenizer(1024), frozenset({1, TURN, 50}), PAD, 1024)
DIAL = SamplingParams(steps=4)
EDIT = Edit("The old bridge crosses the river, and the old tower stands", ((20, 30), (45, 58)), 0.5)
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "open": {"type": "boolean"},
        "age": {"type": "integer"},
    },
    "required": ["name", "open", "age"],
}


def asked(**given: Any) -> Sequence:
    prompt = Prompt("Write.", opening=given.pop("opening", ""))
    made = plan_canvases(Request(prompt, **given), READER, SIZE, TokenMasks(1024, torch.device("cpu")).register)
    return Sequence(TokenizedPrompt((2, 3, 4), (2, 3, 4), 0), made, DIAL, 5)


def draw(run: Sequence, ids: abc.Sequence[int], unsettled: abc.Sequence[bool] | None = None, step: int = 1) -> Frame:
    """A step that ends with these tokens."""
    run.state = BlockState(run.block, run.finished_text, list(ids), list(unsettled or [True] * SIZE), step, DIAL.steps)
    frame = run.frame()
    assert frame is not None
    return frame


def filled(text: str, *after: int) -> list[int]:
    """A canvas that begins with this text."""
    ids = [*READER.encode(text), *after]
    assert len(ids) <= SIZE
    return [*ids, *[PAD] * (SIZE - len(ids))]


def check(frames: list[Frame], run: Sequence) -> None:
    """What holds for the frames of every request."""
    assert [frame.done for frame in frames] == [False] * (len(frames) - 1) + [True]
    for number, frame in enumerate(frames):
        at = 0
        for start, end in frame.unsettled:
            assert at <= start < end <= len(frame.text)
            at = end
        assert 0 <= frame.fixed <= len(frame.text)
        assert 0 <= frame.canvas < frame.canvases == run.plan.canvases
        assert not frame.done or (frame.fixed == len(frame.text) and not frame.unsettled)
        for later in frames[number + 1 :]:
            assert later.fixed >= frame.fixed and later.text[: frame.fixed] == frame.text[: frame.fixed]
            assert later.canvas >= frame.canvas


def write(run: Sequence, canvases: abc.Sequence[abc.Sequence[int]], noise: random.Random) -> list[Frame]:
    """Frames of a request that writes these canvases, each after two drafts of noise."""
    frames = []
    for ids in canvases:
        opened = run.plan.init_block(run.block)
        pins = opened.pins or [-1] * SIZE
        for step in (1, 2):
            mixed = [token if noise.random() < step / 4 else noise.randrange(1024) for token in ids]
            mixed = [pin if pin >= 0 else token for pin, token in zip(pins, mixed, strict=True)]
            frames.append(draw(run, mixed, [noise.random() < 0.5 for _ in ids], step))
        last = [pin if pin >= 0 else token for pin, token in zip(pins, ids, strict=True)]
        frames.append(draw(run, last, [noise.random() < 0.2 for _ in ids], 3))
        reason = run.commit(last)
        late = run.frame()
        assert late == frames[-1]  # a frame that is read late is the same
        if reason is not None:
            run.finish(reason)
            break
    final = run.frame()
    assert final is not None
    return [*frames, final]


def test_before_the_first_step_there_is_no_frame() -> None:
    assert asked().frame() is None


def test_a_draft_is_a_frame() -> None:
    run = asked(canvases=2)
    frame = draw(run, filled("the old bridge", TURN), [at < 2 for at in range(SIZE)], 3)
    assert frame == Frame("the old bridge", frame.unsettled, 0, 0, 2, 3, 4)
    assert frame.unsettled[0][0] == 0 and frame.unsettled[-1][1] < 14


@pytest.mark.parametrize(
    ("given", "canvases", "text", "reason"),
    [
        ({}, [filled("the old bridge", TURN)], "the old bridge", "end"),
        ({}, [filled("the old bridge", 1, 600, 600)], "the old bridge", "end"),
        ({}, [READER.encode(" light" * 16)], " light" * 16, "length"),
        ({"canvases": 2}, [READER.encode(" light" * 16), filled(" ends", TURN)], " light" * 16 + " ends", "end"),
        ({"canvases": 2}, [READER.encode(" light" * 16)] * 2, " light" * 32, "length"),
        ({"max_tokens": 5}, [READER.encode(" light" * 16)], " light" * 5, "length"),
        ({"max_tokens": 5}, [filled(" light" * 7, TURN)], " light" * 5, "length"),
        ({"max_tokens": 20, "canvases": 2}, [READER.encode(" light" * 16)] * 2, " light" * 20, "length"),
        ({"stop": ("river",)}, [filled("the old river", TURN)], "the old", "stop"),
        ({"stop": ("\n\n",)}, [filled("old\n\n", TURN)], "old", "stop"),
        ({"stop": ("river",)}, [filled("the old", TURN, 600)], "the old", "end"),
        (
            {"stop": ("river",), "max_tokens": 3, "canvases": 2},
            [filled(" light light light river")],
            " light" * 3,
            "length",
        ),
        ({"canvases": 2}, [[TURN] * SIZE], "", "end"),
        ({"canvases": 2}, [[100] * SIZE, [100] * SIZE], "", "length"),  # an open thought, and nothing else
        ({"opening": "A river", "stop": ("river",)}, [filled("A river", TURN)], "A river", "end"),
    ],
)
def test_texts_have_an_end_reason(given: dict[str, Any], canvases: list[Any], text: str, reason: str) -> None:
    run = asked(**given)
    frames = write(run, canvases, random.Random(1))
    check(frames, run)
    usage = frames[-1].usage
    assert usage is not None and usage.reason == reason
    assert frames[-1].text == text.rstrip() or "opening" in given
    assert usage.canvases == len(canvases) and usage.prompt_tokens == 3 and usage.seed == 5
    assert usage.seconds >= 0 and usage.queued_seconds >= 0


def test_text_tokens_are_counted() -> None:
    run = asked(canvases=2)
    write(run, [[100, 101, *READER.encode(" light" * 14)], filled(" light light", TURN)], random.Random(1))
    assert run.usage is not None and run.usage.tokens == 16


def test_a_stop_string_across_canvases_keeps_fixed_text() -> None:
    run = asked(canvases=3, stop=("river",))
    first = [*READER.encode(" light" * 13), *READER.encode(" "), *READER.encode("ri")]
    first = [*READER.encode(" light") * (SIZE - len(first) + 13), *first[13:]]
    assert len(first) == SIZE
    frames = write(run, [first, filled("ver and more"), filled("")], random.Random(2))
    check(frames, run)
    assert frames[-1].usage is not None and frames[-1].usage.reason == "stop"
    assert "ri" not in frames[-1].text
    assert max(frame.fixed for frame in frames[:-1]) > 0


@pytest.mark.parametrize("seed", range(40))
def test_fixed_text_stays(seed: int) -> None:
    """Canvases of anything: ends, thoughts, halves of characters, blanks, stop strings."""
    noise = random.Random(seed)
    halves = (238 + 0xC3, 238 + 0xA9)
    likely = [100, 101, 107, 139, *halves, *(id for word in ("ri", "ver", "thought") for id in READER.encode(word))]
    canvases = [
        [noise.choice(likely) if noise.random() < 0.4 else noise.randrange(460, 1024) for _ in range(SIZE)]
        for _ in range(4)
    ]
    given: list[dict[str, Any]] = [
        {},
        {"stop": ("river", "vert", "\n\n")},
        {"max_tokens": 41},
        {"opening": "The river", "stop": ("ver",)},
        {"draft": EDIT},
    ]
    run = asked(canvases=4, **given[seed % 5])
    frames = write(run, canvases, noise)
    check(frames, run)
    if seed % 5 == 3:
        assert all(frame.text.startswith("The river") for frame in frames)
    if seed % 5 == 4:
        text, (first, second) = EDIT.text, EDIT.keep
        late = [frame.text for frame in frames if frame.canvas == frames[-1].canvas]
        assert len(late) == 4 and late[-1].endswith(text[second[0] :])
        for found in late:
            assert text[slice(*second)] in found[found.index(text[slice(*first)]) :]


@pytest.mark.parametrize("seed", range(10))
def test_schemas_parse_at_every_step(seed: int) -> None:
    noise = random.Random(seed)
    run = asked(canvases=6, schema=SCHEMA)
    canvases = [[noise.randrange(1024) for _ in range(SIZE)] for _ in range(run.plan.canvases)]
    frames = write(run, canvases, noise)
    check(frames, run)
    for frame in frames:
        found = json.loads(frame.text)
        assert isinstance(found["name"], str) and isinstance(found["open"], bool) and isinstance(found["age"], int)
    assert frames[-1].usage is not None and frames[-1].usage.reason == "end"


def test_frames_of_a_model() -> None:
    """Of a random one, which writes whatever comes."""
    made = Model(vocabulary=1024, hidden=32, layers=2, canvas=SIZE, spread=6.0, branch=0.3)
    runs = [made.run(made.prompt(9), seed=seed, canvases=3, steps=6, entropy_bound=20.0) for seed in range(4)]
    frames: dict[Sequence, list[Frame]] = {run: [] for run in runs}
    for news in made.loop.generate(runs):
        for run in news:
            frame = run.frame()
            assert frame is not None
            frames[run].append(frame)
    for run in runs:
        check(frames[run], run)
        assert len(frames[run]) == run.steps
        steps = [(frame.canvas, frame.step) for frame in frames[run]]
        assert steps == sorted(set(steps)) and steps[0] == (0, 1)


def test_queue_time_is_counted_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    run = asked()
    run.arrival_time = run.waiting_since = now
    now = 103.0
    assert run.queued_seconds == 3.0
    run.mark_running()
    now = 110.0
    assert run.queued_seconds == 3.0
    run.mark_waiting()
    now = 115.0
    assert run.queued_seconds == 8.0
    run.mark_running()
    now = 116.0
    run.commit(filled("x", TURN))
    run.finish("end")
    assert run.usage is not None
    assert (run.usage.queued_seconds, run.usage.seconds) == (8.0, 8.0)
