"""The layers over batches of documents, beside transformers' own forward pass."""

from typing import Any

import numpy as np
import pytest
import torch

from unwritten_engine.diffusion.diffusion_gemma.random_model import random_model
from unwritten_engine.training.packing import BatchLayout, Corpus, PackedBatch, Packer
from unwritten_engine.training.trainable_model import TrainableModel, run_experts

CANVAS = 8


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(vocabulary=700, hidden=32, layers=4, canvas=CANVAS, window=12, branch=0.5)[0]


def corpus(*documents: tuple[int, int]) -> Corpus:
    """Documents of so many tokens of prompt and text."""
    drawn = np.random.default_rng(3)
    tokens = [drawn.integers(300, 700, prompt + text).astype(np.uint16) for prompt, text in documents]
    sizes = np.array([(prompt, text, 0, text) for prompt, text in documents], np.int32)
    return Corpus(np.concatenate(tokens), sizes)


def packed(documents: Corpus, layout: BatchLayout) -> PackedBatch:
    return Packer(documents, layout, seed=1, end=106, pad=0).batch()


def looked(model: Any, batch: PackedBatch, soft: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The hidden states of all canvases, and noise that was on them."""
    trunk = TrainableModel(model)
    noise = torch.randint(700, batch.canvases.shape, generator=torch.Generator().manual_seed(5))
    rows, count, size = batch.canvases.shape
    given = torch.full((rows, count * size, 32), 0.3) if soft else None
    return trunk.decode(trunk.encode(batch), batch, noise, given).view(rows, count, size, -1), noise


@pytest.mark.parametrize("soft", [False, True])
def test_packed_documents_equal_transformers_on_single_ones(model: Any, soft: bool) -> None:
    documents = corpus((5, 20), (17, 6), (3, 7), (9, 30), (26, 4))  # some within the window, some beyond it
    layout = BatchLayout(rows=2, tokens=64, canvases=8, canvas=CANVAS, copies=1)
    batch = packed(documents, layout)
    found, noise = looked(model, batch, soft)
    checked = 0
    for row in range(2):
        for place in range(layout.canvases):
            owner = int(batch.canvas_document_ids[row, place])
            if owner < 0:
                continue
            start = int(batch.starts[row, place])
            ids = batch.ids[row][(batch.document_ids[row] == owner)][:start]
            assert len(ids) == start, "the encoder has read all that stands before the canvas"
            expected = alone(model, ids, noise[row, place], 0.3 if soft else None)
            torch.testing.assert_close(found[row, place], expected, rtol=1e-4, atol=1e-4)
            checked += 1
    assert checked >= 3 + 1 + 1 + 4 + 1  # what is left of the rows is filled from the next epoch


def alone(model: Any, ids: torch.Tensor, canvas: torch.Tensor, soft: float | None) -> torch.Tensor:
    cache = model.model.encoder(input_ids=ids[None]).cache
    decoder = model.model.decoder
    if soft is None:
        plain: torch.Tensor = decoder(canvas[None], cache=cache).last_hidden_state[0]
        return plain
    conditioned = decoder.self_conditioning.forward

    def forward(embedded: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = conditioned(embedded, torch.full_like(signal, soft))
        return result

    decoder.self_conditioning.forward = forward
    try:
        seen: torch.Tensor = decoder(canvas[None], cache=cache).last_hidden_state[0]
        return seen
    finally:
        del decoder.self_conditioning.forward


def test_copies_of_a_canvas_do_not_see_each_other(model: Any) -> None:
    documents = corpus((5, 12), (6, 3))
    once = packed(documents, BatchLayout(rows=1, tokens=40, canvases=4, canvas=CANVAS, copies=1))
    twice = packed(documents, BatchLayout(rows=1, tokens=40, canvases=8, canvas=CANVAS, copies=2))
    assert torch.equal(twice.canvases[:, 0], twice.canvases[:, 1])
    trunk = TrainableModel(model)
    single = trunk.decode(trunk.encode(once), once, once.canvases, None).view(4, CANVAS, -1)
    double = trunk.decode(trunk.encode(twice), twice, twice.canvases, None).view(8, CANVAS, -1)
    count = int((once.canvas_document_ids >= 0).sum())
    torch.testing.assert_close(double[: 2 * count : 2], single[:count], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(double[1 : 2 * count : 2], single[:count], rtol=1e-4, atol=1e-4)


def test_computing_all_experts_equals_the_chosen_ones(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = model.model.decoder.layers[0].experts
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(30, 32, generator=generator)
    chosen = torch.stack([torch.randperm(4, generator=generator)[:2] for _ in range(30)])
    weights = torch.rand(30, 2, generator=generator)
    all_of_them = run_experts(experts, flat, chosen, weights)
    torch.testing.assert_close(all_of_them, experts(flat, chosen, weights), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("unwritten_engine.training.trainable_model.MAX_DENSE_EXPERTS", 3)
    assert torch.equal(run_experts(experts, flat, chosen, weights), experts(flat, chosen, weights))


def test_gradients_reach_every_decoder_weight() -> None:
    model, _ = random_model(vocabulary=700, hidden=32, layers=3, canvas=CANVAS, window=12, branch=0.5)
    model.model.decoder.requires_grad_(True)
    trunk = TrainableModel(model)
    batch = packed(corpus((5, 20), (7, 9)), BatchLayout(rows=1, tokens=40, canvases=6, canvas=CANVAS))
    soft = torch.ones(1, 6 * CANVAS, 32)
    with torch.enable_grad(), trunk.record_routing() as uneven:
        hidden = trunk.decode(trunk.encode(batch), batch, batch.canvases, soft)
        torch.autograd.backward(hidden.square().mean() + torch.stack(uneven).sum())
    assert len(uneven) == 2 * 3 and all(float(one.detach()) >= 0.99 for one in uneven)
    silent = [name for name, weight in model.model.decoder.named_parameters() if weight.grad is None]
    assert silent == []


def test_the_window_is_that_of_the_engine(model: Any) -> None:
    """What lies beyond the window of all sliding layers and comes through no full layer does not matter."""
    trunk = TrainableModel(model)
    batch = packed(corpus((40, 4)), BatchLayout(rows=1, tokens=40, canvases=1, canvas=CANVAS))
    prefix = trunk.encode(batch)
    seen = {kind: mask[0, 0, 0] for kind, mask in prefix.masks.items()}
    assert seen["full_attention"][:40].all()
    assert seen["sliding_attention"][:40].nonzero().flatten().tolist() == list(range(29, 40))  # W - 1 of them
    assert seen["sliding_attention"][40:].all()
