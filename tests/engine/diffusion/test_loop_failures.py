"""Trouble in the loop: memory that runs out, passes that break, listeners that raise. The others write on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.engine.reference_generate import until_end
from tests.support.diffusion_models import END, Model
from torch.utils._python_dispatch import TorchDispatchMode

from unwritten_engine.diffusion.diffusion_gemma.kv_cache import KVCache
from unwritten_engine.diffusion.diffusion_gemma.layers import DiffusionGemmaLayers
from unwritten_engine.diffusion.loop import DenoisingLoop
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.prefix_cache import Snapshot
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.diffusion.token_chunk import TokenChunk
from unwritten_engine.diffusion.tokenization.canvas_plan import BlockInit
from unwritten_engine.diffusion.tokenization.detokenizer import DecodedText, Detokenizer
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.frames import Priority

LENGTHS = (20, 33, 47)


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class TightBatch(ModelRunner):
    """Has memory for a number of rows; and may break."""

    most = 99
    broken: Exception | None = None
    cannot_begin = -1

    def step(self, count: int, max_length: int, *, equal_lengths: bool, constrained: bool) -> None:
        if count > self.most:
            raise out_of_memory()
        if self.broken is not None:
            raise self.broken
        super().step(count, max_length, equal_lengths=equal_lengths, constrained=constrained)

    def begin_block(self, row: int, *, seed: int, length: int, params: Any, block: BlockInit) -> int:
        if seed == self.cannot_begin:
            raise out_of_memory()
        return super().begin_block(row, seed=seed, length=length, params=params, block=block)


class TightBody(DiffusionGemmaLayers):
    """Cannot read pieces of some lengths."""

    cannot_read: Callable[[TokenChunk], Exception | None] = staticmethod(lambda piece: None)

    def encode(self, *chunks: TokenChunk) -> None:
        for chunk in chunks:
            error = type(self).cannot_read(chunk)
            if error is not None:
                raise error
        super().encode(*chunks)


class BrokenReader(Detokenizer):
    """Reads until it is broken."""

    broken = False

    def decode(self, *given: Any, **named: Any) -> DecodedText:
        if self.broken:
            raise ZeroDivisionError
        return super().decode(*given, **named)


class TightKV(KVCache):
    """Has no memory for snapshots."""

    def save(self, row: int, tokens: Any) -> Snapshot:
        raise out_of_memory()


@pytest.fixture(scope="module")
def made() -> Model:
    return Model(vocabulary=1024, hidden=32, layers=3, canvas=16, window=24, branch=0.5)


def asked(made: Model) -> list[Sequence]:
    return [
        made.run(made.prompt(length, length), seed=length, canvases=2, steps=5, entropy_bound=3.0) for length in LENGTHS
    ]


@pytest.fixture(scope="module")
def alone(made: Model) -> list[list[int]]:
    found = []
    for run in asked(made):
        made.new_loop()
        found += made.generate(run)
    assert all(len(ids) > 16 for ids in found)
    return found


def finish(loop: DenoisingLoop) -> None:
    for _ in range(200):
        if loop.idle:
            return
        loop.step()
    raise AssertionError("the loop does not come to an end")


def check(runs: list[Sequence], alone: list[list[int]], failed: int | None) -> None:
    for number, (run, wanted) in enumerate(zip(runs, alone, strict=True)):
        if number == failed:
            assert isinstance(run.error, GenerationFailed) and run.usage is None
        else:
            assert run.error is None and run.usage is not None
            assert until_end(run.output_ids, END) == wanted


def test_memory_for_fewer_rows(made: Model, alone: list[list[int]]) -> None:
    """The one who came last fails, with a message; the store makes room."""
    loop = made.new_loop(batch=TightBatch)
    runs = asked(made)
    runs[0].prompt = type(runs[0].prompt)(runs[0].prompt.ids, runs[0].prompt.cache_keys, 20)
    for run in runs:
        loop.add(run)
    loop.step()
    assert len(loop.prefix_cache) == 1
    assert isinstance(made.batch, TightBatch)
    made.batch.most = 2
    news = loop.step()
    assert set(news) == set(runs) and loop.running == runs[:2] and len(loop.prefix_cache) == 0
    finish(loop)
    check(runs, alone, 2)
    assert "Memory ran out in a denoising step; other requests continue" in str(runs[2].error)
    assert "smaller parallel" in str(runs[2].error)


def test_a_prefetch_fails_before_a_click(made: Model, alone: list[list[int]]) -> None:
    loop = made.new_loop(batch=TightBatch)
    runs = asked(made)
    runs[0].priority = Priority.PREFETCH
    for run in runs:
        loop.add(run)
    loop.step()
    assert isinstance(made.batch, TightBatch)
    made.batch.most = 2
    finish(loop)
    check(runs, alone, 0)


def test_memory_for_no_rows(made: Model) -> None:
    loop = made.new_loop(batch=TightBatch)
    runs = asked(made)
    for run in runs:
        loop.add(run)
    assert isinstance(made.batch, TightBatch)
    made.batch.most = 0
    assert set(loop.step()) == set(runs)
    assert loop.idle and all("Memory ran out" in str(run.error) for run in runs)


class Scarce(TorchDispatchMode):
    """Memory runs out once, at the n-th operation that needs some."""

    def __init__(self, place: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.place, self.count = place, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if not name.endswith("_") and not func.is_view and "copy_" not in name:
            self.count += 1
            if self.count == self.place:
                raise out_of_memory()
        return func(*args, **(kwargs or {}))


def test_running_out_of_memory_at_any_operation(made: Model, alone: list[list[int]]) -> None:
    def fail_at(place: int) -> tuple[list[Sequence], int]:
        loop, runs = made.new_loop(), asked(made)
        for run in runs:
            loop.add(run)
        loop.step()
        loop.step()
        scarce = Scarce(place)
        with scarce:
            loop.step()
        finish(loop)
        return runs, scarce.count

    runs, count = fail_at(0)
    check(runs, alone, None)
    assert count > 300
    for place in (*range(5, count, count // 12), *range(count - 24, count + 1, 3)):
        runs, _ = fail_at(place)
        failed = [number for number, run in enumerate(runs) if run.error]
        assert failed in ([], [2])  # after the pass there is nothing that must fail
        check(runs, alone, 2 if failed else None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (out_of_memory(), "Memory ran out while the prompt was processed; other requests continue"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"), "Memory ran out"),
        (RuntimeError("a broken kernel"), "failed while the prompt was processed: a broken kernel. Try again."),
    ],
)
@pytest.mark.parametrize("failed", [0, 1, 2])
def test_an_unreadable_prompt_fails(
    made: Model, alone: list[list[int]], error: Exception, message: str, failed: int
) -> None:
    class Failing(TightBody):
        @staticmethod
        def cannot_read(piece: TokenChunk) -> Exception | None:
            return error if piece.start + len(piece.ids) == LENGTHS[failed] else None

    loop, runs = made.new_loop(body=Failing), asked(made)
    loop.prefill_tokens = 15
    for run in runs:
        loop.add(run)
    finish(loop)
    check(runs, alone, failed)
    assert message in str(runs[failed].error)


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_a_canvas_that_cannot_be_read_fails(made: Model, alone: list[list[int]], failed: int) -> None:
    class Failing(TightBody):
        @staticmethod
        def cannot_read(piece: TokenChunk) -> Exception | None:
            return out_of_memory() if piece.start == LENGTHS[failed] else None

    loop, runs = made.new_loop(body=Failing), asked(made)
    for run in runs:
        loop.add(run)
    finish(loop)
    check(runs, alone, failed)
    assert "Memory ran out between two blocks" in str(runs[failed].error)


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_a_canvas_that_cannot_start_fails(made: Model, alone: list[list[int]], failed: int) -> None:
    loop, runs = made.new_loop(batch=TightBatch), asked(made)
    assert isinstance(made.batch, TightBatch)
    made.batch.cannot_begin = LENGTHS[failed]
    for run in runs:
        loop.add(run)
    finish(loop)
    check(runs, alone, failed)


def test_a_text_that_cannot_be_read_fails_alone(made: Model, alone: list[list[int]]) -> None:
    loop, runs = made.new_loop(), asked(made)
    broken = BrokenReader(made.tokenizer, frozenset({END}), 0, made.vocabulary)
    broken.broken = True
    runs[1].plan = type(runs[1].plan)(2, 32, 32, 64, broken)
    for run in runs:
        loop.add(run)
    finish(loop)
    check(runs, alone, 1)
    assert "ZeroDivisionError" in str(runs[1].error)


def test_no_memory_for_snapshots_is_no_failure(made: Model, alone: list[list[int]]) -> None:
    loop, runs = made.new_loop(rows=2, cache=TightKV), asked(made)
    for run in runs:
        run.prompt = type(run.prompt)(run.prompt.ids, run.prompt.cache_keys, 18)
    runs[0].priority = runs[1].priority = Priority.PREFETCH
    for run in runs[:2]:
        loop.add(run)
    loop.step()
    loop.add(runs[2])
    loop.step()
    assert runs[1].saved_state is not None and len(loop.prefix_cache) == 0
    finish(loop)
    check(runs, alone, None)


def test_a_failed_pass_fails_running_requests(made: Model, alone: list[list[int]]) -> None:
    loop, runs = made.new_loop(rows=2, batch=TightBatch), asked(made)
    for run in runs:
        loop.add(run)
    loop.step()
    assert isinstance(made.batch, TightBatch)
    made.batch.broken = RuntimeError("CUDA error: an illegal memory access")
    assert set(loop.step()) == set(runs[:2])
    made.batch.broken = None
    assert all("in a denoising step: CUDA error" in str(run.error) for run in runs[:2])
    assert runs[0].error is not runs[1].error
    finish(loop)
    check(runs[2:], alone[2:], None)


def test_a_listener_that_raises_is_dropped(made: Model, alone: list[list[int]]) -> None:
    loop, runs = made.new_loop(), asked(made)
    told: list[int] = []

    def broken() -> None:
        raise RuntimeError("Event loop is closed")

    runs[0].notify = broken
    runs[1].notify = lambda: told.append(1)
    for run in runs:
        loop.add(run)
    loop.step()
    loop.step()
    assert runs[0].cancelled and loop.running == [runs[2], runs[1]] and told == [1, 1]
    finish(loop)
    check(runs[1:], alone[1:], None)
    runs[0].notify = broken
    loop.add(runs[0])
    loop.close()
    assert loop.idle
