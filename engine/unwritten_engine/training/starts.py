"""Where training begins: fresh weights of a named size, with a tokenizer for the pages, or a checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelNotFound
from .conversion.scratch import SIZES, write_scratch
from .conversion.tokenizer import train_tokenizer
from .pages import TrainingPage


@contextmanager
def create_initial_model(
    name: str, pages: Callable[[], Iterable[TrainingPage]], vocabulary: int, *, seed: int = 0
) -> Iterator[Path]:
    """A checkpoint folder to begin with; a fresh one is gone afterwards.

    Args:
        name: a size (``conversion.scratch.SIZES``), or a checkpoint folder.
        pages: what a new tokenizer is for.
        vocabulary: its tokens.
        seed: of fresh weights.

    Raises:
        ModelNotFound: it is neither.
        EngineError: there are too few pages for such a tokenizer.
    """
    if name not in SIZES:
        if not (Path(name) / "config.json").is_file():
            raise ModelNotFound(
                f"{name!r} is neither a size ({', '.join(SIZES)}) nor a checkpoint folder with a config.json."
            )
        yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        yield write_scratch(Path(folder) / "start", name, train_tokenizer(pages(), vocabulary), seed=seed)
