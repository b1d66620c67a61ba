"""Build the engine: load the model, plan its memory, and create all components."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Any

import torch

from ..engine import Abilities, About, Progress
from ..model_size import judge_markup
from ..threads import choose_num_threads
from .cuda_graphs import CUDAGraphs
from .engine import DiffusionEngine
from .engine_options import engine_options
from .loader import LoadedModel, load_model
from .loading.devices import describe_device, free_bytes
from .loading.memory_plan import MemoryPlan, gigabytes, plan_memory
from .loop import DenoisingLoop
from .model_runner import ModelRunner
from .tokenization.detokenizer import Detokenizer
from .tokenization.prompt_tokenizer import PromptTokenizer

ROWS_ON_CPU = 8
"""Canvases that run together on a CPU, which is compute-bound: more would only slow each other down."""
CONTEXT_ON_CPU = 8192


def build_engine(
    reference: str, progress: Progress, reasons: tuple[str, ...], options: Mapping[str, Any]
) -> DiffusionEngine:
    """Load a model and build its engine. See ``open_diffusion``."""
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
    """Build the engine of a loaded model.

    Args:
        loaded: the model.
        budget: bytes for everything including weights; None uses the free memory.
        settings: all of ``OPTIONS`` by name.
        reasons: why this engine was chosen.
    """
    device, all_reasons = loaded.device, list(reasons)
    on_cpu = device.type == "cpu"
    if on_cpu:
        threads, reason = choose_num_threads()
        if settings["threads"]:
            threads, reason = settings["threads"], f"{settings['threads']} threads were requested."
        torch.set_num_threads(threads)
        all_reasons.append(reason)
    plan = _plan(loaded, budget, settings)
    canvas_length = loaded.checkpoint.canvas_length
    model, rule = loaded.family.assemble(
        loaded.model, rows=plan.rows, context=plan.context, top_k=settings["self_conditioning_top_k"]
    )
    notes: list[str] = []
    with_graphs = device.type == "cuda" and settings["cuda_graphs"] is not False
    runner = ModelRunner(model, rule, cuda_graphs=CUDAGraphs(notes.append) if with_graphs else None)
    prefix_cache_bytes = plan.prefixes if settings["prefix_cache_mb"] is None else settings["prefix_cache_mb"] * 10**6
    processor, no_images = loaded.family.image_processor(loaded.checkpoint, loaded.tokenizer, settings["image_tokens"])
    writes_markup, size = judge_markup(sum(prod(tensor.shape) for tensor in loaded.checkpoint.tensors.values()))
    all_reasons += (*loaded.reasons, *no_images, *(() if writes_markup else (size,)))
    all_reasons.append(
        f"{plan.rows} canvases of {plan.context:,} tokens run together ({gigabytes(model.cache.nbytes)}); the prefix "
        f"cache has {gigabytes(prefix_cache_bytes)}."
    )
    detokenizer = Detokenizer(loaded.tokenizer, loaded.end_ids, loaded.pad_id, rule.vocabulary)
    about = About(
        engine="diffusion",
        model=loaded.name,
        device=f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
        if on_cpu
        else describe_device(device).removeprefix("This GPU (").removesuffix(")"),
        quantization=loaded.quantization,
        memory_bytes=loaded.weight_bytes + model.cache.nbytes,
        context=plan.context,
        canvas_length=canvas_length,
        parallel=plan.rows,
        abilities=Abilities(
            instruct=True,
            drafts=True,
            schemas=True,
            images=processor is not None,
            edits=True,
            prefetch=True,
            preempts=True,
            markup=writes_markup and loaded.name != loaded.family.random,
        ),
        licence=loaded.licence,
        reasons=tuple(all_reasons),
    )
    return DiffusionEngine(
        DenoisingLoop(runner, prefix_cache_bytes=prefix_cache_bytes, exclusive_clicks=on_cpu),
        about,
        block_length=model.cache.block_length,
        detokenizer=detokenizer,
        prompt_tokenizer=PromptTokenizer(loaded.tokenizer, detokenizer, processor, loaded.name),
        masks=runner.masks,
        make_params=partial(loaded.family.sampling_params, base=loaded.checkpoint.sampling_params),
        notes=notes,
    )


def _plan(loaded: LoadedModel, budget: int | None, settings: Mapping[str, Any]) -> MemoryPlan:
    """Plan the memory besides the loaded weights."""
    needs = loaded.checkpoint.memory
    on_cpu = loaded.device.type == "cpu"
    memory = free_bytes(loaded.device) + loaded.weight_bytes if budget is None else budget
    rows, context = settings["parallel"], settings["context"]
    if on_cpu:
        rows = rows or ROWS_ON_CPU
        context = context or min(CONTEXT_ON_CPU, needs.context)
        number = 4 if loaded.dtype == torch.float32 else 2
        while settings["parallel"] is None and rows > 1 and rows * needs.cache(context, number) > memory // 4:
            rows //= 2
    return plan_memory(
        needs,
        memory=memory,
        device=describe_device(loaded.device),
        kind=loaded.quantization,
        rows=rows,
        context=context,
    )
