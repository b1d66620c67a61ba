"""Captured steps: equal to steps that are not captured, and failures that affect nothing else."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from tests.support.diffusion_models import Model
from tests.support.fake_cuda import DEFAULT_STREAM, FakeCUDA

from unwritten_engine.diffusion.cuda_graphs import CUDAGraphs
from unwritten_engine.diffusion.engine import DiffusionEngine
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.engine import Abilities, About

SIZE = 16


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCUDA:
    found = FakeCUDA()
    found.install(monkeypatch)
    return found


@pytest.fixture(scope="module")
def made() -> Model:
    model = Model(vocabulary=1024, hidden=32, layers=3, canvas=SIZE, window=24, branch=0.5, rows=2, context=128)
    model.model.set_experts_implementation("grouped_mm")
    return model


class GPURunner(ModelRunner):
    """Takes the ways of a GPU where they differ from those of a CPU."""

    def __init__(self, model: Any, rule: Any) -> None:
        self.reported: list[str] = []
        super().__init__(model, rule, cuda_graphs=CUDAGraphs(self.reported.append))


@pytest.fixture(autouse=True)
def sampler_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest logit is found without reading how many rows have a larger one."""
    from unwritten_engine.diffusion import sampler

    def update(logits: torch.Tensor, top: torch.Tensor, best: torch.Tensor, start: int) -> torch.Tensor:
        chunk_max, place = logits.max(dim=-1)
        best.copy_(torch.where(chunk_max > top, place + start, best))
        return chunk_max

    monkeypatch.setattr(sampler, "_update_best", update)


def asked(made: Model) -> list[Sequence]:
    masked = made.batch.masks.register(bytes(token % 7 == 0 for token in range(made.vocabulary)))
    plans: list[dict[str, Any]] = [{}, {"mask_ids": (masked,) * SIZE}, {"pins": (700, *(-1,) * 15)}, {}]
    return [
        made.run(made.prompt(9 + 13 * n, n), seed=n, canvases=1 + n % 2, steps=5 + n, plan_options=plan)
        for n, plan in enumerate(plans)
    ]


def plain(made: Model) -> list[list[int]]:
    made.new_loop()
    return made.generate(*asked(made))


def test_captured_steps_equal_others(made: Model, cuda: FakeCUDA) -> None:
    wanted = plain(made)
    loop = made.new_loop(batch=GPURunner)
    loop.prepare()
    graphs = made.batch.cuda_graphs
    assert graphs is not None and graphs.captured == 2 and cuda.replays == 0  # one and two rows, when the engine opens
    assert made.generate(*asked(made)) == wanted
    assert graphs.captured > 2  # with masks, in their second step
    assert graphs.failures == {} and cuda.replays > 10


def test_masks_in_a_larger_tensor_are_captured_again(made: Model, cuda: FakeCUDA) -> None:
    loop = made.new_loop(batch=GPURunner)
    loop.prepare()

    def write(token: int) -> list[int]:
        mask = made.batch.masks.register(bytes(at == token for at in range(made.vocabulary)))
        run = made.run(made.prompt(9), steps=6, confidence=1e-9, plan_options={"mask_ids": (mask,) * SIZE})
        made.generate(run)
        return run.output_ids

    assert write(777) == [777] * SIZE
    graphs = made.batch.cuda_graphs
    assert graphs is not None and graphs.captured == 3
    for token in range(600, 620):
        made.batch.masks.register(bytes(at == token for at in range(made.vocabulary)))
    assert write(778) == [778] * SIZE
    assert graphs.captured == 4


def test_a_failed_capture_affects_one_size(made: Model, cuda: FakeCUDA) -> None:
    wanted = plain(made)
    loop = made.new_loop(batch=GPURunner)
    cuda.refuse = "masked_fill_"  # only steps with masks use it in every chunk, and all in the draw
    loop.prepare()
    cuda.refuse = ""
    runner, graphs = made.batch, made.batch.cuda_graphs
    assert isinstance(runner, GPURunner) and graphs is not None
    assert len(graphs.failures) == 2 and graphs.captured == 0 and cuda.stream is DEFAULT_STREAM
    assert "not permitted when stream is capturing (masked_fill_)" in runner.reported[0]
    assert len(runner.reported) == 1  # one cause, one sentence
    assert made.generate(*asked(made)) == wanted
    assert graphs.captured > 0 and cuda.replays > 0  # the sizes with masks, in another pool of memory


def test_the_cause_is_reported_rather_than_its_consequence(cuda: FakeCUDA) -> None:
    reported: list[str] = []
    graphs = CUDAGraphs(reported.append)
    graphs.capture("a", lambda: print(torch.ones(1).item()))
    assert "operation not permitted when stream is capturing (_local_scalar_dense)" in graphs.failures["a"]
    assert "previous error" not in reported[0] and "without CUDA graphs" in reported[0]


def test_memory_can_be_given_back_after_a_failed_capture(cuda: FakeCUDA) -> None:
    graphs = CUDAGraphs()
    graphs.capture("a", lambda: print(torch.ones(1).item()))
    torch.cuda.empty_cache()
    assert "a" in graphs.failures and not cuda.pools_in_use
    graphs.capture("b", lambda: None)
    assert graphs.captured == 1


def test_every_size_runs_before_it_is_captured(made: Model, cuda: FakeCUDA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten_engine.diffusion.cuda_graphs.MIN_LENGTH_BUCKET", 32)  # buckets of 32 and 128 tokens
    loop, events = made.new_loop(batch=GPURunner), list[tuple[bool, int, int]]()
    layers: Any = made.batch.model
    plain_decode = layers.decode

    def decode(canvases: torch.Tensor, soft: torch.Tensor, lengths: torch.Tensor, longest: int, padded: bool) -> Any:
        events.append((cuda.capturing is not None, len(canvases), longest))
        return plain_decode(canvases, soft, lengths, longest, padded)

    monkeypatch.setattr(made.batch.model, "decode", decode)
    loop.prepare()
    assert events == [(late, rows, length) for rows in (2, 1) for length in (128, 32) for late in (False, True)]


def test_other_errors_are_not_hidden(cuda: FakeCUDA) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    graphs = CUDAGraphs()
    with pytest.raises(ZeroDivisionError):
        graphs.capture("a", broken)
    assert cuda.stream is DEFAULT_STREAM


@pytest.mark.anyio
async def test_failures_are_in_the_description_of_the_engine(made: Model, cuda: FakeCUDA) -> None:
    loop = made.new_loop(batch=GPURunner)
    assert isinstance(made.batch, GPURunner)
    cuda.refuse = "masked_fill_"
    none: Any = None
    about = About("diffusion", "small", "a GPU", "bf16", 0, 128, SIZE, 2, Abilities(), reasons=("Chosen.",))
    engine = DiffusionEngine(
        loop,
        about,
        block_length=SIZE,
        detokenizer=none,
        prompt_tokenizer=none,
        masks=none,
        make_params=none,
        notes=made.batch.reported,
    )
    assert engine.about.reasons[0] == "Chosen." and "without CUDA graphs" in engine.about.reasons[1]
    await engine.close()


def test_the_worker_uses_the_device_of_the_model(made: Model, cuda: FakeCUDA) -> None:
    loop = made.new_loop()
    device = torch.device("cuda", 1)
    found: list[Any] = []

    def work() -> None:
        made.batch.device = device
        loop.prepare()
        found.append(cuda.device)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [device] and cuda.device == 0
