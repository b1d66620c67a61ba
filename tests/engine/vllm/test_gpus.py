from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from unwritten_engine.engine import Progress
from unwritten_engine.errors import BadOption, ModelUnsupported
from unwritten_engine.options import check_options
from unwritten_engine.vllm.checkpoint import VLLMCheckpoint
from unwritten_engine.vllm.gpus import GPU, advise, choose_checkpoint, parse_gpus, use_only
from unwritten_engine.vllm.options import OPTIONS, OWNER

pytest.importorskip("zmq")
from unwritten_engine.vllm import build

TABLE = """NVIDIA GeForce RTX 4090, 24564, 24111, 8.9, 0, GPU-aaaa-1
NVIDIA H100 80GB HBM3, 81559, 80990, 9.0, 1, GPU-bbbb-2
NVIDIA GB10, [N/A], [N/A], 12.1, 2, GPU-cccc-3
"""


def gpu(gigabytes: int, capability: tuple[int, int]) -> GPU:
    return GPU("A GPU", gigabytes << 30, gigabytes << 30, capability)


def test_the_table_of_nvidia_smi_is_read() -> None:
    gpus = parse_gpus(TABLE)
    assert [(gpu.name, gpu.capability) for gpu in gpus] == [
        ("NVIDIA GeForce RTX 4090", (8, 9)),
        ("NVIDIA H100 80GB HBM3", (9, 0)),
    ], "a GPU whose memory is unknown is left out"
    assert gpus[0].memory == 24564 << 20 and gpus[0].free == 24111 << 20
    assert parse_gpus("No devices were found") == ()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", ["H100"]),
        ("0,1", ["RTX", "H100"]),
        ("1,0", ["H100", "RTX"]),  # CUDA numbers them in this order
        ("GPU-aaaa", ["RTX"]),
        ("", []),
        ("-1", []),
        ("MIG-1", ["RTX", "H100"]),
    ],
)
def test_hidden_gpus_are_left_out(visible: str, expected: list[str]) -> None:
    gpus = parse_gpus(TABLE, visible)
    assert [next(word for word in expected if word in gpu.name) for gpu in gpus] == expected


def test_a_process_can_be_limited_to_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    use_only(parse_gpus(TABLE)[1])
    assert [gpu.uuid for gpu in parse_gpus(TABLE, os.environ["CUDA_VISIBLE_DEVICES"])] == ["GPU-bbbb-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    use_only(parse_gpus(TABLE)[0])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-1", "a part of a GPU stays"


@pytest.mark.parametrize(
    ("gigabytes", "capability", "count", "expected"),
    [
        (24, (8, 6), 1, "AWQ-INT4"),  # RTX 3090
        (24, (8, 9), 1, "AWQ-INT4"),  # RTX 4090
        (48, (8, 9), 1, "AWQ-INT4"),  # L40S
        (24, (12, 0), 1, "NVFP4"),  # RTX 5090 Laptop
        (32, (12, 0), 1, "NVFP4"),  # RTX 5090
        (180, (10, 0), 1, "NVFP4"),  # B200
        (80, (9, 0), 1, "FP8"),  # H100
        (141, (9, 0), 1, "FP8"),  # H200
        (80, (8, 0), 1, "bf16"),  # A100
        (40, (8, 0), 1, "AWQ-INT4"),
        (40, (8, 0), 2, "bf16"),
        (16, (8, 9), 1, None),
        (16, (8, 9), 2, "AWQ-INT4"),
        (24, (7, 5), 1, None),  # Turing has no bf16
    ],
)
def test_each_gpu_gets_the_format_that_it_computes_in(
    gigabytes: int, capability: tuple[int, int], count: int, expected: str | None
) -> None:
    choice = choose_checkpoint(gpu(gigabytes, capability), count)
    assert (choice and choice.format) == expected


def test_a_small_gpu_is_an_error_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_check_gpus", lambda *_: None)
    with pytest.raises(ModelUnsupported, match=r"A GPU has 17\.2 GB, and the smallest checkpoint .* about 22 GB"):
        build_with(monkeypatch, gpu(16, (8, 9)))
    with pytest.raises(ModelUnsupported, match=r"nvidia-smi.* no checkpoint can be chosen"):
        build_with(monkeypatch)


def test_a_gpu_in_use_is_an_error_before_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(reference: str, progress: Progress, check: Callable[[VLLMCheckpoint], str]) -> Path:
        assert check(cast("VLLMCheckpoint", SimpleNamespace(**fields, memory=lambda *_: (10**9, "")))).startswith("m ")
        check(cast("VLLMCheckpoint", SimpleNamespace(**fields, memory=lambda *_: (18 * 10**9, ""))))
        raise AssertionError("the download would start")

    fields: dict[str, Any] = {"name": "m", "context": 8192}
    monkeypatch.setattr(build, "fetch", fetch)
    monkeypatch.setattr(build, "_check_gpus", lambda *_: None)
    with pytest.raises(ModelUnsupported, match=r"m needs 18\.0 GB .* Other programs use 12\.9 GB of it; nvidia-smi"):
        build_with(monkeypatch, GPU("A GPU", 24 << 30, 12 << 30, (8, 9)))


def test_a_build_for_cpus_chooses_no_checkpoint_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelUnsupported, match=r"The installed vLLM is a build for CPUs\."):
        build_with(monkeypatch, gpu(24, (8, 9)), is_cpu=True)


def build_with(
    monkeypatch: pytest.MonkeyPatch, *gpus: GPU, model: str | None = None, is_cpu: bool = False, **options: object
) -> None:
    monkeypatch.setattr(build, "find_gpus", lambda: gpus)
    monkeypatch.setattr(build, "is_cpu_build", lambda: is_cpu)
    monkeypatch.setattr(build, "_check_settings", lambda settings: None)
    build.build_vllm(model, lambda share, step: None, (), check_options(options, OPTIONS, OWNER))


def test_an_old_gpu_and_too_few_gpus_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelUnsupported, match=r"compute capability 7\.5, and .* needs 8\.0 \(Ampere\) or newer"):
        build_with(monkeypatch, gpu(24, (7, 5)))
    with pytest.raises(BadOption, match=r"ask for 4 GPUs, and this machine has 1\. .*backend=ray"):
        build_with(monkeypatch, gpu(24, (8, 9)), tensor_parallel=2, data_parallel=2)
    assert "too old" in advise(gpu(24, (7, 5)))
    assert "--engine vllm --engine-options tensor_parallel=2, which" in advise(gpu(16, (8, 9)), 3)
    assert "--engine vllm, which downloads cyankiwi" in advise(gpu(40, (8, 0)), 2)


@pytest.mark.parametrize(
    ("gpus", "warning", "message"),
    [
        (0, "no driver", r"nvidia-smi lists no GPU .* type nvidia-smi"),
        (
            1,
            "The driver is too old (found 1). Please update your GPU driver by … PyTorch. (Triggered at …)",
            r"driver is too old \(found 1\)\. It needs .*13\.0",
        ),
        (1, "", r"cannot use A GPU: CUDA does not start"),
    ],
)
def test_a_missing_or_old_driver_is_an_error_before_the_download(
    gpus: int, warning: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_available() -> bool:
        if warning:
            warnings.warn(warning, stacklevel=1)
        return False

    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with pytest.raises(ModelUnsupported, match=message):
        build_with(monkeypatch, *[gpu(24, (8, 9))] * gpus, model="owner/model")


def test_the_reason_why_no_gpu_was_found_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert build._why_no_gpu() == "nvidia-smi lists no GPU that CUDA_VISIBLE_DEVICES=5 allows."
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "There is no nvidia-smi" in build._why_no_gpu()
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    assert "none whose memory it knows" in build._why_no_gpu(), "as of a GB10, which shares the memory of the machine"


def test_the_random_model_runs_in_the_type_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise vLLM converts it to bf16, and warns about every weight."""
    monkeypatch.setattr(build, "_check_gpus", lambda *_: None)
    monkeypatch.setattr(build, "installed_version", lambda: "0.32.0")
    started: list[dict[str, Any]] = []

    def start(arguments: dict[str, Any], scratch: Any) -> None:
        started.append(arguments)
        scratch.cleanup()

    monkeypatch.setattr(build, "LocalVLLM", start)
    build_with(monkeypatch, model="random", is_cpu=True)
    build_with(monkeypatch, model="random", is_cpu=True, dtype="bfloat16")
    assert [arguments["dtype"] for arguments in started] == ["float32", "bfloat16"]


def test_a_gpu_in_use_gets_a_smaller_share() -> None:
    def used(gigabytes: int) -> GPU:
        return GPU("A GPU", 24 << 30, (24 - gigabytes) << 30, (8, 9))

    assert build.usable_fraction(used(0), None) is None, "vLLM's own"
    share = build.usable_fraction(used(4), None)
    assert share is not None and 0.75 < share < 20 / 24, "vLLM refuses to take more than is free"
    assert build.usable_fraction(used(4), 0.5) == 0.5
    with pytest.raises(BadOption, match=r"memory_fraction=0\.9 of A GPU is 23\.2 GB, and 21\.5 GB are free"):
        build.usable_fraction(used(4), 0.9)
