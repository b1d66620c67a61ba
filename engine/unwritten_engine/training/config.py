"""How a model is trained: all that decides the outcome of a run besides its data and its first weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from ..errors import BadOption, ModelBroken, UnknownOption


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: in all.
        rows: in a batch.
        tokens: that the encoder reads in a row, at most.
        canvases: in a row.
        copies: of each canvas, every one with noise of its own.
        rate: the learning rate after warming up.
        warmup: steps in which it rises.
        cooldown: the share of the steps, at the end, in which it falls to nothing.
        decay: of matrices, per step and unit of rate (AdamW).
        clip: the longest gradient.
        conditioned: the share of canvases with self-conditioning.
        end: what the end token counts.
        pad: what a place after it counts.
        balance: what the uneven use of experts counts.
        rank: of small matrices that learn in place of the model's own weights (``adapters.py``); 0 lets those learn.
        seed: of the order of documents and of all noise.
        dtype: of the products: "float32", "bfloat16", or "auto", the latter on a GPU. Weights are kept in float32.
    """

    steps: int = 20_000
    rows: int = 32
    tokens: int = 768
    canvases: int = 8
    copies: int = 2
    learning_rate: float = 1e-3
    warmup_steps: int = 500
    cooldown_share: float = 0.3
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    self_conditioned_share: float = 0.5
    end_weight: float = 0.5
    pad_weight: float = 0.05
    balance_weight: float = 0.01
    lora_rank: int = 0
    seed: int = 0
    dtype: str = "auto"

    def __post_init__(self) -> None:
        bounds = {
            "steps": (1, 10**9), "rows": (1, 4096), "tokens": (16, 10**6), "canvases": (1, 4096), "copies": (1, 64),
            "rate": (0, 1), "warmup": (0, 10**6), "cooldown": (0, 1), "decay": (0, 10), "clip": (1e-6, 1e6),
            "conditioned": (0, 1), "end": (0, 10), "pad": (0, 10), "balance": (0, 10),
            "rank": (0, 1024), "seed": (0, 2**32 - 1),
        }  # fmt: skip
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise BadOption(f"{name} is {getattr(self, name):g}; give a number from {least:g} to {most:g}.")
        if self.copies > self.canvases:
            raise BadOption(f"A row has {self.canvases} canvases, and {self.copies} copies of each were asked for.")
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise BadOption(f"dtype is {self.dtype!r}; give 'auto', 'float32' or 'bfloat16'.")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0: it rises, stays, and falls to nothing.

        It stays where a cosine would fall, so that a run can be judged at any time, and be made longer before it
        cools down.
        """
        cooling = max(1, round(self.steps * self.cooldown_share))
        rising = min(1.0, (step + 1) / max(1, self.warmup_steps))
        falling = min(1.0, (self.steps - step) / cooling) if self.cooldown_share else 1.0
        return self.learning_rate * max(0.0, min(rising, falling))

    def save(self, path: Path) -> None:
        """Write it to a file."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> TrainingConfig:
        """Read it from a file.

        Raises:
            ModelBroken: the file cannot be read.
            UnknownOption, BadOption: something in it makes no sense.
        """
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelBroken(f"{path} is no recipe ({error}). Prepare the run again.") from None
        return replace_values(TrainingConfig(), given)


def replace_values(recipe: TrainingConfig, given: Mapping[str, Any]) -> TrainingConfig:
    """A recipe with some of its values replaced; texts are read as numbers.

    Raises:
        UnknownOption, BadOption: a name or a value that there is not.
    """
    kinds = {field.name: type(getattr(TrainingConfig(), field.name)) for field in fields(TrainingConfig)}
    values = asdict(recipe)
    for name, value in given.items():
        if name not in kinds:
            raise UnknownOption(name, kinds, "A recipe")
        try:
            values[name] = kinds[name](value)
        except (TypeError, ValueError):
            raise BadOption(f"{name} is {value!r}; give a {kinds[name].__name__}.") from None
    return TrainingConfig(**values)


TUNING: Final = TrainingConfig(
    steps=500,
    rows=2,
    tokens=1536,
    canvases=4,
    copies=2,
    learning_rate=2e-4,
    warmup_steps=20,
    weight_decay=0.0,
    balance_weight=0.0,
    lora_rank=16,
)
"""For small matrices beside a large checkpoint, on some dozens or hundreds of pages."""


def make_config(given: Sequence[str], base: TrainingConfig | None = None) -> TrainingConfig:
    """A recipe from texts such as ``steps=1000``.

    Raises:
        UnknownOption, BadOption: a name or a value that there is not.
    """
    values = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign:
            raise BadOption(f"{pair!r} is no part of a recipe: give NAME=VALUE, such as steps=1000.")
        values[name] = value
    return replace_values(base or TrainingConfig(), values)
