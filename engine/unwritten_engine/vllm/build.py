"""Start vLLM: choose a checkpoint, fetch it, and create the engine."""

from __future__ import annotations

import importlib.util
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ..diffusion.loading.memory_plan import gigabytes
from ..diffusion.tokenization.detokenizer import Detokenizer
from ..diffusion.tokenization.prompt_tokenizer import PromptTokenizer
from ..engine import Abilities, About, Progress
from ..errors import BadOption, MissingPackage, ModelUnsupported
from .cards import Card, choose_checkpoint, find_cards
from .checkpoint import RANDOM, VLLMCheckpoint, check_fit, fetch, read_checkpoint, write_random
from .engine import VLLMEngine
from .internals import installed_version
from .local import LocalVLLM
from .options import OWNER, REFUSED

_CONTEXTS: Final = ((70_000_000_000, 32_768), (30_000_000_000, 16_384), (0, 8_192))
"""Default context by the memory of a GPU."""
_PLUGINS: Final = "vllm.general_plugins"


def build_vllm(
    model: str | None, progress: Progress, reasons: Sequence[str], settings: Mapping[str, Any]
) -> VLLMEngine:
    """Start vLLM. See ``open_vllm``.

    Args:
        model: see there.
        progress: see there.
        reasons: why this engine was chosen.
        settings: all of ``OPTIONS`` by name.
    """
    _check_settings(settings)
    cards = find_cards()
    shares = settings["tensor_parallel"] * settings["pipeline_parallel"]
    why = list(reasons)
    if model is None:
        model, reason = _choose_model(cards, shares)
        why.append(reason)
    memory = shares * cards[0].memory if cards else None
    scratch = None
    if model == RANDOM:
        progress(0.0, "Making a small random model; its text is gibberish")
        scratch = tempfile.TemporaryDirectory(prefix="unwritten-")
        folder = write_random(Path(scratch.name))
        why.append("The model is small and random, so its text is gibberish.")
    elif (local := Path(model).expanduser()).exists() or not _is_hub(model):
        folder = local
    else:
        folder = fetch(model, progress, memory)
    checkpoint = read_checkpoint(folder, model if _is_hub(model) or model == RANDOM else "")
    check_fit(checkpoint.name, checkpoint.weight_bytes, memory)
    if cards and shares * cards[0].free <= checkpoint.weight_bytes:
        raise ModelUnsupported(
            f"Other programs use {cards[0].name}: {gigabytes(cards[0].free)} are free, and {checkpoint.name} needs "
            f"{gigabytes(checkpoint.weight_bytes)} for its weights alone. Close them; nvidia-smi lists them."
        )
    context = settings["context"] or min(checkpoint.context, _default_context(cards, shares))
    needed, sentence = checkpoint.memory(context, settings["parallel"])
    why.append(sentence)
    progress(0.1, f"Starting vLLM {installed_version()} with {checkpoint.name}. {sentence}")
    tokenizer = load_tokenizer(checkpoint)
    backend = LocalVLLM(engine_args(checkpoint, settings, context), scratch)
    device = describe(cards, shares * settings["data_parallel"])
    parallel = settings["parallel"] * settings["data_parallel"]
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
        ),
        reasons=(*reasons, REFUSED),
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
        ModelUnsupported: it has no chat template.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
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


def describe(cards: Sequence[Card], count: int) -> str:
    """Return a description of the GPUs in use."""
    if not cards:
        return "vLLM"
    return f"{count} × {cards[0].name}" if count > 1 else cards[0].name


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


def _choose_model(cards: Sequence[Card], shares: int) -> tuple[str, str]:
    """Return the checkpoint for the first GPU, and why."""
    if not cards:
        raise ModelUnsupported(
            "nvidia-smi lists no GPU, so no checkpoint can be chosen. Name one with model=…, or use another engine: "
            "'embedded' runs on any machine."
        )
    card = cards[0]
    choice = choose_checkpoint(card, shares)
    if choice is None:
        raise ModelUnsupported(
            f"{card.name} has {gigabytes(card.memory)}, and the smallest checkpoint of DiffusionGemma needs about 22 "
            f"GB. Share it among several GPUs with tensor_parallel=…, or use the engine 'embedded'."
        )
    return choice.model, f"{choice.model} ({choice.format}) was chosen for {card.name}. {choice.reason}"


def _default_context(cards: Sequence[Card], shares: int) -> int:
    memory = shares * cards[0].memory if cards else 0
    return next(context for least, context in _CONTEXTS if memory >= least)


def _is_hub(reference: str) -> bool:
    """Return True for OWNER/REPO, as opposed to a path."""
    owner, _, repo = reference.partition("/")
    return bool(owner and repo) and "/" not in repo and not reference.startswith((".", "~", "\\"))
