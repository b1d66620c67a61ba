"""Runs: folders in which a model is trained, prepared once and gone on with as often as one likes.

A run's folder holds ``start/`` (a checkpoint: the first weights and the tokenizer), ``recipe.json``, ``corpus.npz`` and
``held_out.npz`` (tokens), ``samples.jsonl`` (a few held-out pages, written again and again to be read), ``log.jsonl``
(what came), ``state.safetensors`` and the one before it, and ``checkpoint/``, the model so far, which the diffusion
engine opens like any other.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ..diffusion.loading.checkpoint import inspect_checkpoint
from ..diffusion.loading.loader import LoadedModel, load_model, load_tokenizer
from ..errors import EngineError, ModelNotFound
from ..threads import choose_num_threads
from .config import TrainingConfig
from .dataset import TrainingPage, read_pages, write_pages
from .packing import Corpus, make_corpus

NUM_PREVIEWS: Final = 8
"""Held-out pages that are written again and again."""
MAX_EVAL_PAGES: Final = 512
"""Held-out pages whose loss is looked at, at most."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A folder in which a model is trained."""

    folder: Path

    @property
    def start(self) -> Path:
        """The checkpoint that it begins with: its own copy, or the one that small matrices are trained for."""
        own, named = self.folder / "start", self.folder / "start.txt"
        return own if own.exists() or not named.exists() else Path(named.read_text(encoding="utf-8").strip())

    @property
    def checkpoint(self) -> Path:
        """The model so far."""
        return self.folder / "checkpoint"

    @property
    def state(self) -> Path:
        """Everything that is needed to go on."""
        return self.folder / "state.safetensors"

    @property
    def compact_state(self) -> Path:
        """What is carried of it (``carry.py``); all that there is of a run that was carried here."""
        return self.folder / "state.small.safetensors"

    @property
    def log(self) -> Path:
        """What came, one JSON object per line."""
        return self.folder / "log.jsonl"

    def config(self) -> TrainingConfig:
        """How it is trained."""
        return TrainingConfig.load(self.folder / "recipe.json")

    def corpus(self) -> Corpus:
        """What it is trained on."""
        return Corpus.load(self.folder / "corpus.npz")

    def held_out(self) -> Corpus | None:
        """What it is judged by; None if nothing was held out."""
        path = self.folder / "held_out.npz"
        return Corpus.load(path) if path.exists() else None

    def preview_pages(self) -> list[TrainingPage]:
        """Pages that are written to be read."""
        path = self.folder / "samples.jsonl"
        return list(read_pages(path)) if path.exists() else []

    def load(self, device: str | None) -> LoadedModel:
        """The model that it begins with: in float32, or as the engine has it where its own weights do not learn."""
        return load_trainable(self.start, device, None if self.config().lora_rank else "float32")

    def check(self) -> None:
        """Whether this is a run.

        Raises:
            ModelNotFound: it is not.
        """
        missing = [name for name in ("recipe.json", "corpus.npz") if not (self.folder / name).exists()]
        if not self.start.exists():
            missing.append(str(self.start))
        if missing:
            raise ModelNotFound(
                f"{self.folder} is no prepared run: {', '.join(missing)} is missing. Prepare one first: "
                f"python -m unwritten_engine.training prepare {self.folder} --pages FILE"
            )


def load_trainable(checkpoint: Path, device: str | None, dtype: str | None = "float32") -> LoadedModel:
    """A checkpoint with whole weights."""
    return load_model(
        str(checkpoint),
        device=device,
        quantize="none",
        dtype=dtype,
        budget_bytes=None,
        progress=lambda share, doing: None,
    )


def set_num_threads(threads: int | None) -> None:
    """Let torch compute with so many threads; None takes one for each core."""
    torch.set_num_threads(threads or choose_num_threads()[0])


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """How a checkpoint reads and writes.

    Attributes:
        tokenizer: with a chat template.
        ends: ids of its end tokens.
        pad: id of its padding token.
    """

    tokenizer: Any
    end_ids: frozenset[int]
    pad_id: int


def read_tokenizer(checkpoint: Path) -> TokenizerInfo:
    """The tokenizer of a checkpoint, without its weights."""
    found = inspect_checkpoint(checkpoint)
    return TokenizerInfo(load_tokenizer(found), found.end_ids, found.pad_id)


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What was prepared.

    Attributes:
        documents: to train on.
        tokens: of their texts.
        held_out: documents to judge by.
        left_out: pages with a prompt that is too long.
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
    progress: Callable[[int, int], None] = lambda done, whole: None,
) -> PreparedRun:
    """Make a run.

    Args:
        folder: where; it must not be there yet.
        pages: to train on; those with held-out titles are set aside to judge by.
        start: a checkpoint folder with a tokenizer.
        recipe: how.
        told: called with how many pages to train on are tokens already, of how many.

    Raises:
        EngineError: the folder is there already, or no page is left.
    """
    if folder.exists():
        raise EngineError(f"{folder} is there already. Take another folder, or go on with it: train {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        if config.lora_rank:  # it may be large, and stays as it is
            (beside / "start.txt").write_text(f"{start.resolve()}\n", encoding="utf-8")
        else:
            shutil.copytree(start, beside / "start")
        tokens = read_tokenizer(start)
        given: dict[bool, list[TrainingPage]] = {False: [], True: []}
        for page in pages:
            given[page.held_out].append(page)
        wanted: dict[str, Any] = {"ends": tokens.end_ids, "pad": tokens.pad_id, "longest_prompt": config.tokens}
        whole = len(given[False])
        corpus, left_out = make_corpus(
            given[False], tokens.tokenizer, progress=lambda done: progress(done, whole), **wanted
        )
        corpus.save(beside / "corpus.npz")
        held = given[True]
        spread = held[:: max(1, len(held) // MAX_EVAL_PAGES)][:MAX_EVAL_PAGES]
        if spread:
            make_corpus(spread, tokens.tokenizer, **wanted)[0].save(beside / "held_out.npz")
        shown = (
            spread[:: max(1, len(spread) // NUM_PREVIEWS)] or given[False][:: max(1, len(given[False]) // NUM_PREVIEWS)]
        )
        write_pages(beside / "samples.jsonl", itertools.islice(shown, NUM_PREVIEWS))
        config.save(beside / "recipe.json")
        beside.replace(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return PreparedRun(len(corpus), corpus.num_text_tokens, len(spread), left_out)


def log_entry(run: TrainingRun, **what: Any) -> None:
    """Add a line to the log."""
    with run.log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(what, ensure_ascii=False) + "\n")
