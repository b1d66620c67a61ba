"""The benchmark of the loop runs on small models, and says the truth about what it could not measure."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from tests.benchmarks.engine.bench_model import BenchModel, ModelSpec, open_bench_model
from tests.benchmarks.engine.gpu import SMALL as SIZES
from tests.benchmarks.engine.gpu import read_bandwidth, touched_bytes
from tests.benchmarks.engine.machine import busy_share
from tests.benchmarks.engine.measure import Settings, parity
from tests.benchmarks.engine.peak_memory import peak
from tests.benchmarks.engine.random_weights import build, full_size_config
from tests.benchmarks.engine.runners import EngineRunner, ReferenceRunner, random_prompt
from tests.benchmarks.engine.scenarios import join, page, prefix
from tests.support.logits import canvas_logits, compare

from unwritten_engine.diffusion.diffusion_gemma import step_rule
from unwritten_engine.diffusion.diffusion_gemma.memory import weight_bytes
from unwritten_engine.diffusion.diffusion_gemma.quantization import PackedExperts, PackedLinear
from unwritten_engine.diffusion.loader import count_bytes

CPU = torch.device("cpu")
SMALL = ModelSpec(device="cpu", sizes={"vocabulary": 2048, "canvas": 16, "layers": 2, "experts": 4})


@pytest.fixture(scope="module")
def subject() -> BenchModel:
    return open_bench_model(SMALL)


@pytest.mark.parametrize("kind", ["bf16", "int8", "nf4"])
def test_a_built_model_equals_a_loaded_checkpoint(kind: str) -> None:
    model, shape = build(full_size_config(**SIZES), kind, CPU, torch.bfloat16)
    assert count_bytes(model) == pytest.approx(weight_bytes(shape, kind), rel=0.01)
    encoder, decoder = model.model.encoder.language_model, model.model.decoder
    assert model.lm_head.weight is decoder.embed_tokens.weight is encoder.embed_tokens.weight
    for one, two in zip(encoder.layers, decoder.layers, strict=True):
        assert one.experts is two.experts or one.experts.down_proj is two.experts.down_proj
        assert isinstance(two.experts, PackedExperts) is (kind != "bf16")
        assert isinstance(two.mlp.down_proj, PackedLinear) is (kind != "bf16")


def test_models_of_one_seed_have_equal_weights_in_any_precision() -> None:
    ids = torch.arange(600, 640)[None], torch.arange(700, 716)[None]
    plain, eight, other = (
        canvas_logits(build(full_size_config(**SIZES), kind, CPU, torch.bfloat16, seed=seed)[0], *ids)
        for kind, seed in (("bf16", 0), ("int8", 0), ("bf16", 1))
    )
    assert compare(plain, eight).error < 0.1
    assert compare(plain, other).error > 1


BUILDING = """
import sys, torch
from tests.benchmarks.engine.peak_memory import reset_peak, peak_bytes, resident_bytes
from tests.benchmarks.engine.random_weights import build, full_size_config
from unwritten_engine.diffusion.loader import count_bytes
sizes = dict(canvas=16, vocab_size=1024, hidden_size=512, intermediate_size=512, moe_intermediate_size=256)
sizes |= dict(num_experts=32, num_attention_heads=4, num_key_value_heads=2, num_global_key_value_heads=1)
config = full_size_config(**sizes, num_hidden_layers=int(sys.argv[2]), head_dim=64, global_head_dim=128)
build(full_size_config(**sizes, num_hidden_layers=1), sys.argv[1], torch.device("cpu"), torch.bfloat16)
reset_peak()
before = resident_bytes()
model, shape = build(config, sys.argv[1], torch.device("cpu"), torch.bfloat16)
print(peak_bytes() - before, count_bytes(model))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else tells the peak")
@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("nf4", 4)])
def test_building_keeps_no_full_16_bit_copy(kind: str, bits: int) -> None:
    layers = 4
    done = subprocess.run([sys.executable, "-c", BUILDING, kind, str(layers)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    most, weights = (int(value) for value in done.stdout.split())
    whole = layers * 32 * 3 * 512 * 256 * 2  # the experts in bf16
    print(kind, most, weights, whole)
    assert weights > whole * bits / 16
    assert most < weights + whole / 4


def test_our_step_takes_less_memory() -> None:
    spec = ModelSpec(device="cpu", sizes={"vocabulary": 65_536, "canvas": 64, "layers": 2, "experts": 4}, threads=1)
    made = open_bench_model(spec)
    engine, reference = (peak(side, spec, made, batch=1, steps=2, length=16) for side in ("engine", "reference"))
    assert engine is not None and reference is not None
    logits = 64 * 65_536 * 4
    assert engine < logits < 3 * logits < reference


def test_a_process_that_fails_has_no_peak(subject: BenchModel) -> None:
    broken = ModelSpec(reference="/no/such/folder", device="cpu")
    assert peak("engine", broken, subject, batch=1, steps=2, length=16) is None


def test_a_spec_can_be_sent_to_another_process() -> None:
    spec = ModelSpec("full", device="cpu", kind="nf4", sizes={"num_hidden_layers": 2}, threads=1)
    assert ModelSpec.read(spec.text()) == spec


def test_every_step_of_both_sides_is_timed(subject: BenchModel) -> None:
    prompts = [random_prompt(subject, 20, seed) for seed in range(2)]
    reference = ReferenceRunner(subject)
    assert len(reference.steps(prompts, 4, time_layers=True)) == 3
    assert len(reference.layer_seconds) == 4
    engine = EngineRunner(subject, rows=2, context=64)
    assert len(engine.steps(prompts, 4)) == 3
    assert engine.forward(2, 3) > 0
    assert engine.loop.idle


def test_missing_parity_is_detected(subject: BenchModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parity(subject, Settings(SMALL, prompt=16))["parity"] is True
    # The rule of acceptance turned upside down: another algorithm.
    accepted = step_rule.accept_tokens
    monkeypatch.setattr(step_rule, "accept_tokens", lambda entropy, bound: ~accepted(entropy, bound))
    assert parity(subject, Settings(SMALL, prompt=16))["parity"] is False


def test_scenes_report_times_of_both_loops(subject: BenchModel) -> None:
    found: dict[str, Any] = prefix(subject, 1, length=16, shared=200)
    found |= page(subject, 1, steps=3, length=16, shared=32)
    found |= join(subject, 1, steps=3, length=16)
    assert found["prefix_tokens"] == 200
    assert found["first_drafts_before_settled"] is True
    assert found["page_first_drafts_ms"] < found["page_together_ms"]
    assert found["join_first_draft_ms"] < found["join_both_done_ms"]
    assert found["wait_first_draft_ms"] < found["wait_both_done_ms"]


def test_a_step_reads_the_decoder_once(subject: BenchModel) -> None:
    assert 0.9 * subject.weight_bytes < touched_bytes(subject) <= subject.weight_bytes
    assert 1e8 < read_bandwidth(CPU, 2) < 1e13
    assert 0 <= busy_share(0.05) <= 1
