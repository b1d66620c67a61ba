from __future__ import annotations

import json

import pytest

from unwritten_engine.vllm.constraints import MASK_IDS, MASKS, encode_mask, extra_args, read_constraints

torch = pytest.importorskip("torch")
VOCABULARY = 50


def mask(*tokens: int) -> bytes:
    return bytes(token in tokens for token in range(VOCABULARY))


def test_constraints_survive_the_way_to_the_sampler() -> None:
    masks = [encode_mask(mask(1)), encode_mask(mask(3, 4, 49))]
    arguments = extra_args([9, 8, 7, 6], [9, -1, -1, -1], [0, 0, 2, 2], masks)
    assert arguments[MASKS] == masks[1:], "masks that no position uses are not sent"
    assert arguments["diffusion_pinned"] == [0] and arguments["diffusion_seed_canvas"] == [9, 8, 7, 6]
    found = read_constraints(json.loads(json.dumps(arguments)), VOCABULARY, "cpu")
    assert found is not None
    logits = torch.randn(4, VOCABULARY)
    free = logits[1].clone()
    found.apply(logits)
    assert logits[0].argmax() == 9 and logits[0].softmax(-1)[9] == 1
    assert torch.equal(logits[1], free)
    for row in logits[2:]:
        assert {token for token, share in enumerate(row.softmax(-1)) if share > 0} == {3, 4, 49}


def test_requests_of_others_are_left_alone() -> None:
    assert extra_args([], [], [], []) == {}
    assert read_constraints(None, VOCABULARY, "cpu") is None
    assert read_constraints({"diffusion_seed_canvas": [1], "diffusion_pinned": [0]}, VOCABULARY, "cpu") is None


def test_a_cut_canvas_is_left_alone() -> None:
    found = read_constraints(extra_args([1, 2], [1, 2], [], []), VOCABULARY, "cpu")
    assert found is not None
    logits = torch.randn(1, VOCABULARY)
    before = logits.clone()
    found.apply(logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    "change",
    [
        {"diffusion_pinned": [7]},
        {"diffusion_seed_canvas": [1]},
        {"diffusion_seed_canvas": [VOCABULARY, 1]},
        {MASKS: ["not base64!"]},
        {MASKS: ["AAAA"]},
        {MASKS: [encode_mask(mask())]},
        {MASK_IDS: ["x", 0]},
    ],
)
def test_malformed_constraints_are_errors(change: dict[str, object]) -> None:
    arguments = extra_args([1, 2], [1, -1], [0, 1], [encode_mask(mask(3))]) | change
    with pytest.raises((ValueError, TypeError)):
        read_constraints(arguments, VOCABULARY, "cpu")


def test_a_mask_of_a_smaller_tokenizer_forbids_the_rest() -> None:
    arguments = extra_args([0], [-1], [1], [encode_mask(b"\1\0\1")])
    found = read_constraints(arguments, VOCABULARY, "cpu")
    assert found is not None
    (_, impossible) = found.masks[0]
    assert (~impossible).nonzero().flatten().tolist() == [0, 2]
