"""LFM2 diffusion with the matrices of its layers in 8 bits, on a CPU."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.diffusion.lfm2.small_models import CONTEXT, CPU, SIZES, denoise, prefill, random_ids, soft_embeddings
from torch import Tensor, nn

from unwritten_engine import open_engine
from unwritten_engine.diffusion.int8 import pack_int8
from unwritten_engine.diffusion.lfm2 import quantization, weights
from unwritten_engine.diffusion.lfm2.cache import Lfm2Cache
from unwritten_engine.diffusion.lfm2.config import read_config
from unwritten_engine.diffusion.lfm2.family import LFM2_DIFFUSION
from unwritten_engine.diffusion.lfm2.layers import Lfm2DiffusionModel, Lfm2Model
from unwritten_engine.diffusion.lfm2.memory import weight_bytes
from unwritten_engine.diffusion.lfm2.quantization import Int8Linear, has_onednn, multiplies_exactly, use_int8
from unwritten_engine.diffusion.lfm2.random_model import write_checkpoint
from unwritten_engine.diffusion.lfm2.random_tokenizer import write_tokenizer
from unwritten_engine.diffusion.lfm2.weights import load_weights
from unwritten_engine.diffusion.loader import count_bytes
from unwritten_engine.diffusion.loading.safetensors_index import read_json, read_tensors
from unwritten_engine.errors import BadOption
from unwritten_engine.frames import Prompt, Request

pytestmark = pytest.mark.skipif(not has_onednn(), reason="needs a torch with oneDNN")
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "small", branch=0.3, **SIZES)


def load(folder: Path, kind: str, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> Lfm2Model:
    return load_weights(
        read_config(read_json(folder / "config.json"), "small"),
        read_tensors(folder),
        kind=kind,
        device=device,
        dtype=dtype,
        name="small",
        progress=lambda share, step: None,
    )


def with_cache(model: Lfm2Model) -> Lfm2DiffusionModel:
    dtype = model.embed_tokens.weight.dtype
    return Lfm2DiffusionModel(model, Lfm2Cache(model.config, rows=3, context=CONTEXT, device=CPU, dtype=dtype))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(weight: Tensor, bias: Tensor | None = None) -> Int8Linear:
    made = Int8Linear(weight.shape[1], weight.shape[0])
    made.put(weight)
    made.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return made


def relative(result: Tensor, expected: Tensor) -> float:
    return float((result.float() - expected.float()).norm() / expected.float().norm())


@BOTH
@pytest.mark.parametrize("shape", [(1, 64), (32, 64), (3, 8, 64)], ids=str)
def test_a_layer_is_close_to_the_original(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    weight, bias, inputs = numbers(48, 64), numbers(48, seed=1), numbers(*shape, seed=2).to(dtype)
    result, expected = layer(weight, bias)(inputs), inputs.float() @ weight.t() + bias
    assert result.dtype == dtype and result.shape == expected.shape
    assert relative(result, expected) < 0.02


def test_a_token_does_not_depend_on_others() -> None:
    made, inputs = layer(numbers(48, 64)), numbers(8, 64, seed=1)
    inputs[0] *= 1000  # with one scale for all tokens, the others would become zero
    assert torch.equal(made(inputs)[1:], made(inputs[1:]))
    assert torch.equal(made(inputs[3:4]), made(inputs)[3:4])


def test_zeros_stay_zeros_and_failures_stay_visible() -> None:
    made, inputs = layer(numbers(48, 64)), numbers(4, 64)
    inputs[0], inputs[1, 5], inputs[2, 5] = 0.0, float("nan"), float("inf")
    result = made(inputs)
    assert not result[0].any() and result[3].isfinite().all()
    assert result[1].isnan().all() and not result[2].isfinite().any()


def test_products_that_saturate_get_weights_in_7_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, inputs = numbers(48, 64), numbers(32, 64, seed=1)
    monkeypatch.setattr(quantization, "multiplies_exactly", lambda: False)
    made = layer(weight)
    # The sum of two products with 255, the largest input once it has no sign, fits into 16 bits.
    assert int(made.codes.abs().max()) == 63 and 2 * 255 * 63 < 2**15
    assert relative(made(inputs), inputs @ weight.t()) < 0.02


def test_old_cpus_are_recognized() -> None:
    code = (
        "import torch\n"
        "from unwritten_engine.diffusion.lfm2.quantization import Int8Linear, multiplies_exactly\n"
        "layer, ones = Int8Linear(64, 32), torch.ones(32, 64)\n"
        "layer.put(ones)\n"
        "print(multiplies_exactly(), bool(torch.allclose(layer(ones), torch.tensor(64.0))))\n"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    is_exact, is_right = done.stdout.split()
    assert is_right == "True"
    if multiplies_exactly() and "avx512_vnni" in torch.cpu.get_capabilities():
        assert is_exact == "False"


@BOTH
def test_hidden_states_are_close_to_those_in_full(folder: Path, dtype: torch.dtype) -> None:
    results = []
    for kind, number in (("float32", torch.float32), ("int8", dtype)):
        model = with_cache(load(folder, kind, number))
        for row, length in enumerate((40, 7)):
            prefill(model, row, random_ids(length, seed=row))
        blocks = random_ids(16, seed=5).view(2, 8)
        results.append(denoise(model, blocks, [40, 7], soft=soft_embeddings(2, number)))
    full, packed = results
    assert packed.dtype == dtype and packed.shape == full.shape
    assert 0 < relative(packed, full) < 0.06


def test_only_matrices_of_layers_are_packed(folder: Path) -> None:
    model, stored = load(folder, "int8", torch.bfloat16), load(folder, "float32")
    packed = {name for name, module in model.named_modules() if isinstance(module, Int8Linear)}
    linears = {name for name, module in stored.named_modules() if isinstance(module, nn.Linear)}
    assert packed == {name for name in linears if name.startswith("layers.")}
    for name in packed:
        made, original = model.get_submodule(name), stored.get_submodule(name)
        assert isinstance(made, Int8Linear) and isinstance(original, nn.Linear)
        codes, scales = pack_int8(
            original.weight, 127 if multiplies_exactly() else 63
        )  # from the stored weights, not from 16 bits
        assert torch.equal(made.codes, codes) and torch.equal(made.scales, scales)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert not any(weight.is_meta for weight in (*model.parameters(), *model.buffers()))
    assert count_bytes(model) == weight_bytes(model.config, "int8")


def test_biases_stay() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8, bias=False)))
    use_int8(module)
    (first, second) = (part for part in module.modules() if isinstance(part, Int8Linear))
    assert first.bias is not None and second.bias is None


def test_other_devices_and_formats_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadOption, match=r"for a CPU, not for the device 'cuda'. Give quantize='none'"):
        load(folder, "int8", device=torch.device("cuda"))
    with pytest.raises(BadOption, match="no weights in nf4"):
        load(folder, "nf4")
    monkeypatch.setattr(weights, "has_onednn", lambda: False)
    with pytest.raises(BadOption, match="need a torch with oneDNN"):
        load(folder, "int8")


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({}, "float32"),
        ({"avx2": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
    ],
    ids=str,
)
def test_16_bits_are_the_default_where_the_cpu_multiplies_them(
    able: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert LFM2_DIFFUSION.cpu_dtype == expected


@pytest.mark.anyio
async def test_weights_in_7_bits_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "multiplies_exactly", lambda: False)
    target = write_checkpoint(tmp_path / "small")
    write_tokenizer(target, 1024)
    for quantize, expected in (("int8", True), ("none", False)):
        engine = await asyncio.to_thread(open_engine, f"diffusion:{target}", device="cpu", quantize=quantize, threads=1)
        assert any("7 bits" in reason for reason in engine.about.reasons) == expected
        await engine.close()


@pytest.mark.anyio
async def test_the_engine_writes_in_8_bits(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "small")
    write_tokenizer(target, 1024)
    engine = await asyncio.to_thread(open_engine, f"diffusion:{target}", device="cpu", quantize="int8", threads=1)
    assert engine.about.quantization == "int8"
    assert any("8 bits" in reason for reason in engine.about.reasons)
    request = Request(Prompt("A page on bread"), seed=1, max_tokens=32, options={"steps": 2})
    found = [frame async for frame in engine.generate(request)]
    assert found[-1].done and found[-1].text
    await engine.close()
    with pytest.raises(BadOption, match="give 'none' or 'int8'"):
        await asyncio.to_thread(open_engine, f"diffusion:{target}", device="cpu", quantize="nf4")
