"""The check of GPUs runs at a small size on a CPU, says what it could not check, and reports failures."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tests.benchmarks.engine import gpu
from tests.benchmarks.engine.bench_model import FULL, ModelSpec, open_bench_model
from tests.benchmarks.engine.runners import EngineRunner, random_prompt
from tests.benchmarks.run_gpu import LOG, add_to_log, command, describe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    return {kind: gpu.check_kind(CPU, kind, small=True, seconds=500) for kind in gpu.KINDS}


def test_all_formats_are_checked(results: dict[str, dict[str, Any]]) -> None:
    for kind, result in results.items():
        assert result["problem"] == "" and result["errors"] == [] and list(result["rows"]) == [1, 4, 16]
        measured, planned = result["weights"]
        assert measured == pytest.approx(planned, rel=0.01)
        assert result["experts_error"] < (1e-5 if kind == "float32" else 0.02)
        assert all(part["not_finite"] == 0 and part["plain_ms"] > 0 for part in result["rows"].values())
        assert result["generate_ms"] > 0
    assert results["float32"]["alone_equals_batch"] == [8, 8]


def found(results: dict[str, dict[str, Any]], **given: Any) -> dict[str, Any]:
    machine = {"device": "CPU", "torch": "2", "transformers": "5", "warning": ""}
    return {
        "device": "cpu", "name": "This machine", "machine": machine, "small": True, "kinds": results,
        "vllm_ms": None, "vllm": "not installed", **given,
    }  # fmt: skip


def test_the_table_says_what_was_not_checked(results: dict[str, dict[str, Any]]) -> None:
    text = describe(found({**results, "nf4": {"problem": "took too long"}}))
    assert "Not checked, because torch finds no GPU: CUDA graphs" in text
    assert "| 16 canvases: step, not captured |" in text and "captured equals" not in text
    assert "nf4: took too long." in text and "A step of vLLM: not installed." in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_figures_of_a_gpu_are_shown(results: dict[str, dict[str, Any]]) -> None:
    row = {
        "captured_ms": 9.1, "plain_ms": 20.0, "equal": False, "captured": 4, "failures": ["no kernel image"],
        "step": [10**9, 11 * 10**8], "graph": 5 * 10**8, "not_finite": 3,
    }  # fmt: skip
    kinds = {"bf16": {**results["bf16"], "rows": {"1": row}}}
    text = describe(found(kinds, device="cuda:0", vllm_ms=8.0))
    for part in ("9.1 ms", "**no**", "no kernel image", "1.0 GB, 1.1 GB", "0.5 GB", "A step of vLLM: 8.0 ms"):
        assert part in text
    assert "Not checked" not in text


def test_an_error_costs_one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = gpu._check_rows

    def check(subject: Any, config: Any, rows: int, small: bool) -> dict[str, Any]:
        if rows == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.\nDetails")
        return plain(subject, config, rows, small)

    monkeypatch.setattr(gpu, "_check_rows", check)
    monkeypatch.setattr(gpu, "read_bandwidth", lambda device: 0)
    result = gpu.check_kind(CPU, "float32", small=True, seconds=500)
    assert result["errors"] == ["floor_ms: division by zero", "4 canvases: CUDA out of memory."]
    assert list(result["rows"]) == [1, 16] and result["generate_ms"] > 0
    text = describe(found({"float32": result}))
    assert "float32: 4 canvases: CUDA out of memory.\n" in text


def test_canvases_begin_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of all steps would be divided by the number of those that all canvases share."""
    subject = open_bench_model(ModelSpec(FULL, device="cpu", kind="float32", sizes=dict(gpu.SMALL)))
    engine = EngineRunner(subject, rows=4, context=64, graphs=gpu.BucketedGraphs())
    engine.loop.prefill_tokens = 8
    sizes_of_steps: list[int] = []
    plain = engine.runner.step

    def step(count: int, *given: Any, **named: Any) -> None:
        sizes_of_steps.append(count)
        plain(count, *given, **named)

    monkeypatch.setattr(engine.runner, "step", step)
    gpu._timed(engine, [random_prompt(subject, 32, seed) for seed in range(4)], 3)
    assert sizes_of_steps == [4, 4, 4]


def test_a_crash_costs_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "KINDS", ("nf4",))
    result = gpu.check_gpus(device="cpu", minutes=4)[0]
    assert result["kinds"]["nf4"]["problem"] == "" and result["small"] and result["vllm"] == "needs a GPU"
    assert "failed: " in gpu._in_process("no such device", "nf4", True, *[time.monotonic() + 200] * 2)["problem"]


def test_without_time_nothing_starts() -> None:
    assert gpu._in_process("cuda:0", "bf16", False, 0.0, 0.0) == {"problem": "left out: no time"}


@pytest.mark.parametrize(("minutes", "slow"), [(8, "bf16"), (8, "float32"), (4.2, "bf16"), (4.2, "int8")])
def test_every_format_gets_time_although_one_takes_all_it_can(
    minutes: float, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, seconds = 1000.0, dict[str, float]()

    def run(device: str, kind: str, small: bool, end: float, stop: float) -> dict[str, Any]:
        nonlocal now
        seconds[kind] = end - now
        now = stop if kind == slow else end - 10
        return {"problem": ""}

    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(gpu, "_in_process", run)
    gpu.check_gpus(device="cpu", minutes=minutes)
    assert list(seconds) == list(gpu.KINDS) and min(seconds.values()) >= gpu.MIN_SECONDS
    assert now <= 1000 + 60 * minutes


def test_results_are_added_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "LOG.md"
    log.write_text("# Log\n\nNewest first.\n\n## Older\n\nText.\n", encoding="utf-8")
    add_to_log(log, "## Newer\n\nTable.")
    assert log.read_text(encoding="utf-8") == "# Log\n\nNewest first.\n\n## Newer\n\nTable.\n\n## Older\n\nText.\n"
    before = LOG.read_bytes()
    monkeypatch.setattr(gpu, "check_gpus", lambda **given: [found({"bf16": {"problem": "does not fit"}})])
    done = CliRunner().invoke(command, ["--device", "cpu"])
    assert done.exit_code == 0 and "does not fit" in done.output
    assert LOG.read_bytes() == before  # small sizes are not logged
