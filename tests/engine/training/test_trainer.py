"""The training loop: it learns, it repeats, and it goes on exactly where it stopped."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.training_runs import RECIPE, held_out, pages, run

from unwritten_engine import EngineError, Prompt
from unwritten_engine.errors import ModelBroken, ModelNotFound
from unwritten_engine.training import checkpoints as states
from unwritten_engine.training.dataset import TrainingPage
from unwritten_engine.training.lora import LoRA
from unwritten_engine.training.preview import PreviewWriter, matching_share
from unwritten_engine.training.runs import TrainingRun, load_trainable
from unwritten_engine.training.step import EVAL_NOISE_LEVELS
from unwritten_engine.training.trainable_model import TrainableModel
from unwritten_engine.training.trainer import Trainer, TrainingProgress


def trainer(run: TrainingRun, **options: Any) -> Trainer:
    return Trainer(run, device="cpu", threads=1, **options)


def weights(one: Trainer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in one.weights.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer(run(tmp_path / "whole"))
    whole.train()
    parted = run(tmp_path / "parted")
    for steps in (5, 1, 99):
        part = trainer(parted)
        before = part.step
        part.train(steps=steps)
        assert part.step == min(before + steps, RECIPE.steps)
    assert same(weights(whole), weights(part))
    assert not same(weights(whole), weights(trainer(run(tmp_path / "new"))))
    logs = [json.loads(line) for line in whole.run.log.read_text().splitlines()]
    again = [json.loads(line) for line in parted.log.read_text().splitlines()]
    assert logs[-1]["step"] == again[-1]["step"] == 12 and logs[-1]["loss"] == again[-1]["loss"]
    other = trainer(run(tmp_path / "other", replace(RECIPE, seed=1)))
    other.train()
    assert not same(weights(whole), weights(other))


def test_a_damaged_or_foreign_state_is_reported(tmp_path: Path) -> None:
    one = trainer(run(tmp_path / "one"))
    one.train(steps=1)
    data = one.run.state.read_bytes()
    one.run.state.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelBroken, match="is not a training state"):
        trainer(one.run)
    wide = trainer(run(tmp_path / "wide", hidden=48))
    wide.save()
    one.run.state.write_bytes(wide.run.state.read_bytes())
    with pytest.raises(ModelBroken, match=r"belongs to another model: its .* does not match"):
        trainer(one.run)
    with pytest.raises(ModelNotFound, match=r"is not a prepared run: training\.json, corpus\.npz"):
        trainer(TrainingRun(tmp_path / "none"))


def test_progress_shows_held_out_loss_and_samples(tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    one = trainer(run(tmp_path), eval_every=6, report=told.append)
    last = one.train()
    judged = [progress for progress in told if progress.eval_losses]
    assert [progress.step for progress in judged] == [6, 12] and last is told[-1]
    assert list(judged[0].eval_losses) == list(EVAL_NOISE_LEVELS)
    assert judged[0].nats_per_character > 0 and len(judged[0].previews) == 2
    assert {title for title, _ in judged[0].previews} <= {page.title for page in held_out(3)}
    line = json.loads(one.run.log.read_text().splitlines()[-1])
    assert line["eval_losses"]["0.5"] == round(last.eval_losses[0.5], 4) and len(line["previews"]) == 2
    untrained = math.log(1400)
    assert last.eval_losses[0.25] < untrained and abs(judged[0].eval_losses[1.0] - untrained) < 2


def test_a_step_with_an_infinite_gradient_is_skipped(tmp_path: Path) -> None:
    one = trainer(run(tmp_path))
    one.train(steps=2)
    before = weights(one)
    table = one.model.model.decoder.embed_tokens
    hook = table.register_forward_hook(lambda module, given, result: result * math.inf)
    assert one.train(steps=1).skipped_steps == 1
    hook.remove()
    assert same(before, weights(one)) and one.step == 3
    assert trainer(one.run).skipped_steps == 1


def test_a_saved_model_opens_in_the_engine_with_its_weights(tmp_path: Path) -> None:
    one = trainer(run(tmp_path))
    one.train()
    loaded = load_trainable(one.run.checkpoint, "cpu")
    found = dict(loaded.model.named_parameters())
    assert all(torch.equal(found[name], weight) for name, weight in one.weights.items())
    prompt = pages(1)[0].prompt
    text = PreviewWriter(one.loaded, context=256).write(prompt, seed=3)
    assert text == PreviewWriter(loaded, context=256).write(prompt, seed=3) and text[1] > 0


def test_an_overfitted_model_reproduces_its_pages(tmp_path: Path) -> None:
    given = pages(4, words=6)
    recipe = replace(
        RECIPE,
        steps=220,
        rows=1,
        tokens=160,
        canvases=16,
        copies=4,
        learning_rate=1e-2,
        warmup_steps=10,
        self_conditioned_share=0.5,
    )
    one = trainer(run(tmp_path, recipe, given, hidden=48, layers=2))
    before = [matching_share(page.text, PreviewWriter(one.loaded, context=128).write(page.prompt)[0]) for page in given]
    one.train()
    after = [matching_share(page.text, PreviewWriter(one.loaded, context=128).write(page.prompt)[0]) for page in given]
    assert sum(after) / 4 > 0.95 and sum(before) / 4 < 0.3


def test_lora_matrices_are_trained_instead_of_the_model(tmp_path: Path) -> None:
    given = pages(4, words=6)
    recipe = replace(RECIPE, lora_rank=4, learning_rate=1e-2, steps=10)
    one = trainer(run(tmp_path, recipe, given))
    assert not (one.run.folder / "start").exists(), "the checkpoint stays where it is"
    assert all(name.startswith("beside.") for name in one.weights)
    own = {name: weight.detach().clone() for name, weight in one.model.named_parameters()}
    one.train(steps=6)
    resumed = trainer(one.run)
    assert same(weights(one), weights(resumed))
    resumed.train()
    for name, weight in resumed.model.named_parameters():
        assert torch.equal(weight, own[name]), "after writing the checkpoint too"
    merged = load_trainable(resumed.run.checkpoint, "cpu")
    changed = [name for name, weight in merged.model.named_parameters() if not torch.equal(weight, own[name])]
    assert changed and all("_proj" in name and "experts" not in name for name in changed)
    batch = resumed.packer.batch()
    with torch.no_grad():
        seen = [
            trunk.decode(trunk.encode(batch), batch, batch.canvases, None)
            for trunk in map(
                TrainableModel, (merged.model, resumed.model, load_trainable(resumed.run.start, "cpu").model)
            )
        ]
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-3, atol=1e-3)
    assert (seen[0] - seen[2]).abs().max() > 0.05, "and it is another model than before"


def test_encoder_and_decoder_share_lora_matrices(tmp_path: Path) -> None:
    loaded = run(tmp_path).load("cpu")
    LoRA(loaded.model, 2, 0)
    plain = load_trainable(tmp_path / "start", "cpu").model
    given = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))

    def products(model: Any) -> list[torch.Tensor]:
        found = (model.model.decoder, model.model.encoder.language_model)
        return [part.layers[0].mlp.up_proj(given) for part in found]

    for one, other in zip(products(loaded.model), products(plain), strict=True):
        torch.testing.assert_close(one, other)  # they begin with nothing
    twice = LoRA(plain, 2, 0)
    with torch.no_grad():
        for added in twice.beside.values():
            added.up.fill_(0.5)  # type: ignore[operator]
    decoder, encoder = products(plain)
    torch.testing.assert_close(decoder, encoder)
    assert (decoder - products(loaded.model)[0]).abs().max() > 0.01


def test_a_run_is_prepared_completely_or_not_at_all(tmp_path: Path) -> None:
    long = [TrainingPage(Prompt("river " * 200), "water")]
    with pytest.raises(EngineError, match="no pages to train on"):
        run(tmp_path, given=long)
    assert [path.name for path in tmp_path.iterdir()] == ["start"]
    run(tmp_path)
    with pytest.raises(EngineError, match="exists"):
        run(tmp_path)


def test_a_model_in_bfloat16_learns(tmp_path: Path) -> None:
    one = trainer(run(tmp_path, replace(RECIPE, dtype="bfloat16")))
    first = one.train(steps=1).loss
    last = one.train().loss
    assert math.isfinite(first) and last < first
    assert all(weight.dtype == torch.float32 for weight in one.weights.values())


def test_a_prompt_that_is_too_long_gets_no_sample(tmp_path: Path) -> None:
    sampler = PreviewWriter(run(tmp_path).load("cpu"), context=32)
    assert sampler.write(Prompt("river " * 40)) == ("", 0)


def test_an_opening_that_fills_a_canvas_gets_a_second_canvas(tmp_path: Path) -> None:
    sampler = PreviewWriter(run(tmp_path).load("cpu"), context=128)
    opening = "river stone tower night " * 4
    assert sampler.write(Prompt("Say.", opening=opening))[0].startswith(opening)


def test_the_small_state_approximates_the_moments(tmp_path: Path) -> None:
    one = trainer(run(tmp_path))
    one.train(steps=6)
    optimizer = torch.optim.AdamW(one.weights.values())
    notes = states.load_compact_state(one.run.compact_state, one.weights, optimizer)
    assert notes["step"] == 6
    for weight in one.weights.values():
        exact, near = one.optimizer.state[weight], optimizer.state[weight]
        assert float(near["step"]) == float(exact["step"]) and not near["exp_avg"].any()
        torch.testing.assert_close(near["exp_avg_sq"].sum(), exact["exp_avg_sq"].sum(), rtol=1e-3, atol=1e-12)
    size = one.run.compact_state.stat().st_size
    assert size < 0.35 * one.run.state.stat().st_size
