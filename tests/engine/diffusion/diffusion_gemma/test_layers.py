"""Encoder and decoder over our caches, against transformers' own over its caches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from unwritten_engine.diffusion.diffusion_gemma.kv_cache import KVCache
from unwritten_engine.diffusion.diffusion_gemma.layers import DiffusionGemmaLayers
from unwritten_engine.diffusion.diffusion_gemma.random_model import random_model
from unwritten_engine.diffusion.token_chunk import TokenChunk, to_tensor

WINDOW, CANVAS, CONTEXT = 16, 8, 128
CPU = torch.device("cpu")


@cache
def model() -> Any:
    """Pictures are seen in both directions, as in the real model."""
    made, _ = random_model(window=WINDOW, canvas=CANVAS, hidden=32, vocabulary=1024, layers=7)
    return made


def body() -> DiffusionGemmaLayers:
    config = model().config.text_config
    kv = KVCache(config, rows=2, context=CONTEXT, canvas=CANVAS, device=CPU, dtype=torch.float32)
    return DiffusionGemmaLayers(model(), kv)


def ids(count: int, seed: int = 0) -> Tensor:
    return torch.randint(600, 1024, (count,), generator=torch.Generator().manual_seed(seed))


def read(made: DiffusionGemmaLayers, row: int, tokens: Tensor, sizes: Sequence[int]) -> None:
    start = 0
    for size in sizes:
        made.encode(TokenChunk(row, start, tokens[start : start + size]))
        start += size
    assert start == len(tokens)


def cached(made: DiffusionGemmaLayers, row: int, length: int) -> list[Tensor]:
    """Keys and values of each layer, in the order of tokens."""
    found = []
    for layer in range(len(made.cache.keys)):
        order = made.cache.positions(layer, length).argsort()
        found += [part[:, order] for part in made.cache.past(layer, row, length)]
    return found


def look(made: DiffusionGemmaLayers, canvases: Tensor, lengths: list[int], soft: Tensor | None = None) -> Tensor:
    given = torch.zeros(*canvases.shape, 32) if soft is None else soft
    even = min(lengths) == max(lengths)
    return made.decode(canvases, given, torch.tensor(lengths), max(lengths), not even)


def theirs(
    tokens: Tensor, canvas: Tensor, *, marks: Tensor | None = None, embeddings: Tensor | None = None
) -> tuple[Any, Tensor]:
    """transformers' cache of the tokens, and the hidden states of a canvas after them."""
    from transformers import DynamicCache

    made, config = model(), model().config
    past = DynamicCache(config=config.text_config)
    stream = made.model.encoder.language_model.embed_tokens(tokens[None]) if embeddings is None else embeddings[None]
    masks = made.model.encoder.create_masks_for_generate(
        config=config,
        inputs_embeds=stream,
        attention_mask=None,
        past_key_values=past,
        position_ids=torch.arange(len(tokens))[None],
        mm_token_type_ids=marks,
    )
    made.model.encoder.language_model(inputs_embeds=stream, attention_mask=masks, past_key_values=past)
    found = made.model.decoder(decoder_input_ids=canvas[None], past_key_values=past)
    return past, found.last_hidden_state[0]


def near(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=2e-4)


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("length", [1, 5, 15, 16, 17, 60])
def test_a_canvas_after_a_prompt_equals_transformers(length: int) -> None:
    made, canvas = body(), ids(CANVAS, 9)
    read(made, 0, ids(length), [length])
    _, wanted = theirs(ids(length), canvas)
    near(look(made, canvas[None], [length])[0], wanted)


@pytest.mark.parametrize("sizes", [[60], [20, 20, 20], [1] * 20 + [40], [15, 1, 44], [59, 1], [7, 7, 7, 39]])
def test_prefill_in_chunks_equals_one_pass(sizes: list[int]) -> None:
    made = body()
    read(made, 1, ids(60), sizes)
    whole = body()
    read(whole, 1, ids(60), [60])
    for found, wanted in zip(cached(made, 1, 60), cached(whole, 1, 60), strict=True):
        near(found, wanted)


def test_keys_and_values_equal_transformers() -> None:
    made = body()
    read(made, 0, ids(50), [13, 37])
    past, _ = theirs(ids(50), ids(CANVAS))
    ours = cached(made, 0, 50)
    for number, layer in enumerate(past.layers):
        count = ours[2 * number].shape[1]
        near(ours[2 * number], layer.keys[0, :, -count:])
        near(ours[2 * number + 1], layer.values[0, :, -count:])


@pytest.mark.parametrize("lengths", [[40, 3], [3, 40], [16, 15], [70, 17]])
def test_padded_rows_equal_single_rows(lengths: list[int]) -> None:
    made = body()
    canvases = torch.stack([ids(CANVAS, 7), ids(CANVAS, 8)])
    for row, length in enumerate(lengths):
        read(made, row, ids(length, row), [length])
    soft = torch.randn(2, CANVAS, 32, generator=torch.Generator().manual_seed(1))
    together = look(made, canvases, lengths, soft)
    for row, length in enumerate(lengths):
        alone = body()
        read(alone, 0, ids(length, row), [length])
        near(together[row], look(alone, canvases[row : row + 1], [length], soft[row : row + 1])[0])


def test_unused_slots_change_nothing() -> None:
    made, canvas = body(), ids(CANVAS, 9)[None]
    read(made, 0, ids(20), [20])
    zeros, lengths = torch.zeros(1, CANVAS, 32), torch.tensor([20])
    near(made.decode(canvas, zeros, lengths, CONTEXT, True), made.decode(canvas, zeros, lengths, 20, False))


def test_earlier_content_of_a_row_is_not_seen() -> None:
    made, canvas = body(), ids(CANVAS, 9)[None]
    read(made, 0, ids(90, 5), [90])
    read(made, 0, ids(10), [10])
    fresh = body()
    read(fresh, 0, ids(10), [10])
    near(look(made, canvas, [10]), look(fresh, canvas, [10]))


def test_an_empty_prompt_works() -> None:
    found = look(body(), ids(CANVAS)[None], [0])
    assert found.isfinite().all()


def test_decoding_does_not_change_the_cache() -> None:
    made = body()
    read(made, 0, ids(30), [30])
    before = [part.clone() for part in cached(made, 0, 30)]
    look(made, ids(CANVAS, 3)[None], [30])
    assert all(map(torch.equal, before, cached(made, 0, 30)))


def pictures(length: int, spans: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Marks of picture tokens, and the blocks that they form."""
    marks, blocks = torch.zeros(1, length, dtype=torch.long), torch.full((length,), -1)
    for number, (begin, end) in enumerate(spans):
        marks[0, begin:end] = 1
        blocks[begin:end] = number
    return marks, blocks


@pytest.mark.parametrize("spans", [[(3, 9)], [(0, 5), (7, 12), (40, 52)], [(4, 30)]])
def test_picture_tokens_attend_as_in_transformers(spans: list[tuple[int, int]]) -> None:
    """One of them is longer than the window."""
    tokens, canvas = ids(55), ids(CANVAS, 9)
    marks, blocks = pictures(55, spans)
    embeddings = torch.randn(55, 32, generator=torch.Generator().manual_seed(4)) * 4
    made = body()
    made.encode(TokenChunk(0, 0, tokens, embeddings, blocks))
    past, wanted = theirs(tokens, canvas, marks=marks, embeddings=embeddings)
    near(look(made, canvas[None], [55])[0], wanted)
    for number, layer in enumerate(past.layers):
        keys = cached(made, 0, 55)[2 * number]
        near(keys, layer.keys[0, :, -keys.shape[1] :])
    plain = body()
    plain.encode(TokenChunk(0, 0, tokens, embeddings))
    assert not torch.allclose(look(plain, canvas[None], [55])[0], wanted, atol=1e-2)


def test_pictures_in_chunks_equal_one_pass() -> None:
    tokens, (_, blocks) = ids(55), pictures(55, [(3, 9), (20, 33)])
    embeddings = torch.randn(55, 32, generator=torch.Generator().manual_seed(4)) * 4
    made, whole = body(), body()
    whole.encode(TokenChunk(0, 0, tokens, embeddings, blocks))
    for start, end in [(0, 10), (10, 34), (34, 55)]:
        made.encode(TokenChunk(0, start, tokens[start:end], embeddings[start:end], blocks[start:end]))
    for found, wanted in zip(cached(made, 0, 55), cached(whole, 0, 55), strict=True):
        near(found, wanted)


def test_embeddings_are_scaled() -> None:
    made = body()
    near(made.embed(ids(5)), model().model.encoder.language_model.embed_tokens(ids(5)))


def test_ids_become_tensors() -> None:
    assert to_tensor([3, 1], CPU).tolist() == [3, 1]
