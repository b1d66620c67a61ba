"""The kernel that runs all experts of a layer: equal to one expert after the other, and compiled for real GPUs.

Triton runs in processes of its own: its interpreter executes the kernel on the CPU, and its compiler needs no GPU.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unwritten_engine.diffusion.diffusion_gemma import grouped_experts
from unwritten_engine.diffusion.diffusion_gemma.grouped_experts import (
    ExpertMatrices,
    make_tiles,
    run_grouped,
    tile_rows,
)

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed; it comes with CUDA builds of torch"
)

AGAINST_THE_LOOP = """
import torch
from torch.nn.functional import gelu, linear
from unwritten_engine.diffusion.diffusion_gemma.grouped_experts import ExpertMatrices, run_grouped
from unwritten_engine.diffusion.diffusion_gemma.quantization import PackedExperts

torch.set_num_threads(1)
EXPERTS, K = 8, 2

def away(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())

def routed(tokens, hidden):
    states = torch.randn(tokens, hidden)
    chosen = torch.stack([torch.randperm(EXPERTS - 2)[:K] for _ in range(tokens)])  # two experts stay empty
    chosen[tokens // 2 :, 0] = 7  # and one has most of the tokens
    return states, chosen, torch.rand(tokens, K)

for kind in ("nf4", "int8"):
    for tokens, hidden, inner in ((1, 128, 64), (37, 128, 64), (150, 192, 128)):
        torch.manual_seed(tokens)
        packed = PackedExperts(EXPERTS, hidden, inner, kind, gelu, torch.device("cpu"))
        for expert in range(EXPERTS):
            packed.put("gate_up_proj", expert, torch.randn(2 * inner, hidden) / hidden**0.5)
            packed.put("down_proj", expert, torch.randn(hidden, inner) / inner**0.5)
        states, chosen, weights = routed(tokens, hidden)
        wanted = packed(states, chosen, weights)  # on a CPU, one expert after the other
        for dtype in (torch.float32, torch.float16):  # the interpreter cannot multiply in bfloat16
            found = run_grouped(
                states.to(dtype), chosen, weights, packed.matrices("gate_up"), packed.matrices("down"), gelu
            )
            print(kind, tokens, str(dtype), away(found.float(), wanted))

for tokens, hidden, inner in ((37, 100, 40),):
    gate_up, down = torch.randn(EXPERTS, 2 * inner, hidden) / 10, torch.randn(EXPERTS, hidden, inner) / 6
    states, chosen, weights = routed(tokens, hidden)
    wanted = torch.zeros_like(states)
    for token in range(tokens):
        for expert, weight in zip(chosen[token], weights[token]):
            gate, up = linear(states[token], gate_up[expert]).chunk(2)
            wanted[token] += weight * linear(gelu(gate) * up, down[expert])
    plain = [ExpertMatrices("plain", *matrix.shape[1:], matrix, None) for matrix in (gate_up, down)]
    print("plain", tokens, "torch.float32", away(run_grouped(states, chosen, weights, *plain, gelu), wanted))
"""

COMPILATION = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import triton
from unwritten_engine.diffusion.diffusion_gemma.grouped_experts import COLUMNS, _grouped_matmul

POINTERS = {"factors": "*fp32", "order": "*i64"}
POINTERS |= dict.fromkeys(("tile_experts", "tile_starts", "tile_ends"), "*i32")
FORMATS = (
    ("nf4", "*bf16", "*u8", "*bf16", "*fp32"),
    ("int8", "*bf16", "*i8", "*fp32", "*i8"),
    ("plain", "*bf16", "*bf16", "*bf16", "*bf16"),
    ("plain", "*fp32", "*fp32", "*fp32", "*fp32"),
)

for kind, numbers, codes, scales, levels in FORMATS:
    types = {**POINTERS, "rows": numbers, "out": numbers, "codes": codes, "scales": scales, "levels": levels}
    types |= {"inputs": "i32", "outputs": "i32"}
    for rows in (16, 64):
        fixed = {"KIND": kind, "SHARED": 8, "WEIGHTED": True, "ROWS": rows, "COLUMNS": COLUMNS}
        signature = {name: types.get(name, "constexpr") for name in _grouped_matmul.arg_names}
        # As in a launch: these are multiples of 16, so loads are copied in advance, which takes shared memory.
        names = _grouped_matmul.arg_names
        attrs = {(names.index(name),): [["tt.divisibility", 16]] for name in types}
        for capability in (80, 89, 90, 120):
            source = ASTSource(_grouped_matmul, signature, fixed, attrs)
            options = {"num_warps": 4, "num_stages": 3}
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            print(kind, numbers, rows, capability, len(made.asm["cubin"]), made.metadata.shared)
"""


def run(script: str, **environment: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@needs_triton
def test_the_kernel_equals_one_expert_after_the_other() -> None:
    pytest.importorskip("bitsandbytes")  # packs the weights
    lines = run(AGAINST_THE_LOOP, TRITON_INTERPRET="1")
    assert len(lines) == 2 * 3 * 2 + 1
    for *case, error in lines:
        assert float(error) < (2e-6 if case[2] == "torch.float32" else 2e-3), case


@needs_triton
def test_the_kernel_compiles_for_current_gpus() -> None:
    lines = run(COMPILATION)
    assert len(lines) == 4 * 2 * 4
    for *case, size, shared in lines:
        assert int(size) > 1000, case
        assert int(shared) <= 99 * 1024, case  # what one program has on an RTX 4090; others have more


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("experts", [1, 5, 8])
def test_tiles_cover_every_pair_once(size: int, experts: int) -> None:
    made = torch.Generator().manual_seed(size)
    chosen = torch.randint(0, max(1, experts - 1), (97, 3), generator=made)
    tiles = make_tiles(chosen, experts, size)
    assert len(tiles.experts) == 97 * 3 // size + experts
    order = chosen.reshape(-1).argsort(stable=True)
    covered: list[int] = []
    for expert, start, end in zip(tiles.experts.tolist(), tiles.starts.tolist(), tiles.ends.tolist(), strict=True):
        pairs = range(start, min(start + size, end))
        assert all(chosen.reshape(-1)[order[at]] == expert for at in pairs)
        covered += pairs
    assert covered == list(range(97 * 3))


def test_tiles_grow_with_the_rows_of_an_expert() -> None:
    assert [tile_rows(pairs, 128) for pairs in (8, 2048, 2049, 8192, 32_768)] == [16, 16, 32, 64, 64]


def test_the_kernel_runs_on_the_device_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton would launch it on the current device, which is another where a model is loaded onto the second GPU."""
    current: list[torch.Tensor] = []
    launched: list[torch.Tensor] = []

    @contextmanager
    def device_of(tensor: torch.Tensor) -> Iterator[None]:
        current.append(tensor)
        yield
        current.pop()

    class Kernel:
        def __getitem__(self, grid: Any) -> Callable[..., None]:
            def launch(rows: torch.Tensor, *args: Any, **options: Any) -> None:
                assert current == [rows]
                launched.append(rows)

            return launch

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(grouped_experts, "triton", SimpleNamespace(cdiv=lambda one, two: -(-one // two)))
    monkeypatch.setattr(grouped_experts, "_grouped_matmul", Kernel(), raising=False)
    up, down = (ExpertMatrices("plain", *shape[1:], torch.zeros(shape), None) for shape in ((2, 8, 4), (2, 4, 4)))
    run_grouped(torch.zeros(3, 4), torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 1), up, down, torch.nn.GELU())
    assert len(launched) == 2
