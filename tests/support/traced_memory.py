"""Memory of the full-size model without its numbers: allocations are traced on torch's meta device.

The traced code is the engine's own. Only what has no meta version is replaced: the Triton kernel and bitsandbytes'
unpacking, which fill memory that is traced, and attention, of which a GPU has kernels that keep no matrix of scores.
Memory that operations of torch use inside, such as a sort, is not seen.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from tests.benchmarks.engine.random_weights import full_size_config
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from unwritten_engine.diffusion.diffusion_gemma import grouped_experts, quantization
from unwritten_engine.diffusion.diffusion_gemma.family import DIFFUSION_GEMMA
from unwritten_engine.diffusion.diffusion_gemma.quantization import PackedExperts, PackedLinear
from unwritten_engine.diffusion.loading.memory_plan import PREFILL_CHUNK
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.token_chunk import TokenChunk

META = torch.device("meta")


class TracedMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make while it is active, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self.live: dict[int, str] = {}
        self.at_peak: Counter[str] = Counter()
        """What was alive at the peak, for debugging."""
        self._storages: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {id(tensor.untyped_storage()) for tensor in tree_flatten((args, kwargs))[0] if _is_meta(tensor)}
        found = func(*args, **(kwargs or {}))
        for tensor in tree_flatten(found)[0]:
            if _is_meta(tensor) and id(tensor.untyped_storage()) not in known:
                self._add(tensor, func)
        return found

    def _add(self, tensor: Tensor, func: Any) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return

        def freed(_: Any) -> None:
            del self._storages[key], self.live[key]
            self.bytes -= size

        self._storages[key] = weakref.ref(storage, freed)
        self.live[key] = f"{func._schema.name} {list(tensor.shape)} {tensor.dtype} {size / 1e6:.1f} MB"
        self.bytes += size
        if self.bytes > self.peak:
            self.peak = self.bytes
            self.at_peak = Counter(self.live.values())


def _is_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta


@contextmanager
def without_numbers() -> Iterator[None]:
    """Replace what has no meta version."""

    def attention(query: Tensor, keys: Tensor, values: Tensor, *, attn_mask: Tensor | None, scale: float) -> Tensor:
        bias = None
        if attn_mask is not None:  # a GPU's kernels want numbers, in rows of a multiple of 16
            bias = attn_mask.new_empty((*attn_mask.shape[:-1], -(-attn_mask.shape[-1] // 16) * 16), dtype=query.dtype)
        heads = query.new_empty((*query.shape[:-1], values.shape[-1]))
        sums = torch.empty_like(heads, dtype=torch.float32)  # for wide heads and masks, in main memory of the GPU
        del bias, sums
        return heads

    def unpack(codes: Tensor, scales: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=META)

    def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
        codes = torch.empty(weight.numel() // 2, dtype=torch.uint8, device=META)
        return codes, torch.empty(weight.numel() // 64, dtype=torch.bfloat16, device=META)

    with (
        mock.patch("unwritten_engine.diffusion.attention.scaled_dot_product_attention", attention),
        mock.patch.object(quantization, "unpack_nf4", unpack),
        mock.patch.object(quantization, "pack_nf4", pack),
        mock.patch.object(quantization, "is_available", lambda: True),
        mock.patch.object(grouped_experts, "_launch", lambda *given: None),
    ):
        yield


def traced_runner(kind: str, rows: int, context: int) -> ModelRunner:
    """Return a runner of the full-size architecture with one layer of each type; more do not change the peak."""
    from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

    config = full_size_config()
    make: Any = DiffusionGemmaConfig
    text = {**config["text_config"], "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}
    vision = {"model_type": "gemma4_vision", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    given = make(
        text_config={**text, "use_bidirectional_attention": "vision"},
        vision_config=vision,
        canvas_length=config["canvas_length"],
        dtype=torch.bfloat16,
    )
    build: Any = DiffusionGemmaForBlockDiffusion
    torch.set_default_dtype(torch.bfloat16)
    try:
        with META:
            made = build(given)
    finally:
        torch.set_default_dtype(torch.float32)
    made.eval().requires_grad_(False)
    made.set_experts_implementation("grouped_mm")
    table = made.model.decoder.embed_tokens
    for module in (table, made.model.encoder.language_model.embed_tokens):
        module.embed_scale = torch.tensor(table.weight.shape[1] ** 0.5)
    if kind != "bf16":
        for stack in (made.model.decoder, made.model.encoder.language_model):
            _pack(stack, kind)
    return ModelRunner(*DIFFUSION_GEMMA.assemble(made, rows=rows, context=context))


def _pack(stack: Any, kind: str) -> None:
    for layer in stack.layers:
        experts = layer.experts
        layer.experts = PackedExperts(
            experts.num_experts, experts.hidden_dim, experts.intermediate_dim, kind, experts.act_fn, META
        )
        for path, module in list(layer.named_modules()):
            if isinstance(module, nn.Linear) and path != "router.proj":
                parent, _, name = path.rpartition(".")
                setattr(layer.get_submodule(parent), name, PackedLinear(module.weight, kind))


def peak_of(work: Callable[[], Any]) -> TracedMemory:
    """Return the traced memory of some work."""
    traced = TracedMemory()
    with torch.inference_mode(), traced:
        work()
    return traced


def step_peak(kind: str, rows: int, context: int, *, constrained: bool = False) -> TracedMemory:
    """Trace a denoising step of all rows, as it is captured in a CUDA graph."""
    with without_numbers():
        runner = traced_runner(kind, rows, context)
        return peak_of(lambda: runner._step(rows, context, True, constrained))


def prefill_peak(kind: str, start: int, count: int) -> TracedMemory:
    """Trace reading ``count`` tokens after ``start`` others, in chunks."""
    with without_numbers():
        runner = traced_runner(kind, 1, start + count)

        def work() -> None:
            for first in range(start, start + count, PREFILL_CHUNK):
                ids = torch.empty(min(PREFILL_CHUNK, start + count - first), dtype=torch.int64, device=META)
                runner.model.encode(TokenChunk(0, first, ids))

        return peak_of(work)
