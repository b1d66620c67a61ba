"""Tokenized pages, packed into batches with several documents per row, so that there is little padding.

A *document* is a tokenized page: its prompt, and its text split into canvases, the last one filled with an end token
and padding. In a batch the encoder processes each prompt and all canvases except the last once. The decoder gets one or
more copies of every canvas, each with its own noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..diffusion.tokenization.detokenizer import Detokenizer
from ..diffusion.tokenization.prompt_tokenizer import PromptTokenizer
from ..errors import EngineError, ModelBroken
from .dataset import TrainingPage

TEXT, END, PAD, PINNED = range(4)
"""Kinds of positions in a canvas: text, the end token, padding after it, or the pinned opening."""


@dataclass(frozen=True, slots=True)
class Document:
    """A tokenized page.

    Attributes:
        prompt: tokens of the prompt.
        text: tokens of the text, without an end token.
        num_pinned: leading tokens of the text that belong to the opening.
        num_chars: characters of the text.
    """

    prompt: np.ndarray
    text: np.ndarray
    num_pinned: int
    num_chars: int


class Corpus:
    """Documents in flat arrays.

    Args:
        tokens: all prompts and texts, concatenated.
        sizes: [documents, 4] int32: tokens of prompt, text and opening, and characters of the text.
    """

    def __init__(self, tokens: np.ndarray, sizes: np.ndarray) -> None:
        self.tokens, self.sizes = tokens, sizes
        self._starts = np.concatenate([[0], np.cumsum(sizes[:, :2].sum(1, dtype=np.int64))])
        if self._starts[-1] != len(tokens):
            raise ModelBroken("The corpus is damaged: its sizes do not match. Prepare the run again.")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> Document:
        prompt, text, opening, characters = (int(size) for size in self.sizes[number])
        start = int(self._starts[number])
        middle = start + prompt
        return Document(self.tokens[start:middle], self.tokens[middle : middle + text], opening, characters)

    @property
    def num_text_tokens(self) -> int:
        """Tokens of all texts."""
        return int(self.sizes[:, 1].sum())

    @property
    def num_chars(self) -> int:
        """Characters of all texts."""
        return int(self.sizes[:, 3].sum())

    def save(self, path: Path) -> None:
        """Write the corpus to a file."""
        with path.open("wb") as file:
            np.savez(file, tokens=self.tokens, sizes=self.sizes)

    @staticmethod
    def load(path: Path) -> Corpus:
        """Read a corpus.

        Raises:
            ModelBroken: the file is not a corpus.
        """
        try:
            with np.load(path, allow_pickle=False) as parts:
                return Corpus(parts["tokens"], parts["sizes"])
        except (OSError, ValueError, KeyError) as error:
            raise ModelBroken(f"{path} is not a corpus ({error}). Prepare the run again.") from None


def make_corpus(
    pages: Iterable[TrainingPage],
    tokenizer: Any,
    *,
    end_ids: frozenset[int],
    pad_id: int,
    max_prompt_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Corpus, int]:
    """Tokenize pages like the engine.

    Args:
        pages: prompts and texts.
        tokenizer: with a chat template.
        end_ids: its end tokens.
        pad_id: its padding token.
        max_prompt_tokens: pages with longer prompts are skipped.
        progress: called with the number of processed pages.

    Returns:
        The corpus, and the number of skipped pages.

    Raises:
        EngineError: no page remains.
    """
    detokenizer = Detokenizer(tokenizer, end_ids, pad_id)
    prompt_tokenizer = PromptTokenizer(tokenizer, detokenizer, None, "the model")
    dtype = np.uint16 if detokenizer.vocab_size <= 2**16 else np.uint32
    parts: list[np.ndarray] = []
    sizes: list[tuple[int, int, int, int]] = []
    skipped, longest = 0, 0
    for page in pages:
        prompt = prompt_tokenizer.token_ids(page.prompt)
        progress(len(sizes) + skipped)
        longest = max(longest, len(prompt))
        if len(prompt) > max_prompt_tokens:
            skipped += 1
            continue
        # Opening and rest are tokenized separately, as in the engine.
        start = page.prompt.opening
        opening = detokenizer.encode(detokenizer.protect_leading_space(start)) if start else ()
        text = (*opening, *detokenizer.encode(page.text[len(start) :].rstrip()))
        parts += [np.array(prompt, dtype), np.array(text, dtype)]
        sizes.append((len(prompt), len(text), len(opening), len(page.text)))
    if not sizes:
        raise EngineError(
            f"There are no pages to train on: {skipped:,} have prompts of more than {max_prompt_tokens:,} tokens. For "
            f"longer rows: --set tokens={1 << longest.bit_length()}"
            if skipped
            else "There are no pages to train on: the files are empty."
        )
    return Corpus(np.concatenate(parts), np.array(sizes, np.int32)), skipped


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Documents in B rows of S tokens and K canvases of C tokens.

    Attributes:
        ids: [B, S] int64, encoder tokens.
        document_ids: [B, S] int64, document of each token, -1 for none.
        positions: [B, S] int64, positions within the document.
        canvases: [B, K, C] int64, without noise.
        kinds: [B, K, C] uint8, kinds of positions: ``TEXT``, ``END``, ``PAD``, ``PINNED``.
        canvas_document_ids: [B, K] int64, document of each canvas, -1 for none.
        starts: [B, K] int64, tokens of the document before the canvas.
    """

    ids: Tensor
    document_ids: Tensor
    positions: Tensor
    canvases: Tensor
    kinds: Tensor
    canvas_document_ids: Tensor
    starts: Tensor

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on a device."""
        return PackedBatch(*(getattr(self, name).to(device, non_blocking=True) for name in PackedBatch.__slots__))


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """Size of a batch.

    Attributes:
        rows: B.
        tokens: S, encoder tokens per row.
        canvases: K, canvases per row.
        canvas: C, tokens per canvas.
        copies: copies of each canvas.
        max_canvases: maximum number of canvases of one document.
    """

    rows: int
    tokens: int
    canvases: int
    canvas: int
    copies: int = 1
    max_canvases: int = 4

    def num_canvases(self, document: Document) -> int:
        """Return how many canvases of a document fit into a row."""
        needed = -(-(len(document.text) + 1) // self.canvas)
        available = (
            (self.tokens - len(document.prompt)) // self.canvas + 1 if len(document.prompt) <= self.tokens else 0
        )
        return max(0, min(needed, self.max_canvases, available, self.canvases // self.copies))


class Packer:
    """Packs documents into batches, in an order that only depends on the seed.

    Args:
        corpus: the documents.
        layout: size of the batches.
        seed: of the order.
        end: the end token.
        pad: the padding token.

    Attributes:
        epoch: number of finished passes over all documents.
        position: number of used documents in this epoch.
    """

    def __init__(self, corpus: Corpus, layout: BatchLayout, *, seed: int, end: int, pad: int) -> None:
        self.corpus, self.layout = corpus, layout
        self._seed, self._end, self._pad = seed, end, pad
        self.epoch, self.position = 0, 0
        self._order: tuple[int, np.ndarray] | None = None
        if not any(layout.num_canvases(corpus[number]) for number in range(len(corpus))):
            raise EngineError(
                f"No page fits into rows of {layout.tokens} tokens and {layout.canvases} canvases. Use longer rows."
            )

    def batch(self) -> PackedBatch:
        """Return the next batch."""
        builder = _BatchBuilder(self.layout, self._pad)
        while True:
            document = self.corpus[self._next()]
            count = self.layout.num_canvases(document)
            if count and not builder.put(document, self._cut(document, count)):
                return builder.batch()  # this document starts the next batch
            self.position += 1

    def _next(self) -> int:
        if self.position >= len(self.corpus):
            self.epoch, self.position = self.epoch + 1, 0
        if self._order is None or self._order[0] != self.epoch:
            drawn = np.random.default_rng([self._seed, self.epoch])
            self._order = self.epoch, drawn.permutation(len(self.corpus))
        return int(self._order[1][self.position])

    def _cut(self, document: Document, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the first canvases of a document as int64 tokens and uint8 kinds, [C] each."""
        size = self.layout.canvas
        ids = np.full(count * size, self._pad, np.int64)
        kinds = np.full(count * size, PAD, np.uint8)
        length = min(len(document.text), count * size)
        ids[:length], kinds[:length] = document.text[:length], TEXT
        kinds[: min(document.num_pinned, length)] = PINNED
        if length < count * size:
            ids[length], kinds[length] = self._end, END
        return list(zip(ids.reshape(count, size), kinds.reshape(count, size), strict=True))


class _BatchBuilder:
    """A batch under construction."""

    def __init__(self, layout: BatchLayout, pad: int) -> None:
        b, s, k, c = layout.rows, layout.tokens, layout.canvases, layout.canvas
        self._layout = layout
        self._used = [(0, 0, 0)] * b  # tokens, canvases, documents of each row
        self._ids, self._owners, self._places = np.full((b, s), pad), np.full((b, s), -1), np.zeros((b, s), np.int64)
        self._canvases, self._kinds = np.full((b, k, c), pad), np.full((b, k, c), PAD, np.uint8)
        self._canvas_owners, self._starts = np.full((b, k), -1), np.zeros((b, k), np.int64)

    def put(self, document: Document, canvases: list[tuple[np.ndarray, np.ndarray]]) -> bool:
        """Append a document to the first row with enough room. Return False if there is none."""
        layout = self._layout
        read = np.concatenate([document.prompt, *(ids for ids, _ in canvases[:-1])])
        count = len(canvases) * layout.copies
        free = (
            row
            for row, (tokens, taken, _) in enumerate(self._used)
            if tokens + len(read) <= layout.tokens and taken + count <= layout.canvases
        )
        row = next(free, None)
        if row is None:
            return False
        at, canvas, owner = self._used[row]
        self._used[row] = at + len(read), canvas + count, owner + 1
        span = slice(at, at + len(read))
        self._ids[row, span], self._owners[row, span], self._places[row, span] = read, owner, np.arange(len(read))
        for number, (ids, kinds) in enumerate(canvases):
            for _ in range(layout.copies):
                self._canvases[row, canvas], self._kinds[row, canvas] = ids, kinds
                self._canvas_owners[row, canvas] = owner
                self._starts[row, canvas] = len(document.prompt) + number * layout.canvas
                canvas += 1
        return True

    def batch(self) -> PackedBatch:
        """Return the batch as tensors."""
        arrays = (
            self._ids, self._owners, self._places, self._canvases, self._kinds, self._canvas_owners, self._starts,
        )  # fmt: skip
        return PackedBatch(*map(torch.from_numpy, arrays))
