"""Writes a model and its tokenizer as a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...diffusion.loading.small import without_bars
from ...errors import EngineError


def write_folder(folder: Path, model: Any, tokenizer: Any, card: str = "") -> Path:
    """Write a checkpoint as the engine loads it.

    Args:
        folder: where; made if it is not there.
        model: a ``DiffusionGemmaForBlockDiffusion``.
        tokenizer: its tokenizer.
        card: what its README.md says; none is written if "".

    Returns:
        The folder.

    Raises:
        EngineError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with without_bars():
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise EngineError(
            f"{folder} cannot be written ({error.strerror}). Give another folder, or make room."
        ) from None
    return folder
