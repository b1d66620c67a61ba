"""The judge: how surprising a text is to a language model, all of it in float32 and with every token counted.

llama.cpp tells the probabilities of tokens that it chose itself, never those of a text that it is given. So the weights
of the model in the box are read into transformers (see ``gemma``). Two things to keep in mind: the judge likes what it
would have written itself, and it likes what repeats itself. Look at repetition beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unwritten_engine.engine import Progress
from unwritten_engine.llamacpp.embedded import MODEL, embedded_file

from .gemma import Tokenize, load_gemma

_ROWS = 128
"""Positions whose probabilities are worked out together: each takes a number for every token of the vocabulary."""


@dataclass(frozen=True, slots=True)
class Surprise:
    """How surprising texts are.

    Attributes:
        nats: the negative log-probability of all tokens together.
        tokens: how many these are, as the judge counts.
    """

    nats: float
    tokens: int

    def __add__(self, other: Surprise) -> Surprise:
        return Surprise(self.nats + other.nats, self.tokens + other.tokens)

    @property
    def perplexity(self) -> float | None:
        """Among how many equally likely tokens each one was chosen, on the average; None without tokens."""
        return math.exp(self.nats / self.tokens) if self.tokens else None


class Judge:
    """A causal language model that reads. Made by ``open_judge``.

    Args:
        model: of transformers, with ``model`` (states for ids) and ``lm_head``.
        tokenize: makes its tokens.
        begin: the token that begins every text.
        name: for people.
    """

    def __init__(self, model: Any, tokenize: Tokenize, begin: int, name: str = "") -> None:
        self._model, self._tokenize, self._begin = model, tokenize, begin
        self.name = name

    def surprises(
        self, pairs: Sequence[tuple[str, str]], batch: int = 8, progress: Progress = lambda share, doing: None
    ) -> list[Surprise]:
        """How surprising each text is after its context.

        Args:
            pairs: contexts, which are read and not counted, each with a text.
            batch: texts that are read together, those of about the same length.
            progress: told the share of the texts that are read.
        """
        rows = [([self._begin, *self._tokenize(context)], self._tokenize(text)) for context, text in pairs]
        order = sorted(range(len(rows)), key=lambda at: sum(map(len, rows[at])))
        found = [Surprise(0.0, 0)] * len(rows)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            progress(start / len(order), f"{self.name or 'The judge'} reads")
            for at, nats in zip(chosen, self._nats([rows[at] for at in chosen]), strict=True):
                found[at] = Surprise(nats, len(rows[at][1]))
        return found

    @torch.inference_mode()
    def _nats(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        longest = max(len(context) + len(text) for context, text in rows)
        # What fills a row up comes after its text, where a causal model does not look: no mask is needed.
        ids = torch.full((len(rows), longest), self._begin)
        for at, (context, text) in enumerate(rows):
            ids[at, : len(context) + len(text)] = torch.tensor(context + text)
        states = self._model.model(input_ids=ids, use_cache=False).last_hidden_state
        sums = []
        for at, (context, text) in enumerate(rows):
            before = states[at, len(context) - 1 : len(context) + len(text) - 1]
            sums.append(self._sum(before, torch.tensor(text, dtype=torch.long)))
        return sums

    def _sum(self, states: Tensor, targets: Tensor) -> float:
        """The negative log-probabilities of tokens [positions] after states [positions, numbers], added up."""
        whole = 0.0
        for start in range(0, len(targets), _ROWS):
            logits = self._model.lm_head(states[start : start + _ROWS]).float()
            part = torch.nn.functional.cross_entropy(logits, targets[start : start + _ROWS], reduction="sum")
            whole += float(part)
        return whole


def open_judge(progress: Progress = lambda share, doing: None) -> Judge:
    """The model in the box as a judge. It takes seconds, and about 2 GB of memory while it is made.

    Args:
        progress: called while the model's file is put together, if it is not there yet.

    Raises:
        MissingPackage: the package with the model is not installed.
        ModelBroken: its parts are damaged.
    """
    model, tokenize = load_gemma(embedded_file(progress))
    begin = model.config.bos_token_id
    assert begin is not None
    return Judge(model, tokenize, begin, f"{MODEL}, in float32")
