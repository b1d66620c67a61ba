"""The configuration of a training run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from ..errors import BadOption, ModelBroken, UnknownOption


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Hyperparameters of a training run.

    Attributes:
        steps: total number of steps.
        rows: rows per batch.
        tokens: maximum encoder tokens per row.
        canvases: canvases per row.
        copies: copies of each canvas, each with its own noise.
        learning_rate: learning rate after the warmup.
        warmup_steps: steps of linear warmup.
        cooldown_share: share of the steps, at the end, in which the learning rate falls to zero.
        weight_decay: weight decay of matrices (AdamW).
        max_grad_norm: gradient clipping.
        self_conditioned_share: share of canvases with self-conditioning.
        end_weight: loss weight of the end token.
        pad_weight: loss weight of padding.
        balance_weight: weight of the expert balance loss.
        lora_rank: LoRA rank; 0 trains the model's own weights.
        seed: of the order of documents and all noise.
        dtype: of the activations: "float32", "bfloat16", or "auto" for bfloat16 on a GPU. Weights are float32.
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
            "learning_rate": (0, 1), "warmup_steps": (0, 10**6), "cooldown_share": (0, 1), "weight_decay": (0, 10),
            "max_grad_norm": (1e-6, 1e6), "self_conditioned_share": (0, 1), "end_weight": (0, 10),
            "pad_weight": (0, 10), "balance_weight": (0, 10), "lora_rank": (0, 1024), "seed": (0, 2**32 - 1),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise BadOption(f"{name} is {getattr(self, name):g}; give a number from {low:g} to {high:g}.")
        if self.copies > self.canvases:
            raise BadOption(f"A row has {self.canvases} canvases, too few for {self.copies} copies of a canvas.")
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise BadOption(f"dtype is {self.dtype!r}; give 'auto', 'float32' or 'bfloat16'.")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step (from 0): warmup, constant, linear cooldown.

        It is constant instead of a cosine, so that a run can be evaluated at any time and extended before the cooldown.
        """
        cooldown_steps = max(1, round(self.steps * self.cooldown_share))
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cooldown = min(1.0, (self.steps - step) / cooldown_steps) if self.cooldown_share else 1.0
        return self.learning_rate * max(0.0, min(warmup, cooldown))

    def save(self, path: Path) -> None:
        """Write the configuration to a file."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> TrainingConfig:
        """Read a configuration.

        Raises:
            ModelBroken: the file cannot be read.
            UnknownOption, BadOption: an unknown name, or an invalid value.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelBroken(f"{path} is not a training configuration ({error}). Prepare the run again.") from None
        return replace_values(TrainingConfig(), values)


def replace_values(config: TrainingConfig, changes: Mapping[str, Any]) -> TrainingConfig:
    """Return a configuration with replaced values; strings are converted.

    Raises:
        UnknownOption, BadOption: an unknown name, or an invalid value.
    """
    kinds = {field.name: type(getattr(TrainingConfig(), field.name)) for field in fields(TrainingConfig)}
    values = asdict(config)
    for name, value in changes.items():
        if name not in kinds:
            raise UnknownOption(name, kinds, "The training configuration")
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
"""Defaults for LoRA on a large checkpoint with dozens or hundreds of pages."""


def make_config(assignments: Sequence[str], base: TrainingConfig | None = None) -> TrainingConfig:
    """Return a configuration from strings such as ``steps=1000``.

    Raises:
        UnknownOption, BadOption: an unknown name, or an invalid value.
    """
    values = {}
    for pair in assignments:
        name, sign, value = pair.partition("=")
        if not sign:
            raise BadOption(f"{pair!r} is not a setting: give NAME=VALUE, such as steps=1000.")
        values[name] = value
    return replace_values(base or TrainingConfig(), values)
