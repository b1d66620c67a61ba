"""Weights in 4 and 8 bits: near the originals, the same on every path, in bounded room."""

import pytest
import torch
from tests.support.logits import compare
from torch import Tensor
from torch.nn import functional as F

from unwritten_engine.diffusion.diffusion_gemma.quantization import (
    PackedExperts,
    PackedLinear,
    can_pack,
    pack_nf4,
    unpack_nf4,
)
from unwritten_engine.diffusion.int8 import pack_int8

EXPERTS, HIDDEN, INNER, CHOSEN = 8, 128, 64, 3
KINDS = {"int8": 0.02, "nf4": 0.25}
"""How far the output of packed experts may be from the original's, as a share of it: 0.011 and 0.17 here."""


def gelu(value: Tensor) -> Tensor:
    return F.gelu(value, approximate="tanh")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    drawn: Tensor = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5
    return drawn


GATE_UP, DOWN = numbers(EXPERTS, 2 * INNER, HIDDEN), numbers(EXPERTS, HIDDEN, INNER, seed=1)


def packed(kind: str) -> PackedExperts:
    experts = PackedExperts(EXPERTS, HIDDEN, INNER, kind, gelu, torch.device("cpu"))
    for at in range(EXPERTS):
        experts.put("gate_up_proj", at, GATE_UP[at])
        experts.put("down_proj", at, DOWN[at])
    return experts


def routed(tokens: int, seed: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    states = numbers(tokens, HIDDEN, seed=seed) * HIDDEN**0.5
    weights, index = numbers(tokens, EXPERTS, seed=seed + 1).softmax(-1).topk(CHOSEN)
    return states, index, weights


def plainly(experts: PackedExperts, states: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Token by token with the unpacked matrices: what the experts should give."""
    gate_up, down = (
        torch.stack([experts.unpacked(part, expert, torch.float32) for expert in range(EXPERTS)])
        for part in ("gate_up", "down")
    )
    return originally(states, index, weights, gate_up, down)


def originally(states: Tensor, index: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    out = torch.zeros_like(states)
    for token in range(len(states)):
        for expert, weight in zip(index[token].tolist(), weights[token], strict=True):
            gate, up = (gate_up[expert] @ states[token]).chunk(2)
            out[token] += weight * (down[expert] @ (gelu(gate) * up))
    return out


def away(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_experts_are_close_to_the_originals(kind: str) -> None:
    states, index, weights = routed(20)
    found = packed(kind)(states, index, weights)
    assert away(found, plainly(packed(kind), states, index, weights)) < 1e-5  # the sums are right
    assert 0 < away(found, originally(states, index, weights, GATE_UP, DOWN)) < KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_unselected_experts_have_no_effect(kind: str) -> None:
    experts = packed(kind)
    states, _, _ = routed(5)
    for chosen in (0, 4, EXPERTS - 1):
        index = torch.full((5, 1), chosen)
        wanted = plainly(experts, states, index, torch.ones(5, 1))
        assert torch.allclose(experts(states, index, torch.ones(5, 1)), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_independent_of_each_other(kind: str) -> None:
    states, index, weights = routed(20)
    experts = packed(kind)
    alone = torch.cat([experts(states[at : at + 1], index[at : at + 1], weights[at : at + 1]) for at in range(20)])
    assert torch.allclose(experts(states, index, weights), alone, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layers_are_close_to_the_originals(dtype: torch.dtype) -> None:
    inputs = (numbers(2, 7, HIDDEN, seed=5) * HIDDEN**0.5).to(dtype)
    wanted = inputs.float() @ GATE_UP[0].T
    for kind, most in (("int8", 0.02), ("nf4", 0.15)):
        found = PackedLinear(GATE_UP[0].to(dtype), kind)(inputs)
        assert found.dtype == dtype
        assert found.shape == (2, 7, 2 * INNER)
        assert 0 < away(found.float(), wanted) < most


def test_quantized_sizes_are_as_expected() -> None:
    codes, scales = pack_nf4(DOWN[0])
    assert codes.numel() * 2 == DOWN[0].numel()
    assert (scales.numel() * 64, scales.dtype) == (DOWN[0].numel(), torch.bfloat16)
    assert unpack_nf4(codes, scales, tuple(DOWN[0].shape), torch.bfloat16).dtype == torch.bfloat16
    whole, rows = pack_int8(DOWN)
    assert (whole.dtype, whole.shape, rows.shape) == (torch.int8, DOWN.shape, DOWN.shape[:2])


def test_scales_in_16_bits_cost_little_accuracy() -> None:
    from bitsandbytes import functional as bits

    weight = numbers(512, 256)
    exact: Tensor = bits.dequantize_4bit(*bits.quantize_4bit(weight, blocksize=64, quant_type="nf4"))
    ours = unpack_nf4(*pack_nf4(weight), (512, 256), torch.float32)
    assert away(ours, weight) < away(exact, weight) * 1.01


def test_int8_is_exact_at_the_largest_and_survives_zeros() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    codes, scales = pack_int8(weight)
    assert codes.tolist() == [[0, 0], [64, -127]]
    assert (codes * scales[:, None])[1, 1] == -2.0


def test_rows_without_whole_blocks_are_not_quantized_to_4_bits() -> None:
    assert [can_pack(2816, "nf4"), can_pack(704, "nf4"), can_pack(100, "nf4"), can_pack(100, "int8")] == [
        True,
        True,
        False,
        True,
    ]


def test_differences_are_reported() -> None:
    logits = numbers(4, 10)
    assert compare(logits, logits).agreement == 1
    assert compare(logits, logits).error == 0
    moved = logits.clone()
    moved[0, (int(logits[0].argmax()) + 1) % 10] += 100
    found = compare(logits, moved)
    assert found.agreement == 0.75
    assert found.largest == pytest.approx(100, rel=1e-4)
