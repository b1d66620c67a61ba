"""Canvases without text: a model that ends at once, one that only pads, and one whose numbers overflow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.engine.reference_generate import until_end
from tests.support.diffusion_models import END, Model

from unwritten_engine.diffusion.diffusion_gemma import step_rule
from unwritten_engine.diffusion.diffusion_gemma.layers import DiffusionGemmaLayers
from unwritten_engine.diffusion.sampler import SamplerOutput, sample
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.frames import Draft, Prompt, Request

PAD = 0


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made() -> Model:
    return Model(vocabulary=1024, hidden=32, layers=2, canvas=16, window=24, branch=0.5)


def write_only(monkeypatch: pytest.MonkeyPatch, token: int) -> None:
    """Make the model certain of one token, wherever no mask forbids it."""

    def certain(hidden: Any, head: Any, *args: Any, constraints: Any = None, **options: Any) -> SamplerOutput:
        output = sample(hidden, head, *args, constraints=constraints, **options)
        free = torch.ones_like(output.best, dtype=torch.bool)
        if constraints is not None:
            free = constraints.masks[constraints.mask_ids, token]
        return replace(
            output,
            best=torch.where(free, token, output.best),
            sampled=torch.where(free, token, output.sampled),
            entropy=torch.where(free, 0.0, output.entropy),
        )

    monkeypatch.setattr(step_rule, "sample", certain)


@pytest.mark.parametrize("opening", ["", "Hello world"])
def test_the_first_canvas_has_text(made: Model, monkeypatch: pytest.MonkeyPatch, opening: str) -> None:
    write_only(monkeypatch, END)
    made.new_loop()
    pins = made.reader.encode(opening)
    kept = (0, len(pins)) if pins else None
    run = made.run(made.prompt(20), canvases=2, plan_options={"pins": pins, "kept_span": kept})
    other = made.run(made.prompt(25), canvases=1)
    made.generate(run, other)
    assert run.usage is not None and run.usage.reason == "end" and run.usage.canvases == 1
    text = run.finished_text.text
    assert text.startswith(opening) and text[len(opening) :].strip()
    assert run.output_ids[len(pins)] not in made.reader.special_ids
    assert set(run.output_ids[len(pins) + 1 :]) == {END}
    assert other.finished_text.text.strip()


def test_progress_does_not_go_back_when_a_canvas_is_written_again(made: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    write_only(monkeypatch, END)
    made.new_loop()
    run = made.run(made.prompt(20), canvases=2)
    frames = [run.frame() for updated in made.loop.generate([run]) if run in updated]
    steps = [frame.step for frame in frames if frame is not None]
    assert steps == sorted(steps) and len(steps) == run.steps > steps[-1] > 1, "it was written twice"


def test_an_edit_may_end_early_but_not_be_empty(made: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from unwritten_engine.diffusion.tokenization.canvas_plan import plan_canvases

    write_only(monkeypatch, END)
    made.new_loop()
    texts = []
    for keep in ((), ((0, 5),)):
        draft = Draft("Hello world", keep=keep, strength=1.0)
        request = Request(Prompt("A greeting"), canvases=1, draft=draft)
        run = made.run(made.prompt(20))
        run.plan = plan_canvases(request, made.reader, made.size, made.batch.masks.register)
        made.generate(run)
        texts.append(run.finished_text.text)
    assert texts[0].strip() and texts[1] == "Hello"


def test_a_later_canvas_may_be_empty(made: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    made.new_loop()
    run = made.run(made.prompt(20), canvases=3)
    monkeypatch.setattr(made.reader, "end_ids", frozenset({-5}))  # so that the first canvas does not end by chance
    made.loop.add(run)
    while run.block == 0:
        made.loop.step()
    monkeypatch.undo()
    write_only(monkeypatch, END)
    while not made.loop.idle:
        made.loop.step()
    assert run.error is None and run.usage is not None and run.usage.canvases == 2


def test_only_padding_is_an_error(made: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    write_only(monkeypatch, PAD)
    made.new_loop()
    run = made.run(made.prompt(20), steps=48)
    for _ in made.loop.generate([run]):
        pass
    assert isinstance(run.error, GenerationFailed) and run.steps <= 3
    assert "wrote only padding" in str(run.error) and "quantize" in str(run.error)


def test_values_that_are_no_numbers_are_an_error(made: Model) -> None:
    class Overflowing(DiffusionGemmaLayers):
        def decode(self, canvases: Any, soft_embeddings: Any, lengths: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            hidden = super().decode(canvases, soft_embeddings, lengths, *args, **kwargs)
            return torch.where((lengths == 25)[:, None, None], torch.nan, hidden)

    made.new_loop()
    expected = made.generate(made.run(made.prompt(20)))
    made.new_loop(body=Overflowing)
    good, bad = made.run(made.prompt(20)), made.run(made.prompt(25))
    updates = list(made.loop.generate([good, bad]))
    assert bad in updates[0] and isinstance(bad.error, GenerationFailed) and bad.steps == 1
    assert "not numbers (NaN)" in str(bad.error)
    assert good.error is None and until_end(good.output_ids, END) == expected[0]
