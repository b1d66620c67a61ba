"""Start vLLM: choose a checkpoint, fetch it, and create the engine."""

from __future__ import annotations

import importlib.util
import math
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ..diffusion.loading.memory_plan import gigabytes
from ..diffusion.tokenization.detokenizer import Detokenizer
from ..diffusion.tokenization.prompt_tokenizer import PromptTokenizer
from ..engine import Abilities, About, Progress
from ..errors import BadOption, MissingPackage, ModelBroken, ModelUnsupported
from .checkpoint import RANDOM, VLLMCheckpoint, fetch, read_checkpoint, write_random
from .engine import VLLMEngine
from .gpus import GPU, OLDEST, choose_checkpoint, find_gpus
from .internals import installed_version, is_cpu_build
from .local import LocalVLLM
from .options import OWNER, REFUSED

_CONTEXTS: Final = ((70_000_000_000, 32_768), (30_000_000_000, 16_384), (0, 8_192))
"""Default context by the memory of a GPU."""
_PLUGINS: Final = "vllm.general_plugins"
_VLLM_FRACTION: Final = 0.92
"""vLLM's own share of a GPU's memory."""
_CUDA_BYTES: Final = 1_000_000_000
"""What CUDA itself takes before vLLM compares its share with the free memory."""
_TORCH_ADVICE: Final = (". Please update your GPU driver", " (Triggered")
"""Torch's warnings are cut off at these texts: what follows is conflicting advice, or a place in its source."""


def build_vllm(
    model: str | None, progress: Progress, reasons: Sequence[str], settings: Mapping[str, Any]
) -> VLLMEngine:
    """Start vLLM. Return the engine.

    Args:
        model: a folder, OWNER/REPO or "random"; None for the one that suits the GPU.
        progress: called before the download and while the model loads.
        reasons: why this engine was chosen.
        settings: all of ``OPTIONS`` by name.
    """
    _check_settings(settings)
    gpus = () if is_cpu_build() else find_gpus()
    gpus_per_replica = settings["tensor_parallel"] * settings["pipeline_parallel"]
    num_replicas = settings["data_parallel"]
    _check_gpus(gpus, gpus_per_replica * num_replicas, settings["backend"])
    fullest = min(gpus[: gpus_per_replica * num_replicas], key=lambda gpu: gpu.free, default=None)
    fraction = settings["memory_fraction"] if fullest is None else usable_fraction(fullest, settings["memory_fraction"])

    def context_of(checkpoint: VLLMCheckpoint) -> int:
        return settings["context"] or min(checkpoint.context, _default_context(gpus, gpus_per_replica))

    def check(checkpoint: VLLMCheckpoint) -> str:
        if fullest is None:
            return ""
        return _check_memory(checkpoint, context_of(checkpoint), fullest, gpus_per_replica, fraction)

    why = list(reasons)
    if model is None:
        model, reason = _choose_model(gpus, gpus_per_replica)
        why.append(reason)
    scratch, is_fetched = None, False
    if model == RANDOM:
        progress(0.0, "Making a small random model; its text is gibberish")
        scratch = tempfile.TemporaryDirectory(prefix="unwritten-")
        folder = write_random(Path(scratch.name))
        settings = {**settings, "dtype": settings["dtype"] or "float32"}  # of its weights
        why.append("The model is small and random, so its text is gibberish.")
    elif (local := Path(model).expanduser()).exists() or not _is_hub(model):
        folder = local
    else:
        folder, is_fetched = fetch(model, progress, check), True
    checkpoint = read_checkpoint(folder, model if _is_hub(model) or model == RANDOM else "")
    check(checkpoint)
    context = context_of(checkpoint)
    needed, sentence = checkpoint.memory(context, settings["parallel"])
    why.append(sentence)
    progress(0.1, f"Starting vLLM {installed_version()} with {checkpoint.name}. {sentence}")
    tokenizer = load_tokenizer(checkpoint)
    arguments = engine_args(checkpoint, {**settings, "memory_fraction": fraction}, context)
    if settings["backend"] == "ray" and is_fetched:
        arguments["model"] = model  # the other machines fetch it too
    backend = LocalVLLM(arguments, scratch)
    device = describe(gpus, gpus_per_replica * num_replicas)
    parallel = settings["parallel"] * num_replicas
    about = make_about(checkpoint, device, context, parallel, why, memory=needed)
    return make_engine(backend, about, checkpoint, tokenizer)


def make_about(
    checkpoint: VLLMCheckpoint,
    device: str,
    context: int,
    parallel: int,
    reasons: Sequence[str],
    *,
    memory: int = 0,
    prefetch: bool = True,
) -> About:
    """Return the description of an engine."""
    return About(
        engine="vllm",
        model=checkpoint.name,
        device=device,
        quantization=checkpoint.format,
        memory_bytes=memory,
        context=context,
        canvas_length=checkpoint.canvas_length,
        parallel=parallel,
        abilities=Abilities(
            instruct=True,
            drafts=True,
            schemas=True,
            edits=True,
            prefetch=prefetch,
            markup=checkpoint.name != RANDOM,
            seeds=False,
        ),
        reasons=(*reasons, *REFUSED),
    )


def make_engine(backend: Any, about: About, checkpoint: VLLMCheckpoint, tokenizer: Any) -> VLLMEngine:
    """Return the engine of a running vLLM."""
    detokenizer = Detokenizer(tokenizer, checkpoint.end_ids, checkpoint.pad_id, checkpoint.vocab_size)
    return VLLMEngine(
        backend,
        about,
        detokenizer=detokenizer,
        prompt_tokenizer=PromptTokenizer(tokenizer, detokenizer, None, checkpoint.name),
        steps=checkpoint.steps,
    )


def load_tokenizer(checkpoint: VLLMCheckpoint) -> Any:
    """Return the tokenizer of a checkpoint.

    Raises:
        ModelBroken: it cannot be read.
        ModelUnsupported: it has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # of many types
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelBroken(
            f"The tokenizer of {checkpoint.name} cannot be read ({line}). Copy tokenizer.json, "
            f"tokenizer_config.json and chat_template.jinja of the original checkpoint to {checkpoint.folder}."
        ) from error
    if not tokenizer.is_fast or not tokenizer.chat_template:
        raise ModelUnsupported(
            f"The tokenizer of {checkpoint.name} has no chat template. Add the chat_template.jinja of the original "
            f"checkpoint to the folder."
        )
    return tokenizer


def engine_args(checkpoint: VLLMCheckpoint, settings: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Return the arguments of vLLM's ``AsyncEngineArgs``."""
    arguments = {
        "model": str(checkpoint.folder),
        "served_model_name": checkpoint.name,
        "quantization": settings["quantization"],
        "tensor_parallel_size": settings["tensor_parallel"],
        "pipeline_parallel_size": settings["pipeline_parallel"],
        "data_parallel_size": settings["data_parallel"],
        "distributed_executor_backend": settings["backend"],
        "gpu_memory_utilization": settings["memory_fraction"],
        "max_num_seqs": settings["parallel"],
        "max_model_len": context,
        # A prompt that vLLM reads in pieces would wait for other requests between them.
        "max_num_batched_tokens": max(context, settings["parallel"] * checkpoint.canvas_length),
        "enforce_eager": settings["eager"],
        "dtype": settings["dtype"],
        "scheduling_policy": "priority",
        "limit_mm_per_prompt": {"image": 0, "video": 0},
        "diffusion_config": {"canvas_length": checkpoint.canvas_length},
        "disable_log_stats": True,
        "seed": secrets.randbelow(2**31),
    }
    return {name: value for name, value in arguments.items() if value is not None}


def describe(gpus: Sequence[GPU], count: int) -> str:
    """Return a description of the GPUs in use."""
    if not gpus:
        return "vLLM"
    return f"{count} × {gpus[0].name}" if count > 1 else gpus[0].name


def _check_settings(settings: Mapping[str, Any]) -> None:
    if settings["backend"] not in (None, "mp", "ray"):
        raise BadOption(f"{OWNER}: the option 'backend' is {settings['backend']!r}; give 'mp' or 'ray'.")
    if settings["backend"] == "ray" and importlib.util.find_spec("ray") is None:
        raise MissingPackage("The backend 'ray' needs the package ray. Type: pip install ray")
    names = {entry.name for entry in metadata.entry_points(group=_PLUGINS)}
    if "unwritten_drafts" not in names:
        raise MissingPackage(
            "vLLM does not find Unwritten's plugin, because this copy of Unwritten is not installed. "
            'Type: pip install "unwritten[vllm]"'
        )


def _check_gpus(gpus: Sequence[GPU], count: int, backend: str | None) -> None:
    """Check, before a download, that vLLM can use the GPUs.

    Raises:
        BadOption: there are fewer than the options ask for.
        ModelUnsupported: CUDA does not work.
    """
    if gpus and backend != "ray" and count > len(gpus):
        raise BadOption(
            f"{OWNER}: tensor_parallel, pipeline_parallel and data_parallel ask for {count} GPUs, and this machine has "
            f"{len(gpus)}. Use smaller values, or several machines with backend=ray."
        )
    import torch

    if is_cpu_build() or torch.version.cuda is None:  # a build for CPUs, or for GPUs of other makers
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return
    reason = str(caught[0].message) if caught else "CUDA does not start"
    for advice in _TORCH_ADVICE:
        reason = reason.partition(advice)[0].rstrip(". ")
    if not gpus:
        raise ModelUnsupported(
            f"{_why_no_gpu()} If there is one, type nvidia-smi, which says what is wrong with the driver. Without one, "
            f"use the engine 'embedded'."
        )
    raise ModelUnsupported(
        f"vLLM cannot use {gpus[0].name}: {reason}. It needs a driver for CUDA {torch.version.cuda} or newer: update "
        f"NVIDIA's driver, and check with nvidia-smi, which shows the version of CUDA."
    )


def _why_no_gpu() -> str:
    """Return why ``find_gpus`` has found none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"nvidia-smi lists no GPU that CUDA_VISIBLE_DEVICES={visible} allows."
    if shutil.which("nvidia-smi") is None:
        return "There is no nvidia-smi, which comes with NVIDIA's driver."
    return "nvidia-smi lists no GPU, or none whose memory it knows."


def usable_fraction(gpu: GPU, wanted: float | None) -> float | None:
    """Return the share of a GPU's memory for vLLM; None for vLLM's default. vLLM refuses more than is free.

    Args:
        gpu: the GPU.
        wanted: the option ``memory_fraction``.

    Raises:
        BadOption: more than is free.
    """
    if wanted is not None:
        if wanted * gpu.memory > gpu.free:
            raise BadOption(
                f"{OWNER}: memory_fraction={wanted:g} of {gpu.name} is {gigabytes(int(wanted * gpu.memory))}, and "
                f"{gigabytes(gpu.free)} are free. Use a smaller one, or close other programs; nvidia-smi lists them."
            )
        return wanted
    free = (gpu.free - _CUDA_BYTES) / gpu.memory
    return None if free >= _VLLM_FRACTION else max(0.01, math.floor(100 * free) / 100)


def _check_memory(
    checkpoint: VLLMCheckpoint, context: int, gpu: GPU, gpus_per_replica: int, fraction: float | None
) -> str:
    """Check that a model fits into the memory that vLLM may use, with the caches of one request.

    Returns:
        A sentence about both sizes.

    Raises:
        ModelUnsupported: it does not fit.
    """
    needed, _ = checkpoint.memory(context, 1)
    usable = int(gpus_per_replica * gpu.memory * (fraction or _VLLM_FRACTION))
    sizes = (
        f"{checkpoint.name} needs {gigabytes(needed)} for its weights and the caches of a request of {context:,} "
        f"tokens, and vLLM can use {gigabytes(usable)} of {describe([gpu], gpus_per_replica)}."
    )
    if needed <= usable:
        return sizes
    used = gpu.memory - gpu.free
    others = f" Other programs use {gigabytes(used)} of it; nvidia-smi lists them." if used > 10**9 else ""
    raise ModelUnsupported(
        f"{sizes}{others} Use a smaller context=…, another checkpoint, or more GPUs with tensor_parallel=…"
    )


def _choose_model(gpus: Sequence[GPU], gpus_per_replica: int) -> tuple[str, str]:
    """Return the checkpoint for the first GPU, and why."""
    if not gpus:
        problem = "The installed vLLM is a build for CPUs." if is_cpu_build() else _why_no_gpu()
        raise ModelUnsupported(
            f"{problem} So no checkpoint can be chosen. Name one with model=…, or use another engine: 'embedded' runs "
            f"on any machine."
        )
    gpu = gpus[0]
    choice = choose_checkpoint(gpu, gpus_per_replica)
    if choice is None and gpu.capability < OLDEST:
        raise ModelUnsupported(
            f"{gpu.name} has compute capability {gpu.capability[0]}.{gpu.capability[1]}, and DiffusionGemma in vLLM "
            f"needs 8.0 (Ampere) or newer. Use the engine 'embedded'."
        )
    if choice is None:
        raise ModelUnsupported(
            f"{gpu.name} has {gigabytes(gpu.memory)}, and the smallest checkpoint of DiffusionGemma needs about 22 "
            f"GB. Share it among several GPUs with tensor_parallel=…, or use the engine 'embedded'."
        )
    return choice.model, f"{choice.model} ({choice.format}) was chosen for {gpu.name}. {choice.reason}"


def _default_context(gpus: Sequence[GPU], gpus_per_replica: int) -> int:
    memory = gpus_per_replica * gpus[0].memory if gpus else 0
    return next(context for least, context in _CONTEXTS if memory >= least)


def _is_hub(reference: str) -> bool:
    """Return True for OWNER/REPO, as opposed to a path."""
    owner, _, repo = reference.partition("/")
    return bool(owner and repo) and "/" not in repo and not reference.startswith((".", "~", "\\"))
