"""The loss in pieces, beside the obvious one."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from unwritten_engine.training import objective as loss
from unwritten_engine.training.objective import LossWeights, mean_embeddings, token_losses
from unwritten_engine.training.packing import END, PAD, PINNED, TEXT


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 16, generator=generator, requires_grad=True)
    weight = torch.randn(300, 16, generator=generator, requires_grad=True)
    return hidden, weight, torch.randint(300, (50,), generator=generator)


def test_chunked_loss_and_gradients_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = drawn()
    whole = cross_entropy(10 * torch.tanh(hidden @ weight.t() / 10), targets, reduction="none")
    expected = torch.autograd.grad(whole.square().sum(), (hidden, weight))
    monkeypatch.setattr(loss, "CHUNK", 300 * 7)
    found = token_losses(hidden, weight, 10.0, targets)
    torch.testing.assert_close(found, whole)
    for one, other in zip(torch.autograd.grad(found.square().sum(), (hidden, weight)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_mean_embeddings_are_those_of_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, _ = drawn()
    heat = torch.linspace(0.4, 0.8, 50)
    logits = 10 * torch.tanh(hidden @ weight.t() / 10) / heat[:, None]
    monkeypatch.setattr(loss, "CHUNK", 300 * 7)
    found = mean_embeddings(hidden, weight, 10.0, heat, 4.0)
    torch.testing.assert_close(found, torch.softmax(logits, -1) @ weight * 4.0, rtol=1e-4, atol=1e-4)
    assert not found.requires_grad


def test_loss_weights_are_as_expected() -> None:
    kinds = torch.tensor([[TEXT, END], [PAD, PINNED]], dtype=torch.uint8)
    assert LossWeights(end=0.5, pad=0.125).for_kinds(kinds).tolist() == [[1.0, 0.5], [0.125, 0.0]]
