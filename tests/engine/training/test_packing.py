"""Pages as tokens, and documents as batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.training_runs import pages

from unwritten_engine import EngineError, Prompt
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.errors import ModelBroken
from unwritten_engine.training.dataset import TrainingPage
from unwritten_engine.training.packing import (
    END,
    PAD,
    PINNED,
    TEXT,
    BatchLayout,
    Corpus,
    PackedBatch,
    Packer,
    make_corpus,
)

ENDS = frozenset({1, 106, 50})
LAYOUT = BatchLayout(rows=2, tokens=64, canvases=6, canvas=8)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(1400)


def made(tokenizer: Any, given: list[TrainingPage], longest: int = 64) -> tuple[Corpus, int]:
    return make_corpus(given, tokenizer, end_ids=ENDS, pad_id=0, max_prompt_tokens=longest)


def test_a_page_becomes_the_tokens_of_the_engine(tokenizer: Any, tmp_path: Path) -> None:
    page = TrainingPage(Prompt("A river.", opening="**River** "), "**River** water\n ", "River")
    corpus, left_out = made(tokenizer, [page])
    document = corpus[0]
    assert left_out == 0 and len(corpus) == 1
    prompt = tokenizer.decode(document.prompt, skip_special_tokens=False)
    assert prompt.startswith("<bos><|turn>user\nA river.") and prompt.endswith("<turn|>\n<|turn>model\n")
    assert tokenizer.decode(document.text) == "**River** water"
    assert tokenizer.decode(document.text[: document.num_pinned]) == "**River** "
    corpus.save(tmp_path / "corpus.npz")
    again = Corpus.load(tmp_path / "corpus.npz")
    assert np.array_equal(again.tokens, corpus.tokens) and np.array_equal(again.sizes, corpus.sizes)
    assert again.num_chars == len(page.text) and again.num_text_tokens == len(document.text)


def test_what_does_not_fit_is_counted_and_reported(tokenizer: Any, tmp_path: Path) -> None:
    long = TrainingPage(Prompt("river " * 80), "water")
    assert made(tokenizer, [long, *pages(2)])[1] == 1
    with pytest.raises(EngineError, match=r"no pages to train on: 1 have prompts of more than 64 tokens.*tokens=\d+"):
        made(tokenizer, [long])
    with pytest.raises(EngineError, match="the files are empty"):
        made(tokenizer, [])
    with pytest.raises(EngineError, match="No page fits into rows of 10 tokens"):
        Packer(
            made(tokenizer, pages(2))[0], BatchLayout(rows=1, tokens=10, canvases=2, canvas=8), seed=0, end=106, pad=0
        )
    (tmp_path / "corpus.npz").write_bytes(b"PK nothing")
    with pytest.raises(ModelBroken, match="is not a corpus"):
        Corpus.load(tmp_path / "corpus.npz")


def documents_of(batch: PackedBatch) -> list[list[int]]:
    """All documents of a batch: prompt and canvases up to the end token, once each."""
    found = []
    for row in range(len(batch.ids)):
        for owner in range(int(batch.document_ids[row].max()) + 1):
            read = batch.ids[row][batch.document_ids[row] == owner].tolist()
            assert batch.positions[row][batch.document_ids[row] == owner].tolist() == list(range(len(read)))
            mine = batch.canvas_document_ids[row] == owner
            by_start = dict(zip(batch.starts[row][mine].tolist(), batch.canvases[row][mine].tolist(), strict=True))
            starts = sorted(by_start)
            text = [token for start in starts for token in by_start[start]]
            assert read[starts[0] :] == text[: len(read) - starts[0]], "the encoder reads all canvases but the last"
            found.append([*read[: starts[0]], *text])
    return found


def test_every_document_occurs_once_per_epoch(tokenizer: Any) -> None:
    corpus, _ = made(tokenizer, pages(20, words=11))
    packs = Packer(corpus, LAYOUT, seed=4, end=106, pad=0)
    seen: list[tuple[int, ...]] = []
    while packs.epoch == 0:
        seen += [tuple(found) for found in documents_of(packs.batch())]
    wanted = []
    for number in range(20):
        document = corpus[number]
        rest = -(len(document.text) + 1) % 8
        wanted.append((*document.prompt.tolist(), *document.text.tolist(), 106, *[0] * rest))
    assert set(wanted) <= set(seen) and len(seen[:20]) == len(set(seen[:20])), "none twice before all came once"


def test_positions_are_reported(tokenizer: Any) -> None:
    page = TrainingPage(Prompt("A river.", opening="the river"), "the river and city water")
    corpus, _ = made(tokenizer, [page])
    batch = Packer(corpus, BatchLayout(rows=1, tokens=64, canvases=1, canvas=8), seed=0, end=106, pad=0).batch()
    assert batch.kinds[0, 0].tolist() == [PINNED, PINNED, TEXT, TEXT, TEXT, END, PAD, PAD]
    assert batch.canvases[0, 0, 5:].tolist() == [106, 0, 0]


def test_a_text_that_is_too_long_is_cut_without_an_end(tokenizer: Any) -> None:
    corpus, _ = made(tokenizer, pages(1, words=60))
    layout = BatchLayout(rows=1, tokens=64, canvases=4, canvas=8, max_canvases=3)
    batch = Packer(corpus, layout, seed=0, end=106, pad=0).batch()
    assert (batch.canvas_document_ids[0] >= 0).sum() == 3
    assert (batch.kinds[0, :3] == TEXT).all()


def test_the_order_depends_on_the_seed_and_resumes_anywhere(tokenizer: Any) -> None:
    corpus, _ = made(tokenizer, pages(20))

    def batches(seed: int, at: tuple[int, int] = (0, 0), count: int = 9) -> list[tuple[tuple[int, int], torch.Tensor]]:
        packs = Packer(corpus, LAYOUT, seed=seed, end=106, pad=0)
        packs.epoch, packs.position = at
        return [((packs.epoch, packs.position), packs.batch().canvases) for _ in range(count)]

    once, again, other = batches(1), batches(1), batches(2)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(once, again, strict=True))
    assert not all(torch.equal(a, b) for (_, a), (_, b) in zip(once, other, strict=True))
    resumed = batches(1, at=once[3][0], count=6)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(once[3:], resumed, strict=True))
    assert once[-1][0][0] > 0, "into the second epoch"
