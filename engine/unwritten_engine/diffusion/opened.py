"""From a reference to a running engine: load, plan the memory, and put the parts together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..engine import Abilities, About, Progress
from ..threads import choose_num_threads
from .batch import ModelRunner
from .body import DiffusionModel
from .engine import DiffusionEngine
from .graphs import CUDAGraphs
from .kv import KVCache
from .loading.devices import describe_device, free_bytes
from .loading.loader import RANDOM, LoadedModel, load_model
from .loading.memory import MemoryPlan, cache_bytes, gigabytes, plan_memory
from .loading.sizes import read_model_config
from .loop import DenoisingLoop
from .options import default_params, engine_options
from .tokens.prompts import PromptTokenizer
from .tokens.text import Detokenizer

ROWS_ON_CPU = 8
"""Canvases together on a CPU, where arithmetic is the limit: more only make each other slower."""
CONTEXT_ON_CPU = 8192


def build_engine(
    reference: str, progress: Progress, reasons: tuple[str, ...], options: Mapping[str, Any]
) -> DiffusionEngine:
    """See ``open_diffusion``."""
    settings = engine_options(options)
    budget = None if settings["memory_gb"] is None else int(settings["memory_gb"] * 1e9)
    loaded = load_model(
        reference,
        device=settings["device"],
        quantize=settings["quantize"],
        dtype=settings["dtype"],
        budget_bytes=budget,
        progress=progress,
    )
    return assemble_engine(loaded, budget=budget, settings=settings, reasons=reasons)


def assemble_engine(
    loaded: LoadedModel, *, budget: int | None, settings: Mapping[str, Any], reasons: tuple[str, ...]
) -> DiffusionEngine:
    """An engine over a loaded model.

    Args:
        loaded: the model.
        budget: bytes for everything, weights included; None takes what is free.
        settings: all of ``OPTIONS`` by name.
        reasons: why this engine was chosen.
    """
    device, why = loaded.device, list(reasons)
    on_cpu = device.type == "cpu"
    if on_cpu:
        threads, reason = choose_num_threads()
        if settings["threads"]:
            threads, reason = settings["threads"], f"{settings['threads']} threads were asked for."
        torch.set_num_threads(threads)
        why.append(reason)
    found = _plan(loaded, budget, settings)
    canvas = int(loaded.model.config.canvas_length)
    kv = KVCache(
        loaded.model.config.text_config,
        rows=found.rows,
        context=found.context,
        canvas=canvas,
        device=device,
        dtype=loaded.model.model.decoder.embed_tokens.weight.dtype,
    )
    use_graphs = device.type == "cuda" if settings["graphs"] is None else settings["graphs"] and device.type == "cuda"
    batch = ModelRunner(
        loaded.model,
        DiffusionModel(loaded.model, kv),
        top_k=settings["self_conditioning_top_k"],
        graphs=CUDAGraphs() if use_graphs else None,
    )
    kept = found.prefixes if settings["prefix_mb"] is None else settings["prefix_mb"] * 10**6
    why += loaded.reasons
    why.append(
        f"{found.rows} canvases of {found.context:,} tokens run together ({gigabytes(kv.nbytes)}), and up to "
        f"{gigabytes(kept)} hold beginnings of prompts."
    )
    reader = Detokenizer(loaded.tokenizer, loaded.ends, loaded.pad, batch.head.vocabulary)
    about = About(
        engine="diffusion",
        model=loaded.name,
        device=f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
        if on_cpu
        else describe_device(device).removeprefix("This GPU (").removesuffix(")"),
        quantization=loaded.quantization,
        memory_bytes=loaded.weight_bytes + kv.nbytes,
        context=found.context,
        canvas_length=canvas,
        parallel=found.rows,
        abilities=Abilities(
            instruct=True,
            drafts=True,
            schemas=True,
            images=loaded.processor is not None,
            edits=True,
            prefetch=True,
            preempts=True,
            markup=loaded.name != RANDOM,
        ),
        licence=loaded.licence,
        reasons=tuple(why),
    )
    return DiffusionEngine(
        DenoisingLoop(loaded.model, batch, kept_bytes=kept, exclusive_clicks=on_cpu),
        about,
        reader=reader,
        speaker=PromptTokenizer(loaded.tokenizer, reader, loaded.processor, loaded.name),
        masks=batch.masks,
        base=default_params(loaded.model.generation_config),
    )


def _plan(loaded: LoadedModel, budget: int | None, settings: Mapping[str, Any]) -> MemoryPlan:
    """How the memory that is left is divided: the weights are there already."""
    sizes = read_model_config(loaded.model.config.to_dict(), loaded.name)
    on_cpu = loaded.device.type == "cpu"
    memory = free_bytes(loaded.device) + loaded.weight_bytes if budget is None else budget
    rows, context = settings["parallel"], settings["context"]
    if on_cpu:
        rows = rows or ROWS_ON_CPU
        context = context or min(CONTEXT_ON_CPU, sizes.context)
        number = 4 if loaded.dtype == torch.float32 else 2
        while settings["parallel"] is None and rows > 1 and rows * cache_bytes(sizes, context, number) > memory // 4:
            rows //= 2
    return plan_memory(
        sizes,
        memory=memory,
        device=describe_device(loaded.device),
        kind=loaded.quantization,
        rows=rows,
        context=context,
    )
