"""Small pages, models and runs for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unwritten_engine import Prompt
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.training.config import TrainingConfig
from unwritten_engine.training.dataset import TrainingPage
from unwritten_engine.training.runs import TrainingRun, prepare

WORDS = "the river and city water under light bridge old stone tower night morning green quiet forest".split()
SIZES: dict[str, Any] = {
    "vocabulary": 1400, "hidden": 32, "layers": 3, "experts": 4, "top_k": 2, "canvas": 16, "window": 24,
    "spread": 0.3, "branch": 0.3,
}  # fmt: skip
RECIPE = TrainingConfig(steps=12, rows=2, tokens=96, canvases=6, copies=2, learning_rate=3e-3, warmup_steps=3)


def pages(count: int, words: int = 8) -> list[TrainingPage]:
    """Return different pages that are not held out."""
    found: list[TrainingPage] = []
    number = 0
    while len(found) < count:
        text = " ".join(WORDS[(number * 7 + at * (number % 5 + 1)) % len(WORDS)] for at in range(words))
        page = TrainingPage(Prompt(f"Page {number}."), text, title=f"Page {number}")
        if not page.held_out:
            found.append(page)
        number += 1
    return found


def held_out(count: int) -> list[TrainingPage]:
    """Return pages that are held out."""
    many = (TrainingPage(Prompt(f"Other {n}."), "quiet water under the bridge", f"Other {n}") for n in range(10_000))
    found = [page for page in many if page.held_out]
    return found[:count]


def run(
    home: Path, recipe: TrainingConfig = RECIPE, given: list[TrainingPage] | None = None, **sizes: Any
) -> TrainingRun:
    """Prepare a training run of a tiny model."""
    start = write_checkpoint(home / "start", **{**SIZES, **sizes})
    prepare(home / "run", given or [*pages(10), *held_out(3)], start, recipe)
    return TrainingRun(home / "run")
