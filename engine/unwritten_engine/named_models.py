"""Models that can be opened by a short name, what they need, and which of them fits this machine best.

Repositories and file names are those of the hub. Sizes are approximate: before a download the hub states the exact size
and the SHA-256, and the file is checked against them (``hub_files``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import platformdirs

from .downloads import whole_file
from .errors import EngineError, MissingPackage
from .hub_files import local_file
from .threads import choose_num_threads
from .vllm.gpus import GPU, OLDEST, OWN_ENGINE_NEEDS, choose_checkpoint, find_gpus

_APACHE: Final = "Apache 2.0"
_GEMMA: Final = "Gemma Terms of Use, https://ai.google.dev/gemma/terms"
_LFM: Final = (
    "LFM Open License 1.0: not free for companies with more than 10 million dollars of yearly revenue, "
    "https://huggingface.co/LiquidAI/lfm2.5-350m-diffusion-exp"
)
_QWEN_RESEARCH: Final = (
    "Qwen Research License: not for commercial use, https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE"
)


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model with a short name.

    Attributes:
        name: what ``--engine`` takes.
        title: the model's display name.
        repo: OWNER/REPO on the hub; "" for models that are opened in another way.
        file: the file in it; "" for all of them, which the engine ``diffusion`` opens.
        quantization: format of its weights.
        licence: name of its terms, and where to read them.
        parameters: in billions.
        size: of the download, in bytes, approximate.
        kv_bytes: bytes of one token in the KV cache.
        active_share: share of the weights that are read for a token; below 1 for a mixture of experts.
        is_restricted: True if the licence forbids commercial use, or some of it.
        is_experimental: True if this project has never run its real weights. It is only opened by its name.
    """

    name: str
    title: str
    repo: str
    file: str
    quantization: str
    licence: str
    parameters: float
    size: int
    kv_bytes: int
    active_share: float = 1.0
    is_restricted: bool = False
    is_experimental: bool = False

    @property
    def is_here(self) -> bool:
        """True if it needs no download."""
        file = self.file or "model.safetensors"
        return self.name == EMBEDDED or (bool(self.repo) and local_file(self.repo, file) is not None)


EMBEDDED: Final = "embedded"
DIFFUSION_GEMMA: Final = "diffusiongemma"

_LIST: Final = (
    NamedModel(EMBEDDED, "Gemma 3 270M", "", "", "Q4_K_M", _GEMMA, 0.27, 253_000_000, 18_432),
    NamedModel(
        "qwen3-0.6b", "Qwen3 0.6B", "Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf",
        "Q8_0", _APACHE, 0.6, 639_000_000, 114_688,
    ),
    NamedModel(
        "gemma-3-1b", "Gemma 3 1B Instruct", "ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q4_K_M.gguf",
        "Q4_K_M", _GEMMA, 1.0, 806_000_000, 26_624,
    ),
    NamedModel(
        "smollm2-1.7b", "SmolLM2 1.7B Instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
        "smollm2-1.7b-instruct-q4_k_m.gguf", "Q4_K_M", _APACHE, 1.7, 1_056_000_000, 196_608,
    ),
    NamedModel(
        "qwen2.5-3b", "Qwen2.5 3B Instruct", "Qwen/Qwen2.5-3B-Instruct-GGUF", "qwen2.5-3b-instruct-q4_k_m.gguf",
        "Q4_K_M", _QWEN_RESEARCH, 3.1, 2_105_000_000, 36_864, is_restricted=True,
    ),
    NamedModel(
        "gemma-3-4b", "Gemma 3 4B Instruct", "ggml-org/gemma-3-4b-it-GGUF", "gemma-3-4b-it-Q4_K_M.gguf",
        "Q4_K_M", _GEMMA, 3.9, 2_490_000_000, 139_264,
    ),
    NamedModel(
        "qwen3-4b", "Qwen3 4B", "Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf",
        "Q4_K_M", _APACHE, 4.0, 2_497_000_000, 147_456,
    ),
    NamedModel(
        "qwen3-8b", "Qwen3 8B", "Qwen/Qwen3-8B-GGUF", "Qwen3-8B-Q4_K_M.gguf",
        "Q4_K_M", _APACHE, 8.2, 5_028_000_000, 147_456,
    ),
    NamedModel(
        "phi-4", "Phi-4", "bartowski/phi-4-GGUF", "phi-4-Q4_K_M.gguf",
        "Q4_K_M", "MIT", 14.7, 9_053_000_000, 204_800,
    ),
    NamedModel(
        "mistral-small-24b", "Mistral Small 24B Instruct", "bartowski/Mistral-Small-24B-Instruct-2501-GGUF",
        "Mistral-Small-24B-Instruct-2501-Q4_K_M.gguf", "Q4_K_M", _APACHE, 23.6, 14_334_000_000, 163_840,
    ),
    NamedModel(
        "qwen3-30b-a3b", "Qwen3 30B-A3B", "Qwen/Qwen3-30B-A3B-GGUF", "Qwen3-30B-A3B-Q4_K_M.gguf",
        "Q4_K_M", _APACHE, 30.5, 18_557_000_000, 98_304, active_share=0.11,
    ),
    NamedModel(
        "lfm2.5-350m-diffusion", "LFM2.5 350M Diffusion", "LiquidAI/lfm2.5-350m-diffusion-exp", "",
        "bf16", _LFM, 0.36, 720_000_000, 12_288, is_restricted=True, is_experimental=True,
    ),
    NamedModel(
        DIFFUSION_GEMMA, "DiffusionGemma 26B-A4B", "", "", "by GPU", _APACHE, 25.2, 17_200_000_000, 0,
    ),
)  # fmt: skip

MODELS: Final[Mapping[str, NamedModel]] = MappingProxyType({model.name: model for model in _LIST})
"""All models by name: GGUF models from the smallest to the largest, then diffusion models. The first has an engine of
its own."""
EXPERIMENTAL: Final = "experimental: never run with its real weights by this project"
"""What is said of ``is_experimental`` models wherever they are listed."""

_CONTEXT, _PARALLEL = 4096, 4  # defaults of the llama.cpp engine
_DIFFUSION_ROWS: Final = 8 * 8192  # tokens in the caches of the diffusion engine on a CPU
_SPARE: Final = 300_000_000
"""Bytes for what a model needs beside weights and cache."""
_USABLE: Final = 0.9
"""Share of the memory that a model may need."""
_BYTES_PER_THREAD: Final = 1_000_000_000
"""Weights that a thread of a CPU reads several times per second. Models that read more per token are slow."""
_SLOW: Final = 5.0
"""Measured tokens per second below which a model is slow."""


# -- this machine -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has for models.

    Attributes:
        memory: bytes of memory, or of the container's limit; 0 if unknown.
        free: bytes of it that are free.
        threads: threads that an engine would use.
        gpu: name of a GPU that this llama.cpp can use, or "".
        gpu_memory: bytes of its memory.
        gpus: NVIDIA GPUs.
        speeds: tokens per second that were measured on it, by the model's name.
    """

    memory: int
    free: int
    threads: int
    gpu: str = ""
    gpu_memory: int = 0
    gpus: tuple[GPU, ...] = ()
    speeds: Mapping[str, float] = field(default_factory=dict)


def memory() -> tuple[int, int]:
    """Return the total and the free memory in bytes, within the container's limit; zeros if they are not known."""
    total = free = 0
    with suppress(OSError, KeyError, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)}
        total, free = values["MemTotal"], values["MemAvailable"]
    if not total:
        with suppress(AttributeError, ValueError, OSError):
            total = free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no such file, or "max"
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def this_machine() -> Machine:
    """Return what this machine has, and the speeds that were measured on it. Loads llama.cpp, to ask it for GPUs."""
    from .llamacpp.engine import gpu_devices

    total, free = memory()
    usable: list[dict[str, Any]] = []
    with suppress(MissingPackage):
        usable = gpu_devices()
    return Machine(
        memory=total,
        free=free,
        threads=choose_num_threads()[0],
        gpu=str(usable[0]["description"]) if usable else "",
        gpu_memory=int(usable[0]["memory_total"]) if usable else 0,
        gpus=find_gpus(),
        speeds=recorded_speeds(),
    )


# -- what fits --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model can be used on this machine.

    Attributes:
        kind: "yes", "slow" for a model that fits and is slow or experimental, or may not fit, or "no".
        reason: where it would run, or what is missing; a few words.
    """

    kind: Literal["yes", "slow", "no"]
    reason: str


def memory_needed(model: NamedModel, parallel: int = _PARALLEL) -> int:
    """Return the bytes that a model needs with the engine's default context, approximately."""
    if model.name == DIFFUSION_GEMMA:
        return OWN_ENGINE_NEEDS
    if model.is_experimental:
        return model.size + _DIFFUSION_ROWS * model.kv_bytes + _SPARE
    from .llamacpp.engine import num_slots

    slots = num_slots(parallel, _CONTEXT * model.kv_bytes)
    return model.size + slots * _CONTEXT * model.kv_bytes + _SPARE


def fit(model: NamedModel, machine: Machine) -> Fit:
    """Return whether a model can be used on a machine."""
    if model.name == DIFFUSION_GEMMA:
        return _fit_diffusion_gemma(machine)
    if model.is_experimental:
        is_enough = not machine.memory or memory_needed(model) <= machine.memory * _USABLE
        return Fit("slow", EXPERIMENTAL) if is_enough else Fit("no", f"this machine has {machine.memory / 1e9:.0f} GB")
    needed = memory_needed(model)
    if machine.gpu and needed <= machine.gpu_memory * _USABLE:
        return Fit("yes", f"on the GPU ({machine.gpu})")
    if not machine.memory:
        return Fit("slow", "the memory of this machine is not known")
    options = ""
    if needed > machine.memory * _USABLE:
        options = " with --engine-options parallel=1"
        if memory_needed(model, 1) > machine.memory * _USABLE:
            return Fit("no", f"this machine has {machine.memory / 1e9:.0f} GB")
    speed = machine.speeds.get(model.name)
    is_slow = speed < _SLOW if speed else model.size * model.active_share > machine.threads * _BYTES_PER_THREAD
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    return Fit("slow" if is_slow else "yes", f"{'slow ' if is_slow else ''}on the CPU, {threads}{options}")


def _fit_diffusion_gemma(machine: Machine) -> Fit:
    if not machine.gpus:
        return Fit("no", "needs an NVIDIA GPU")
    gpu, count = machine.gpus[0], len(machine.gpus)
    if choose_checkpoint(gpu, count) or (gpu.memory >= OWN_ENGINE_NEEDS and gpu.capability >= OLDEST):
        return Fit("yes", f"on the GPU ({gpu.name})")
    return Fit("no", f"{gpu.name} is too small or too old")


def best_fit(machine: Machine) -> NamedModel:
    """Return DiffusionGemma if it fits, otherwise the largest model that fits and is not slow.

    Models that are experimental, or forbid commercial use, are left out.
    """
    fitting = [
        model
        for model in MODELS.values()
        if not (model.is_restricted or model.is_experimental) and fit(model, machine).kind == "yes"
    ]
    if any(model.name == DIFFUSION_GEMMA for model in fitting):
        return MODELS[DIFFUSION_GEMMA]
    return fitting[-1] if fitting else MODELS[EMBEDDED]


# -- measured speeds --------------------------------------------------------------------------------------------------


def recorded_speeds() -> dict[str, float]:
    """Return the tokens per second that ``record_speed`` has kept, by the model's name."""
    with suppress(OSError, ValueError, AttributeError):
        found: dict[str, Any] = json.loads(_speeds_file().read_text(encoding="utf-8"))
        return {name: float(value) for name, value in found.items() if isinstance(value, int | float) and value > 0}
    return {}


def record_speed(name: str, tokens_per_second: float) -> None:
    """Keep how fast a named model is on this machine. Nothing happens for other engines, or if it cannot be kept."""
    if name not in MODELS or tokens_per_second <= 0:
        return
    content = json.dumps(recorded_speeds() | {name: round(tokens_per_second, 1)}).encode()
    with suppress(EngineError), whole_file(_speeds_file(), len(content)) as file:
        file.write(content)


def _speeds_file() -> Path:
    return Path(platformdirs.user_cache_dir("unwritten", appauthor=False)) / "speeds.json"
