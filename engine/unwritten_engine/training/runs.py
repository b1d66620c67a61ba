"""Training runs: folders that are prepared once and trained in any number of sessions.

A run's folder has ``start/`` (initial checkpoint and tokenizer), ``training.json`` (configuration), ``corpus.npz`` and
``held_out.npz`` (tokens), ``samples.jsonl`` (held-out pages that are generated as previews), ``log.jsonl`` (results),
``state.safetensors`` with its predecessor, and ``checkpoint/``, the current model, which the diffusion engine can open.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ..diffusion.diffusion_gemma.family import DIFFUSION_GEMMA
from ..diffusion.families import inspect_checkpoint
from ..diffusion.family import Family
from ..diffusion.loader import LoadedModel, load_model, load_tokenizer
from ..errors import EngineError, ModelNotFound, ModelUnsupported
from ..threads import choose_num_threads
from .config import TrainingConfig
from .dataset import TrainingPage, read_pages, write_pages
from .packing import Corpus, make_corpus

NUM_PREVIEWS: Final = 8
"""Held-out pages that are generated as previews."""
MAX_EVAL_PAGES: Final = 512
"""Maximum number of held-out pages for the evaluation."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A training run's folder."""

    folder: Path

    @property
    def start(self) -> Path:
        """The initial checkpoint: the run's own copy, or for LoRA the original folder."""
        own, named = self.folder / "start", self.folder / "start.txt"
        return own if own.exists() or not named.exists() else Path(named.read_text(encoding="utf-8").strip())

    @property
    def checkpoint(self) -> Path:
        """The current model."""
        return self.folder / "checkpoint"

    @property
    def state(self) -> Path:
        """The full training state."""
        return self.folder / "state.safetensors"

    @property
    def compact_state(self) -> Path:
        """The compact training state of a packed run (see ``run_archive.py``)."""
        return self.folder / "state.small.safetensors"

    @property
    def log(self) -> Path:
        """The results, one JSON object per line."""
        return self.folder / "log.jsonl"

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.folder / "training.json"

    def config(self) -> TrainingConfig:
        """Return the configuration."""
        return TrainingConfig.load(self.config_file)

    def corpus(self) -> Corpus:
        """Return the training pages."""
        return Corpus.load(self.folder / "corpus.npz")

    def held_out(self) -> Corpus | None:
        """Return the held-out pages, or None."""
        path = self.folder / "held_out.npz"
        return Corpus.load(path) if path.exists() else None

    def preview_pages(self) -> list[TrainingPage]:
        """Return the pages that are generated as previews."""
        path = self.folder / "samples.jsonl"
        return list(read_pages(path)) if path.exists() else []

    def load(self, device: str | None) -> LoadedModel:
        """Load the initial model: in float32, or in the engine's dtype for LoRA."""
        return load_trainable(self.start, device, None if self.config().lora_rank else "float32")

    def check(self) -> None:
        """Check that the folder is a prepared run.

        Raises:
            ModelNotFound: it is not.
        """
        missing = [name for name in (self.config_file.name, "corpus.npz") if not (self.folder / name).exists()]
        if not self.start.exists():
            missing.append(str(self.start))
        if missing:
            raise ModelNotFound(
                f"{self.folder} is not a prepared run: {', '.join(missing)} is missing. Prepare one first: "
                f"python -m unwritten_engine.training prepare {self.folder} --pages FILE"
            )


def load_trainable(checkpoint: Path, device: str | None, dtype: str | None = "float32") -> LoadedModel:
    """Load a checkpoint without quantization.

    Raises:
        ModelUnsupported: it is not a DiffusionGemma.
    """
    loaded = load_model(
        str(checkpoint),
        device=device,
        quantize="none",
        dtype=dtype,
        budget_bytes=None,
        progress=lambda share, step: None,
    )
    _check_family(loaded.family, loaded.name)
    return loaded


def set_num_threads(threads: int | None) -> None:
    """Set the number of threads of torch; None uses one per core."""
    torch.set_num_threads(threads or choose_num_threads()[0])


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """A checkpoint's tokenizer.

    Attributes:
        tokenizer: with a chat template.
        end_ids: ids of end tokens.
        pad_id: id of the padding token.
    """

    tokenizer: Any
    end_ids: frozenset[int]
    pad_id: int


def read_tokenizer(checkpoint: Path) -> TokenizerInfo:
    """Return the tokenizer of a checkpoint, without loading weights.

    Raises:
        ModelUnsupported: it is not a DiffusionGemma.
    """
    family, info = inspect_checkpoint(checkpoint)
    _check_family(family, info.name)
    return TokenizerInfo(load_tokenizer(info), info.end_ids, info.pad_id)


def _check_family(family: Family, name: str) -> None:
    if family is not DIFFUSION_GEMMA:
        raise ModelUnsupported(
            f"{name} is of the family {family.name}; the training supports {DIFFUSION_GEMMA.name} only."
        )


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """Statistics of a prepared run.

    Attributes:
        documents: training pages.
        tokens: tokens of their texts.
        held_out: pages for the evaluation.
        skipped: pages whose prompt is too long.
    """

    documents: int
    tokens: int
    held_out: int
    skipped: int


def prepare(
    folder: Path,
    pages: Iterable[TrainingPage],
    start: Path,
    config: TrainingConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PreparedRun:
    """Create a run.

    Args:
        folder: its folder, which must not exist.
        pages: training pages; those with held-out titles are used for the evaluation.
        start: a checkpoint folder with a tokenizer.
        config: the configuration.
        progress: called with the number of tokenized pages and their total.

    Raises:
        EngineError: the folder exists, or no page remains.
    """
    if folder.exists():
        raise EngineError(f"{folder} exists. Choose another folder, or resume the run: train {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        if config.lora_rank:  # the checkpoint may be large and is not changed
            (temporary / "start.txt").write_text(f"{start.resolve()}\n", encoding="utf-8")
        else:
            shutil.copytree(start, temporary / "start")
        tokens = read_tokenizer(start)
        training: list[TrainingPage] = []
        held_out: list[TrainingPage] = []
        for page in pages:
            (held_out if page.held_out else training).append(page)
        options: dict[str, Any] = {
            "end_ids": tokens.end_ids,
            "pad_id": tokens.pad_id,
            "max_prompt_tokens": config.tokens,
        }
        corpus, skipped = make_corpus(
            training, tokens.tokenizer, progress=lambda done: progress(done, len(training)), **options
        )
        corpus.save(temporary / "corpus.npz")
        evaluated = _spread(held_out, MAX_EVAL_PAGES)
        if evaluated:
            make_corpus(evaluated, tokens.tokenizer, **options)[0].save(temporary / "held_out.npz")
        write_pages(temporary / "samples.jsonl", _spread(evaluated or training, NUM_PREVIEWS))
        config.save(TrainingRun(temporary).config_file)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return PreparedRun(len(corpus), corpus.num_text_tokens, len(evaluated), skipped)


def _spread(pages: list[TrainingPage], count: int) -> list[TrainingPage]:
    """Return up to ``count`` pages, evenly spread over the list."""
    return pages[:: max(1, len(pages) // count)][:count]


def log_entry(run: TrainingRun, **values: Any) -> None:
    """Append an entry to the log."""
    with run.log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values, ensure_ascii=False) + "\n")
