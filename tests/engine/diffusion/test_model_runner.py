"""A batch of canvases against the same algorithm written plainly: pins, starting tokens, masks, the stop, the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.support.diffusion_models import Model
from torch import Tensor

from unwritten_engine.diffusion import random_numbers as noise
from unwritten_engine.diffusion.cuda_graphs import CUDAGraphs
from unwritten_engine.diffusion.model_runner import ModelRunner, TokenMasks
from unwritten_engine.diffusion.random_numbers import RequestRandom
from unwritten_engine.diffusion.sequence import Sequence

SIZE = 16
CPU = torch.device("cpu")


class Watched(ModelRunner):
    """Remembers all canvases before each pass and all drafts after it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def step(self, count: int, max_length: int, *, equal_lengths: bool, constrained: bool) -> None:
        before = self.tokens[:count].clone()
        super().step(count, max_length, equal_lengths=equal_lengths, constrained=constrained)
        self.seen.append((before, self.tokens[:count].clone(), self.best[:count].clone()))


@pytest.fixture(scope="module")
def made() -> Model:
    return Model(vocabulary=1024, hidden=32, layers=3, canvas=SIZE, window=24, branch=0.5)


@pytest.fixture(scope="module")
def unsure() -> Model:
    """Of every token; entropies are near the logarithm of the vocabulary, 6.9."""
    return Model(vocabulary=1024, hidden=32, layers=2, canvas=SIZE, spread=0.1, branch=0.5)


@dataclass
class Plain:
    """One canvas, by the published rules, over whole tensors."""

    made: Model
    run: Sequence

    def canvas(self) -> tuple[list[int], int]:
        """The canvas, and how many steps it took."""
        run, size, vocabulary = self.run, SIZE, self.made.vocabulary
        dial: Any = run.params
        opened = run.plan.init_block(0)
        pins = torch.tensor(opened.pins or [-1] * size)
        self.made.batch.masks.upload()
        masks = self.made.batch.masks.rows[torch.tensor(opened.mask_ids or [0] * size)]
        seeds, zero = torch.tensor([run.seed]), torch.tensor([0])
        given = torch.tensor(opened.initial or [-1] * size)
        old = noise.uniform(seeds, zero, zero, RequestRandom.EDIT, size)[0] >= opened.strength
        canvas = noise.random_tokens(seeds, zero, zero, RequestRandom.CANVAS, size, vocabulary)[0]
        canvas = torch.where((given >= 0) & old, given, canvas)
        canvas = torch.where(pins >= 0, pins, canvas)
        first = dial.steps - max(1, round(dial.steps * opened.strength)) if opened.initial else 0
        before, logits, same = torch.full((size,), -1), None, 0
        encoded = self.made.model.model.encoder(torch.tensor([run.prompt.ids])).past_key_values
        for done in range(first, dial.steps):
            step = torch.tensor([done + 1])
            raw = self.made.model(
                decoder_input_ids=canvas[None], past_key_values=encoded, self_conditioning_logits=logits
            ).logits[0]
            temperature = dial.t_min + (dial.t_max - dial.t_min) * (dial.steps - done) / dial.steps
            scaled = (raw.float() / temperature).masked_fill(~masks, -torch.inf)
            scaled = torch.where(
                pins[:, None] >= 0,
                torch.full_like(scaled, -torch.inf).scatter(1, pins.clamp(min=0)[:, None], 0.0),
                scaled,
            )
            shares = scaled.softmax(-1)
            entropy = torch.special.entr(shares).sum(-1)
            passed = shares.double().cumsum(-1)
            chance = noise.uniform(seeds, zero, step, RequestRandom.CHOICE, size)[0].double()[:, None] * passed[:, -1:]
            drawn = torch.searchsorted(passed, chance, right=True)[:, 0]
            order = entropy.sort().indices
            kept = torch.zeros(size, dtype=torch.bool)
            total = 0.0
            for position in order.tolist():
                if total > dial.entropy_bound:
                    break
                kept[position] = True
                total += float(entropy[position])
            fresh = noise.random_tokens(seeds, zero, step, RequestRandom.RENOISE, size, vocabulary)[0]
            fresh = torch.where(masks.gather(1, fresh[:, None])[:, 0], fresh, drawn)
            canvas = torch.where(pins >= 0, pins, torch.where(kept, drawn, fresh))
            best = scaled.argmax(-1)
            same = same + 1 if torch.equal(best, before) else 0
            free = entropy[pins < 0]
            if same >= dial.stability and (not len(free) or free.mean() < dial.confidence):
                return best.tolist(), done + 1 - first
            before, logits = best, scaled[None].clamp(min=-1e9)
        return before.tolist(), dial.steps - first


def ask(made: Model, plan_options: dict[str, Any] | None = None, *, seed: int = 3, **given: Any) -> Sequence:
    return made.run(made.prompt(12, seed), seed=seed, plan_options=plan_options, **{"entropy_bound": 3.0, **given})


@torch.inference_mode()
def check(made: Model, run: Sequence) -> None:
    batch = made.batch
    for _ in made.loop.generate([run]):
        pass
    assert run.error is None
    made.batch = batch
    assert (run.output_ids, run.steps) == Plain(made, run).canvas()


PINS = tuple(700 + at if at % 5 in (0, 1) else -1 for at in range(SIZE))
START = tuple(800 + at if at < 11 else -1 for at in range(SIZE))


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_a_free_canvas_equals_the_reference_algorithm(made: Model, seed: int, steps: int) -> None:
    made.new_loop()
    check(made, ask(made, seed=seed, steps=steps))


@pytest.mark.parametrize("bound", [0.1, 10.0, 1e6])
def test_a_canvas_with_pins_equals_the_reference_algorithm(made: Model, bound: float) -> None:
    made.new_loop()
    check(made, ask(made, {"pins": PINS}, steps=9, entropy_bound=bound))


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_an_edit_equals_the_reference_algorithm(made: Model, strength: float) -> None:
    made.new_loop()
    run = ask(made, {"pins": PINS, "initial": START, "strength": strength}, steps=10)
    check(made, run)
    assert run.steps <= max(1, round(10 * strength)) == run.max_steps


def test_a_schema_equals_the_reference_algorithm(made: Model) -> None:
    made.new_loop()
    row = made.batch.masks.register(bytes(token % 7 == 0 for token in range(made.vocabulary)))
    other = made.batch.masks.register(bytes(token == 650 for token in range(651)))
    mask_ids = tuple((0, row, other, row)[at % 4] for at in range(SIZE))
    run = ask(made, {"mask_ids": mask_ids}, steps=9)
    check(made, run)
    for token, kind in zip(run.output_ids, mask_ids, strict=True):
        assert made.batch.masks.rows[kind, token]


@pytest.mark.parametrize(("stability", "confidence"), [(0, 1.0), (1, 0.5), (2, 2.0), (3, 1e6)])
def test_the_stop_equals_the_reference_algorithm(made: Model, stability: int, confidence: float) -> None:
    made.new_loop()
    check(made, ask(made, {"pins": PINS}, steps=30, stability=stability, confidence=confidence, entropy_bound=8.0))


def test_pins_hold_at_every_step_of_every_canvas(made: Model) -> None:
    made.new_loop(batch=Watched)
    watched = made.batch
    assert isinstance(watched, Watched)
    pins = tuple(token for number in range(3) for token in (pin + number if pin >= 0 else -1 for pin in PINS))
    pinned = ask(made, {"pins": pins}, canvases=3, steps=5)
    others = [ask(made, seed=seed, canvases=2, steps=7) for seed in (8, 9)]
    steps = 0
    for _ in made.loop.generate([pinned, *others]):
        rows = watched.seen[-1]
        if pinned.state is None or pinned.steps == steps:
            continue
        steps = pinned.steps
        here = pins[pinned.state.block * SIZE : (pinned.state.block + 1) * SIZE]
        fixed = [at for at in range(SIZE) if here[at] >= 0]
        row = 0  # it came first, and leaves last or first: no other moves into its row before
        before, after, best = (part[row] for part in rows)
        for tokens in (before, after, best, pinned.state.ids):
            assert [int(tokens[at]) for at in fixed] == [here[at] for at in fixed]
        assert not any(pinned.state.unsettled[at] for at in fixed)
    assert steps == 15 and pinned.block == 3
    assert [pinned.output_ids[at] for at in range(48) if pins[at] >= 0] == [pin for pin in pins if pin >= 0]


@pytest.mark.parametrize("confidence", [1.5, 1e6])
def test_pins_do_not_dilute_the_stop(unsure: Model, confidence: float) -> None:
    """The mean entropy of two free positions is 6.8; over all sixteen it would be below one."""
    unsure.new_loop()
    run = ask(unsure, {"pins": (*range(700, 714), -1, -1)}, steps=6, stability=0, confidence=confidence)
    unsure.generate(run)
    assert run.steps == (6 if confidence == 1.5 else 1)


def test_a_canvas_of_pins_finishes_immediately(made: Model) -> None:
    made.new_loop()
    run = ask(made, {"pins": tuple(range(700, 716))}, steps=6)
    made.generate(run)
    assert run.steps == 1 and run.output_ids == list(range(700, 716))
    assert run.state is not None and not any(run.state.unsettled)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_is_the_share_of_resampled_tokens(made: Model, strength: float) -> None:
    """Counted over many canvases before their first step. Pins stay whatever it is."""
    loop = made.new_loop(batch=Watched)
    watched = made.batch
    assert isinstance(watched, Watched)
    plan_options = {"pins": PINS, "initial": tuple(range(800, 816)), "strength": strength}
    runs = [ask(made, plan_options, seed=seed, steps=1) for seed in range(60)]
    for _ in loop.generate(runs):
        pass
    canvases = torch.cat([before for before, _, _ in watched.seen])
    assert canvases.shape == (60, SIZE)
    pinned = torch.tensor(PINS) >= 0
    assert (canvases[:, pinned] == torch.tensor(PINS)[pinned]).all()
    anew = (canvases != torch.arange(800, 816))[:, ~pinned].float().mean()
    assert abs(anew - strength) < 4 * math.sqrt(strength * (1 - strength) / 540) + 0.005


def test_an_edit_starts_late_in_the_schedule(made: Model) -> None:
    made.new_loop()
    run = ask(made, {"initial": START, "strength": 0.3}, canvases=2, steps=10, confidence=1e-9)
    drafts = []
    for _ in made.loop.generate([run]):
        assert run.state is not None
        drafts.append((run.state.block, run.state.step, run.state.max_steps))
    # The second canvas has no starting text, and takes all its steps.
    assert drafts == [(0, step, 3) for step in (1, 2, 3)] + [(1, step, 10) for step in range(1, 11)]


def test_a_row_does_not_change_after_its_end(made: Model) -> None:
    made.new_loop()
    batch = made.batch
    run = ask(made, steps=2)
    made.generate(run)
    state = [tensor.clone() for tensor in batch.save(0)]
    with torch.inference_mode():
        batch.step(1, 12, equal_lengths=True, constrained=False)
    assert all(map(torch.equal, state, batch.save(0)))


def test_untruncated_self_conditioning_equals_the_full_one(made: Model) -> None:
    made.new_loop()
    whole = made.generate(ask(made, steps=9))
    made.new_loop(top_k=1024)
    assert made.generate(ask(made, steps=9)) == whole


class Bucketed(ModelRunner):
    """Makes its passes in buckets of rows and kept tokens, as they are captured on a GPU."""

    def __init__(self, model: Any, rule: Any) -> None:
        super().__init__(model, rule, cuda_graphs=Uncaptured())


class Uncaptured(CUDAGraphs):
    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        work()

    def capture(self, key: Hashable, work: Callable[[], None]) -> None:
        work()


def test_bucketed_passes_equal_others(made: Model) -> None:
    """With rows and places beyond those in use, of requests that have left or were never there."""

    def runs() -> list[Sequence]:
        return [
            made.run(made.prompt(9 + 20 * n, n), seed=n, canvases=1 + n % 2, steps=4 + n, plan_options={"pins": PINS})
            for n in range(7)
        ]

    made.new_loop()
    plain = made.generate(*runs())
    made.new_loop(batch=Bucketed)
    assert made.generate(*runs()) == plain


def test_buckets_double() -> None:
    assert [CUDAGraphs.buckets(rows, 1, 12, 4096)[0] for rows in (1, 2, 3, 5, 8, 9, 12)] == [1, 2, 4, 8, 8, 12, 12]
    assert [CUDAGraphs.buckets(1, long, 12, 5000)[1] for long in (0, 1024, 1025, 4096, 4999)] == [
        1024,
        1024,
        4096,
        4096,
        5000,
    ]
    assert CUDAGraphs.row_buckets(1) == [1] and CUDAGraphs.row_buckets(16) == [1, 2, 4, 8, 16]
    assert CUDAGraphs.length_buckets(300) == [300]


def test_equal_masks_share_a_row() -> None:
    masks = TokenMasks(100, CPU)
    first = masks.register(bytes([0, 1, 0]))
    assert masks.register(bytes([0, 1, 0])) == first != masks.register(bytes([1, 1]))
    masks.upload()
    assert masks.rows[0].all() and masks.rows[first].nonzero().tolist() == [[1]]


def test_many_masks_are_stored_without_moving_others() -> None:
    masks = TokenMasks(100, CPU)
    rows = [masks.register(bytes([0] * number + [1])) for number in range(40)]
    assert rows == list(range(1, 41))
    assert len(masks.rows) == 8  # nothing was copied to the device yet
    masks.upload()
    for number, row in enumerate(rows):
        assert masks.rows[row].nonzero().tolist() == [[number]]
    assert masks.rows[0].all()
