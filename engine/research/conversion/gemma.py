"""Convert the embedded Gemma 3 270M to an initial DiffusionGemma checkpoint."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final

import torch
from torch import Tensor

from unwritten_engine.engine import Progress
from unwritten_engine.errors import EngineError
from unwritten_engine.gguf import read_contents
from unwritten_engine.llamacpp.embedded import LICENCE, MODEL, embedded_file
from unwritten_engine.training.checkpoints import write_checkpoint_folder
from unwritten_engine.training.dataset import TrainingPage
from unwritten_engine.training.tokenizer_training import training_texts

from ..judging.gemma import load_gemma
from .calibration import Agreement, compare_models
from .mapping import convert_model
from .pruning import Vocabulary, pruned_tokenizer

_ROW: Final = 512
"""Tokens per row of text: the sliding window."""
_MEASURED, _CHECKED = 12, 4
"""Rows for calibration, and rows for the comparison with the original."""
_BEGIN: Final = 2
"""The begin token."""
_GAP: Final = 108
"""Two line ends, which separate texts."""


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """Result of the conversion.

    Attributes:
        folder: the checkpoint.
        wide: whether heads of sliding layers are wider than Gemma's.
        parameters: parameters without the vision tower.
        embeddings: embedding parameters.
        vocabulary: number of tokens.
        agreement: agreement with the original on other text.
    """

    folder: Path
    wide: bool
    parameters: int
    embeddings: int
    vocabulary: int
    agreement: Agreement


def write_converted(
    folder: Path,
    *,
    vocabulary: int = 28_672,
    pages: Iterable[TrainingPage] | None,
    wide: bool,
    progress: Progress,
    narrow_numbers: bool = False,
) -> ConversionReport:
    """Write the embedded model as a DiffusionGemma. Takes minutes and 3 GB of memory.

    Args:
        folder: target folder, created if needed.
        vocabulary: number of tokens to keep.
        pages: training pages: their most frequent tokens are kept, and their texts are used for calibration. Without
            them, Gemma's most frequent tokens are kept, and the text is Python's manual.
        wide: exact sliding layers with wider heads; see ``heads``.
        progress: gets the share of the work.
        narrow_numbers: write bfloat16 instead of float32.

    Raises:
        MissingPackage, ModelBroken: the embedded model is missing or damaged.
        EngineError: an unsuitable vocabulary size, too few pages, or the folder is not writable.
    """
    file = embedded_file(lambda share, doing: progress(0.05 * share, doing))
    texts = list(training_texts(pages)) if pages is not None else []
    progress(0.05, "Choosing tokens")
    tokenizer, origins = pruned_tokenizer(Vocabulary.of(read_contents(file)[0]), vocabulary, texts)
    progress(0.1, f"Reading {MODEL}")
    original = restrict_vocabulary(load_gemma(file)[0], origins)
    progress(0.2, "Collecting text")
    rows = _rows(tokenizer, texts or list(topics.values()))
    model = convert_model(
        original, rows[:_MEASURED], wide=wide, progress=lambda share, doing: progress(0.2 + 0.5 * share, doing)
    )
    progress(0.7, "Checking the result against the original")
    found = compare_models(original, model, rows[_MEASURED:])
    progress(0.95, f"Writing {folder}")
    text = [weight for name, weight in model.named_parameters() if "vision" not in name]  # shared ones come once
    report = ConversionReport(
        folder=folder,
        wide=wide,
        parameters=sum(weight.numel() for weight in text),
        embeddings=model.lm_head.weight.numel(),
        vocabulary=vocabulary,
        agreement=found,
    )
    if narrow_numbers:
        model.to(torch.bfloat16)
        model.config.dtype = torch.bfloat16
    write_checkpoint_folder(folder, model, tokenizer, _card(report))
    progress(1.0, f"{folder} is written")
    return report


def restrict_vocabulary(model: Any, origins: list[int]) -> Any:
    """Restrict a ``Gemma3ForCausalLM`` to a part of its vocabulary, in place.

    Args:
        model: the model.
        origins: for each new id the original id.
    """
    rows = model.model.embed_tokens.weight[torch.tensor(origins)].clone()
    model.model.embed_tokens.weight = model.lm_head.weight = torch.nn.Parameter(rows, requires_grad=False)
    model.config.vocab_size = model.vocab_size = model.lm_head.out_features = len(origins)
    model.model.embed_tokens.num_embeddings = len(origins)
    return model


def _rows(tokenizer: Any, texts: list[str]) -> Tensor:
    """Return concatenated random texts, [n, length] int64; every row starts with the begin token."""
    drawn = random.Random(0).sample(texts, len(texts))  # noqa: S311 - not for secrets
    ids: list[int] = []
    needed = (_MEASURED + _CHECKED) * (_ROW - 1)
    for text in drawn:
        ids += [*tokenizer(text, add_special_tokens=False)["input_ids"], _GAP]
        if len(ids) >= needed:
            break
    else:
        raise EngineError(f"The pages have {len(ids):,} tokens of text; {needed:,} are needed. Give more pages.")
    body = torch.tensor(ids[:needed]).view(-1, _ROW - 1)
    return torch.cat([torch.full((len(body), 1), _BEGIN), body], dim=1)


def _card(report: ConversionReport) -> str:
    found = report.agreement
    return f"""---
license: gemma
pipeline_tag: text-generation
---

# Gemma 3 270M as a block-diffusion model, before training

This is {MODEL}, unpacked from its four bits and put into the architecture of DiffusionGemma. It is where training
begins. Its causal encoder predicts the next token as Gemma does: over {found.tokens:,} tokens, the divergence is
{found.divergence:.4f} nats, the likeliest token is the same {found.same:.1%} of the time, and the perplexity is
{found.converted:.1f} instead of {found.original:.1f}. Its decoder has never seen noise: what it writes is gibberish
until it has been trained.

* {report.parameters / 1e6:.1f} million parameters, of which {report.embeddings / 1e6:.1f} million are embeddings.
* {report.vocabulary:,} of Gemma's 262,144 tokens. Texts of these alone become the same tokens as before; others become
  smaller ones. Control tokens and chat format are those of Gemma 4.
* Heads of sliding layers are {"wider, and exact" if report.wide else "as wide as Gemma's"}.

## Terms

Gemma is provided under and subject to the {LICENCE.replace(", ", " found at ")}. This model is a derivative of it: the
weights were unpacked, rearranged and in part replaced, as described above. Whoever passes it on passes on these terms.
"""
