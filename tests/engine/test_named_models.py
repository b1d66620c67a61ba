"""Models by name: the list is consistent, names open the right file, and the best fit suits the machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.ggufs import MODEL, write_gguf
from tests.support.model_hub import fake_hub

from unwritten_engine import open_engine, scripted
from unwritten_engine.errors import BadOption, EngineError, UnknownEngine, UnknownOption
from unwritten_engine.model_size import judge_markup, parameters_in_name
from unwritten_engine.named_models import (
    DIFFUSION_GEMMA,
    EMBEDDED,
    EXPERIMENTAL,
    MODELS,
    Machine,
    best_fit,
    fit,
    memory_needed,
    record_speed,
    recorded_speeds,
)
from unwritten_engine.vllm.gpus import GPU

GB = 10**9
RTX_4090 = GPU("RTX 4090", 24 * GB, 23 * GB, (8, 9))


def machine(memory: float, threads: int, **more: Any) -> Machine:
    return Machine(memory=round(memory * GB), free=round(memory * GB), threads=threads, **more)


def test_the_list_names_files_licences_and_sizes() -> None:
    assert 10 <= len(MODELS) <= 14
    for model in MODELS.values():
        assert re.fullmatch(r"[a-z0-9.-]+", model.name) and model.licence
        if model.name not in (EMBEDDED, DIFFUSION_GEMMA) and not model.is_experimental:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+-GGUF", model.repo) and model.file.endswith(".gguf")
            bits = model.size * 8 / (model.parameters * 1e9)
            assert 4 < bits < 9, f"{model.name} would have {bits:.1f} bits per weight"
            assert parameters_in_name(model.name) in (0, pytest.approx(model.parameters * 1e9, rel=0.1))
    assert MODELS["qwen2.5-3b"].is_restricted and "not for commercial use" in MODELS["qwen2.5-3b"].licence


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (machine(1, 1), EMBEDDED),
        (machine(4, 1), "gemma-3-1b"),
        (machine(16, 2), "smollm2-1.7b"),
        (machine(16, 4), "qwen3-4b"),
        (machine(64, 8), "qwen3-30b-a3b"),
        (machine(16, 8), "qwen3-8b"),
        (machine(64, 8, gpu="M4", gpu_memory=48 * GB), "qwen3-30b-a3b"),
        (machine(16, 8, gpu="A card", gpu_memory=12 * GB), "qwen3-8b"),
        (machine(16, 2, gpus=(RTX_4090,)), DIFFUSION_GEMMA),
        (machine(0, 2), EMBEDDED),
    ],
)
def test_the_best_fit(here: Machine, expected: str) -> None:
    assert best_fit(here).name == expected


def test_a_measured_speed_decides() -> None:
    assert best_fit(machine(16, 2, speeds={"qwen3-4b": 9.0})).name == "qwen3-4b"
    assert best_fit(machine(16, 2, speeds={"smollm2-1.7b": 2.0})).name == "gemma-3-1b"


def test_a_model_that_fits_only_with_one_request_at_once_says_so() -> None:
    model = MODELS["smollm2-1.7b"]
    assert fit(model, machine(4, 2)).reason.endswith("with --engine-options parallel=1")
    assert fit(model, machine(2, 2)) == fit(model, machine(1.9, 2)) or fit(model, machine(1, 2)).kind == "no"
    assert memory_needed(model, 1) < memory_needed(model)


@pytest.mark.model
def test_the_memory_of_the_embedded_model_is_what_the_engine_says(embedded: Any) -> None:
    from unwritten_engine.gguf import read_header
    from unwritten_engine.llamacpp.embedded import embedded_file

    model, head = MODELS[EMBEDDED], read_header(embedded_file(lambda share, step: None))
    assert model.kv_bytes == head.kv_bytes
    assert model.size == pytest.approx(head.weight_bytes, rel=0.02)
    assert model.parameters * 1e9 == pytest.approx(head.parameters, rel=0.02)
    assert not embedded.about.abilities.markup


def test_speeds_are_kept_for_named_models(home: Path) -> None:
    assert recorded_speeds() == {}
    record_speed("qwen3-4b", 7.26)
    record_speed("http://localhost:8000/v1", 50.0)
    record_speed(EMBEDDED, 34.0)
    assert recorded_speeds() == {"qwen3-4b": 7.3, EMBEDDED: 34.0}
    (file,) = home.parent.rglob("speeds.json")
    file.write_text("[damaged")
    assert recorded_speeds() == {}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What llama.cpp is asked to open, instead of opening it."""
    calls: list[dict[str, Any]] = []

    def open_llamacpp(path: Path, *, progress: Callable[[float, str], None], **more: Any) -> Any:
        calls.append({"path": path, **more})
        progress(1.0, "ready")
        return scripted("A text.")

    monkeypatch.setattr("unwritten_engine.llamacpp.engine.open_llamacpp", open_llamacpp)
    return calls


def test_a_name_downloads_and_opens_a_model(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[dict[str, Any]]
) -> None:
    model = MODELS["qwen2.5-3b"]
    body = write_gguf(tmp_path / "model.gguf", MODEL).read_bytes()
    told: list[tuple[float, str]] = []
    with fake_hub() as hub:
        hub.files[f"{model.repo}/{model.file}"] = body
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        open_engine("Qwen2.5-3B", progress=lambda share, step: told.append((share, step)), parallel=1)
        open_engine("qwen2.5-3b")
        assert len(hub.downloads) == 1
    assert model.is_here
    steps = [step for _, step in told]
    assert "not for commercial use" in steps[0]  # the licence comes before the download
    assert steps[1].startswith(f"Downloading {model.file} from {model.repo}")
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert opened[0]["path"].read_bytes() == body
    assert opened[0]["model"] == "Qwen2.5 3B Instruct (Q4_K_M)" and opened[0]["licence"] == model.licence
    assert opened[0]["parallel"] == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("qwen2.5-3", "Did you mean 'qwen2.5-3b'?"),
        ("quen3-8b", "Did you mean 'qwen3-8b'?"),
        ("mistral", "Did you mean 'mistral-small-24b'?"),
        ("gemma", "Did you mean 'gemma-3-1b' or 'gemma-3-4b'?"),
        ("gemma-3-12b", "a name that 'unwritten models' lists"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(spec: str, message: str) -> None:
    with pytest.raises(UnknownEngine) as raised:
        open_engine(spec)
    assert message in str(raised.value)


def test_options_are_checked_before_the_download() -> None:
    with pytest.raises(UnknownOption, match="no option 'thread'"):
        open_engine("qwen3-4b", thread=2)
    with pytest.raises(BadOption, match="takes no model"):
        open_engine("qwen3-4b", model="other")


def test_diffusion_gemma_without_a_gpu_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten_engine.open.find_gpus", lambda: ())
    with pytest.raises(EngineError, match=r"needs an NVIDIA GPU with 18 GB.*unwritten models"):
        open_engine("diffusiongemma")


def test_an_experimental_model_is_only_opened_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["lfm2.5-350m-diffusion"]
    assert model.is_experimental and "not free for companies" in model.licence
    assert fit(model, machine(16, 8)).reason == EXPERIMENTAL and fit(model, machine(1, 8)).kind == "no"
    fitting = {best_fit(machine(memory, threads)).name for memory in (1, 2, 4, 16) for threads in (1, 2, 16)}
    assert model.name not in fitting
    opened: list[str] = []

    def open_diffusion(reference: str, **more: Any) -> Any:
        opened.append(reference)
        assert more["reasons"] == (f"{model.name} was requested by name.",) and more["steps_of"] == 4
        return scripted("A text.")

    monkeypatch.setattr("unwritten_engine.diffusion.open_diffusion", open_diffusion)
    open_engine(model.name, steps_of=4)
    assert opened == [model.repo]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen2.5-0.5B-Instruct", 0.5e9),
        ("qwen2.5:0.5b", 0.5e9),
        ("gemma3:270m", 0.27e9),
        ("Qwen/Qwen3-30B-A3B", 30e9),
        ("google/diffusiongemma-26B-A4B-it", 26e9),
        ("gpt-4o", 0),
        ("phi4", 0),
        ("gemma-3n-E2B-it", 0),
    ],
)
def test_the_size_in_a_name(name: str, parameters: float) -> None:
    assert parameters_in_name(name) == parameters


@pytest.mark.parametrize(
    ("parameters", "can", "reason"),
    [
        (134_515_008, False, "With 0.13 billion parameters it writes no drawings and programs: from 2 billion"),
        (494_032_768, False, "--markup on"),
        (3_085_938_688, True, "With 3.1 billion parameters it writes drawings and programs."),
        (30_532_122_624, True, "With 31 billion"),
    ],
)
def test_small_models_write_no_drawings(parameters: int, can: bool, reason: str) -> None:
    verdict, why = judge_markup(parameters)
    assert verdict is can and reason in why
