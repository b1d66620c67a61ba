from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.ggufs import MODEL, write_gguf

from unwritten_engine import Recorder, open_engine, scripted
from unwritten_engine import open as open_module
from unwritten_engine.errors import (
    BadOption,
    MissingPackage,
    ModelBroken,
    ModelNotFound,
    ModelUnsupported,
    UnknownEngine,
    UnknownOption,
)
from unwritten_engine.open import ENGINE_KINDS
from unwritten_engine.vllm.gpus import GPU


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("embeded", "no engine 'embeded'. Did you mean 'embedded'?"),
        ("gpt", "There is no engine 'gpt'. Engines are 'auto', 'embedded'"),
        ("", "no engine ''"),
        ("model.safetensors", "neither a .gguf or .tape file nor a server address"),
        ("/models", "neither a .gguf or .tape file nor a server address"),
        ("http://localhost:1/v1", "cannot be reached"),
        ("http://[::1/v1", "is not a server address"),
        ("http://host:port/v1", "is not a server address"),
        ("https://", "is not a server address. Example: http://localhost:8000/v1"),
        ("ftp://host/model.gguf", "neither a .gguf or .tape file nor a server address"),
        ("hf:gemma", "The form is hf:OWNER/REPO/FILE.gguf"),
        ("hf:owner/repo/model.bin", "does not name a file"),
        ("hf:owner/repo/../../model.gguf", "does not name a file"),
    ],
)
def test_an_unknown_engine_lists_the_known_ones(spec: str, message: str) -> None:
    with pytest.raises(UnknownEngine) as raised:
        open_engine(spec)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("spec", "options", "kind", "message"),
    [
        (
            "x.gguf",
            {"thread": 2},
            UnknownOption,
            "llama.cpp engine has no option 'thread'. Did you mean 'threads'?",
        ),
        ("embedded", {"speed": 2}, UnknownOption, "no option 'speed'"),
        ("embedded", {"context": 10}, BadOption, "'context' is 10; give a whole number from 256"),
        ("https://example.org/x.gguf", {"thread": 2}, UnknownOption, "'threads'"),
        ("hf:a/b/c.gguf", {"parallel": 0}, BadOption, "'parallel' is 0"),
        ("x.tape", {"sped": 2}, UnknownOption, "The tape engine has no option 'sped'. Did you mean 'speed'?"),
        ("tape:x", {"speed": "fast"}, BadOption, "a number of at least 0"),
        ("http://localhost:1", {"models": "x"}, UnknownOption, "servers has no option 'models'. Did you mean 'model'?"),
        ("http://localhost:1", {"retries": -1}, BadOption, "'retries' is -1"),
        ("diffusion:a/b", {"model": "c/d"}, BadOption, "and model='c/d' name different checkpoints"),
    ],
)
def test_options_are_checked_first(spec: str, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as raised:
        open_engine(spec, **options)
    assert message in str(raised.value)


def test_files_that_are_not_models_are_refused_before_loading(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model file"):
        open_engine(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("This is not a model, it is a text of some length.")
    with pytest.raises(ModelBroken, match="not a GGUF file"):
        open_engine(tmp_path / "text.gguf")
    diffusion = write_gguf(tmp_path / "d.gguf", MODEL | {"general.architecture": "llada"})
    with pytest.raises(ModelUnsupported, match="text-diffusion"):
        open_engine(str(diffusion))


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["diffusion-gemma", "diffusion_gemma4"])
def test_an_unsupported_diffusion_gemma_names_the_right_build(tmp_path: Path, architecture: str) -> None:
    path = write_gguf(tmp_path / "d.gguf", MODEL | {"general.architecture": architecture})
    with pytest.raises(ModelUnsupported, match=r"24423.*'visual:PATH/llama-diffusion-gemma-visual-server'"):
        open_engine(path)


@pytest.mark.model
def test_a_file_that_llama_cpp_cannot_load_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match=r"could not load .*architecture 'llama'.*log=True"):
        open_engine(write_gguf(tmp_path / "hollow.gguf", MODEL))


def test_without_llama_cpp_the_message_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingPackage, match="Type: pip install xllamacpp"):
        open_engine(write_gguf(tmp_path / "tiny.gguf", MODEL))


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_the_diffusion_packages_the_message_names_the_command(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)  # there, and not the slow one
    monkeypatch.setitem(sys.modules, "transformers", sys)
    monkeypatch.setitem(sys.modules, package, None)
    for spec in ("diffusion", "diffusion:owner/repo"):
        with pytest.raises(MissingPackage, match=r'Type: pip install "unwritten\[diffusion\]"'):
            open_engine(spec)


@pytest.mark.parametrize("spec", ["{}", "tape:{}"])
def test_a_tape_is_opened_by_path(tmp_path: Path, spec: str) -> None:
    path = tmp_path / "a.tape"
    Recorder(scripted("text"), path)
    assert open_engine(spec.format(path), speed=0).about.engine == "tape"


def test_a_missing_tape_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no tape"):
        open_engine(tmp_path / "none.tape")


def test_auto_is_never_a_tape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder(scripted("text"), tmp_path / "auto.tape")
    monkeypatch.chdir(tmp_path)
    claimed = [kind.name for kind in ENGINE_KINDS if kind.claims("auto")]
    assert claimed == ["auto"]


def test_every_kind_has_an_example() -> None:
    assert all(kind.example for kind in ENGINE_KINDS)
    assert len({(kind.name, kind.example) for kind in ENGINE_KINDS}) == len(ENGINE_KINDS)


GIB = 1 << 30
RTX_4090 = GPU("RTX 4090", 24 * GIB, 23 * GIB, (8, 9), "GPU-1")
BUSY = GPU("RTX 4090", 24 * GIB, 5 * GIB, (8, 9), "GPU-2")
RTX_3060 = GPU("RTX 3060", 12 * GIB, 12 * GIB, (8, 6), "GPU-3")
A10 = GPU("A10", 20 * GIB, 20 * GIB, (8, 6))


@pytest.mark.parametrize(
    ("gpus", "version", "torch", "expected", "why"),
    [
        ([], "0.32.0", True, "embedded", "there is no NVIDIA GPU"),
        ([RTX_4090], "0.32.0", True, "vllm", "fits on RTX 4090, and vLLM is installed"),
        ([RTX_4090], "0.33.0", True, "diffusion", 'vLLM is faster; type: pip install "vllm>=0.32,<0.33"'),
        ([RTX_4090], None, True, "diffusion", "vLLM is faster; type: pip install"),
        ([RTX_4090], None, False, "embedded", 'could run DiffusionGemma. Type: pip install "unwritten[vllm]"'),
        ([RTX_4090], "0.32.0+cpu", True, "diffusion", "fits on RTX 4090"),
        ([RTX_4090], "0.32.0+cpu", False, "embedded", 'Type: pip install "unwritten[vllm]"'),
        ([BUSY], "0.32.0", True, "embedded", "Other programs use RTX 4090: 5 of 26"),
        ([RTX_3060], "0.32.0", True, "embedded", "RTX 3060 is too small"),
        ([GPU("T4", 16 * GIB, 16 * GIB, (7, 5))], "0.32.0", True, "embedded", "too small or too old"),
        ([A10], "0.32.0", True, "diffusion", "fits on A10."),
        ([RTX_3060, BUSY, RTX_4090], "0.32.0", True, "vllm", "fits on RTX 4090, and"),
        ([RTX_3060, A10], "0.32.0", True, "diffusion", "fits on A10."),
        ([RTX_3060, BUSY], "0.32.0", True, "embedded", "for DiffusionGemma. Other programs use RTX 4090"),
    ],
)
def test_auto_takes_diffusiongemma_on_a_gpu_that_it_fits_on(
    gpus: list[GPU], version: str | None, torch: bool, expected: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []

    def opener(name: str) -> Any:
        def open_it(spec: str, progress: Any, *, _why: str = "") -> Any:
            opened.append((name, _why))
            return scripted("A text.")

        return open_it

    if len(gpus) > 1:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr(open_module, "find_gpus", lambda: gpus)
    monkeypatch.setattr(open_module, "installed_version", lambda: version)
    monkeypatch.setattr(open_module, "is_cpu_build", lambda: "cpu" in (version or ""))
    monkeypatch.setattr(open_module, "_has_torch_for_gpus", lambda: torch)
    for name in ("vllm", "diffusion", "embedded"):
        monkeypatch.setattr(open_module, f"_open_{name}", opener(name))
    open_engine("auto")
    [(engine, reason)] = opened
    assert engine == expected and why in reason
    if len(gpus) > 1 and engine == "vllm":
        assert os.environ["CUDA_VISIBLE_DEVICES"] == RTX_4090.uuid, "and not the first one, or the busy one"


@pytest.mark.parametrize(("version", "expected"), [("2.13.0", True), ("2.13.0+cu130", True), ("2.13.0+cpu", False)])
def test_a_build_of_torch_for_cpus_runs_nothing_on_a_gpu(
    version: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_module, "find_spec", lambda name: object())
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    assert open_module._has_torch_for_gpus() == expected


def test_auto_falls_back_to_the_embedded_model_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(spec: str, progress: Any, *, _why: str = "") -> Any:
        raise ModelNotFound("The hub cannot be reached.")

    reasons: list[str] = []

    def embedded(spec: str, progress: Any, *, _why: str = "", **options: Any) -> Any:
        reasons.append(_why)
        return scripted("A text.")

    monkeypatch.setattr(open_module, "find_gpus", lambda: (RTX_4090,))
    monkeypatch.setattr(open_module, "installed_version", lambda: "0.32.0")
    monkeypatch.setattr(open_module, "is_cpu_build", lambda: False)
    monkeypatch.setattr(open_module, "_open_vllm", fail)
    monkeypatch.setattr(open_module, "_open_embedded", embedded)
    open_engine("auto")
    open_engine("auto", threads=1)
    assert "The engine 'vllm' could not be opened: The hub cannot be reached." in reasons[0]
    assert reasons[1] == "No other engine was requested.", "its options are those of the embedded model"


def test_vllm_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten_engine.vllm.internals.installed_version", lambda: None)
    with pytest.raises(MissingPackage, match=r'pip install "unwritten\[vllm\]"'):
        open_engine("vllm")
    with pytest.raises(UnknownOption, match="The vLLM engine has no option 'temperature'"):
        open_engine("vllm", temperature=1)
    with pytest.raises(BadOption, match="name different checkpoints"):
        open_engine("vllm:a/b", model="c/d")
