"""GPUs of this machine, and the checkpoint of DiffusionGemma that suits each kind. Does not import torch or vLLM.

Sizes are those of the files on the hub. Speeds were measured by others, who are named; none are ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class GPU:
    """A GPU.

    Attributes:
        name: such as "NVIDIA GeForce RTX 4090".
        memory: bytes in total.
        free: bytes that no program uses.
        capability: compute capability, such as (8, 9).
        uuid: as ``CUDA_VISIBLE_DEVICES`` accepts it.
    """

    name: str
    memory: int
    free: int
    capability: tuple[int, int]
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointChoice:
    """A checkpoint for a GPU.

    Attributes:
        model: its name on the hub.
        format: of its weights.
        size: bytes of the weights.
        needs: bytes of a GPU on which the weights, the caches and a step of one request fit.
        reason: why this format, in one sentence.
        measured: what others have measured with it on such GPUs; "" if we know of nothing.
    """

    model: str
    format: str
    size: int
    needs: int
    reason: str
    measured: str = ""


BF16: Final = CheckpointChoice(
    "google/diffusiongemma-26B-A4B-it",
    "bf16",
    51_650_000_000,
    70_000_000_000,
    "The original bf16 weights fit on this GPU, and FP8 fails on Ampere.",
)
FP8: Final = CheckpointChoice(
    "RedHatAI/diffusiongemma-26B-A4B-it-FP8-dynamic",
    "FP8",
    27_200_000_000,
    32_000_000_000,
    "Hopper computes in FP8, and the weights take half the memory of bf16.",
    "vLLM's blog reports 146 ms for a canvas of 16 steps on an H100",
)
NVFP4: Final = CheckpointChoice(
    "nvidia/diffusiongemma-26B-A4B-it-NVFP4",
    "NVFP4",
    18_900_000_000,
    23_500_000_000,
    "Blackwell computes in NVFP4, the smallest format that it supports.",
    "Users report 100 to 150 tokens per second on a DGX Spark",
)
AWQ: Final = CheckpointChoice(
    "cyankiwi/diffusiongemma-26B-A4B-it-AWQ-INT4",
    "AWQ-INT4",
    17_200_000_000,
    22_000_000_000,
    "4 bits fit on a GPU of 24 GB, and FP8 fails on Ampere.",
    "A user measured 525 to 575 tokens per second on an RTX 4090",
)


OWN_ENGINE_NEEDS: Final = 18_000_000_000
"""Bytes of a GPU on which DiffusionGemma fits in 4 bits in the engine ``diffusion``."""
OLDEST: Final = (8, 0)
"""The first compute capability with bf16: Ampere."""


def find_gpus() -> tuple[GPU, ...]:
    """Return the NVIDIA GPUs that ``nvidia-smi`` lists and ``CUDA_VISIBLE_DEVICES`` allows.

    Takes a fraction of a second, and starts no CUDA.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    query = [command, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout, os.environ.get("CUDA_VISIBLE_DEVICES")) if done.returncode == 0 else ()


_FIELDS: Final = "name,memory.total,memory.free,compute_cap,index,uuid"


def parse_gpus(table: str, visible: str | None = None) -> tuple[GPU, ...]:
    """Return the GPUs in the output of ``nvidia-smi``, in the order in which CUDA numbers them.

    GPUs of which it does not know all values are left out.

    Args:
        table: the output, with ``_FIELDS``.
        visible: ``CUDA_VISIBLE_DEVICES``: indices or UUIDs of the GPUs that may be used; None for all.
    """
    gpus: dict[str, GPU] = {}
    for line in table.splitlines():
        fields = [field.strip() for field in line.split(",")]
        try:
            name, total, free, capability, index, uuid = fields
            major, minor = capability.split(".")
            gpus[index] = GPU(name, int(total) << 20, int(free) << 20, (int(major), int(minor)), uuid)
        except ValueError:
            continue
    if visible is None or "MIG-" in visible:
        return tuple(gpus.values())
    listed = [item.strip() for item in visible.split(",")]
    return tuple(
        gpu
        for item in listed
        for index, gpu in gpus.items()
        if item == index or (item.startswith("GPU-") and gpu.uuid.startswith(item))
    )


def use_only(gpu: GPU) -> None:
    """Hide the other GPUs from CUDA, in this process and those that it starts. Call it before CUDA is used."""
    if gpu.uuid and "MIG-" not in os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.uuid


def choose_checkpoint(gpu: GPU, count: int = 1) -> CheckpointChoice | None:
    """Return the checkpoint for a GPU, or None if none fits.

    Args:
        gpu: the GPU.
        count: GPUs of this kind that share the model.
    """
    if gpu.capability >= (10, 0):
        order: Sequence[CheckpointChoice] = (NVFP4,)
    elif gpu.capability >= (9, 0):
        order = (FP8, AWQ)
    elif gpu.capability >= OLDEST:
        order = (BF16, AWQ)
    else:
        order = ()
    return next((choice for choice in order if choice.needs <= count * gpu.memory), None)


def advise(gpu: GPU, count: int = 1) -> str:
    """Return what to install for a GPU, and what others measured on such GPUs."""
    fitting = [number for number in (1, 2, 4, 8) if number <= count and choose_checkpoint(gpu, number)]
    least = fitting[0] if fitting else 1
    choice = choose_checkpoint(gpu, least)
    size = f"{gpu.memory / 1e9:.0f} GB"
    if choice is None and gpu.capability < OLDEST:
        return f"{gpu.name} is too old for DiffusionGemma in vLLM, which needs Ampere or newer"
    if choice is None:
        return f"{gpu.name} ({size}) is too small for DiffusionGemma: its smallest checkpoint needs 22 GB"
    shared = f" --engine-options tensor_parallel={least}" if least > 1 else ""
    measured = f". {choice.measured}" if choice.measured else ""
    return (
        f'for {gpu.name} ({size}): pip install "unwritten[vllm]", then --engine vllm{shared}, which downloads '
        f"{choice.model} ({choice.format}, {choice.size / 1e9:.1f} GB). {choice.reason.rstrip('.')}{measured}; "
        f"we have not measured it"
    )
