"""Compute the surprisal of texts under the embedded model, in float32 and for every token.

llama.cpp only reports probabilities of its own tokens, so the weights are loaded into transformers (see ``gemma``).
Note that the judge prefers its own style and repetition; measure repetition separately.
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
"""Positions whose logits are computed together."""


@dataclass(frozen=True, slots=True)
class Surprisal:
    """Surprisal of texts.

    Attributes:
        nats: total negative log-likelihood.
        tokens: number of tokens.
    """

    nats: float
    tokens: int

    def __add__(self, other: Surprisal) -> Surprisal:
        return Surprisal(self.nats + other.nats, self.tokens + other.tokens)

    @property
    def perplexity(self) -> float | None:
        """Perplexity per token; None without tokens."""
        return math.exp(self.nats / self.tokens) if self.tokens else None


class Judge:
    """A causal language model that scores texts. Created by ``open_judge``.

    Args:
        model: a transformers model with ``model`` and ``lm_head``.
        tokenize: converts text to ids.
        begin: the begin token.
        name: display name.
    """

    def __init__(self, model: Any, tokenize: Tokenize, begin: int, name: str = "") -> None:
        self._model, self._tokenize, self._begin = model, tokenize, begin
        self.name = name

    def surprisals(
        self, pairs: Sequence[tuple[str, str]], batch: int = 8, progress: Progress = lambda share, doing: None
    ) -> list[Surprisal]:
        """Return the surprisal of each text given its context.

        Args:
            pairs: contexts, which are not scored, each with a text.
            batch: texts per batch, of similar length.
            progress: gets the share of scored texts.
        """
        rows = [([self._begin, *self._tokenize(context)], self._tokenize(text)) for context, text in pairs]
        order = sorted(range(len(rows)), key=lambda at: sum(map(len, rows[at])))
        found = [Surprisal(0.0, 0)] * len(rows)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            progress(start / len(order), f"{self.name or 'The judge'} reads")
            for at, nats in zip(chosen, self._nats([rows[at] for at in chosen]), strict=True):
                found[at] = Surprisal(nats, len(rows[at][1]))
        return found

    @torch.inference_mode()
    def _nats(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        longest = max(len(context) + len(text) for context, text in rows)
        # Padding follows the text, which a causal model does not attend to: no mask is needed.
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
        """Return the total negative log-likelihood of tokens [positions] for states [positions, hidden]."""
        whole = 0.0
        for start in range(0, len(targets), _ROWS):
            logits = self._model.lm_head(states[start : start + _ROWS]).float()
            part = torch.nn.functional.cross_entropy(logits, targets[start : start + _ROWS], reduction="sum")
            whole += float(part)
        return whole


def open_judge(progress: Progress = lambda share, doing: None) -> Judge:
    """Open the embedded model as a judge. Takes seconds and about 2 GB of memory.

    Args:
        progress: called while the model file is assembled.

    Raises:
        MissingPackage: the model's package is not installed.
        ModelBroken: its parts are damaged.
    """
    model, tokenize = load_gemma(embedded_file(progress))
    begin = model.config.bos_token_id
    assert begin is not None
    return Judge(model, tokenize, begin, f"{MODEL}, in float32")
