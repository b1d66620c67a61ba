"""Small checkpoints and a real config for the tests of the diffusion engine."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tests.benchmarks.engine.random_weights import FULL_SIZE as TEXT_ONLY

from unwritten_engine.diffusion import families
from unwritten_engine.diffusion.diffusion_gemma.checkpoint import DiffusionGemmaCheckpoint

FULL_SIZE: dict[str, Any] = {
    **TEXT_ONLY,
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 72,
    },
}
"""The sizes of google/diffusiongemma-26B-A4B-it, with its vision tower."""


def inspect_checkpoint(folder: Path) -> DiffusionGemmaCheckpoint:
    """Inspect a checkpoint of DiffusionGemma."""
    _, found = families.inspect_checkpoint(folder)
    assert isinstance(found, DiffusionGemmaCheckpoint)
    return found


def quiet(_share: float, _doing: str) -> None:
    """Ignore progress."""


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a config.json. ``None`` removes a key."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")


def rewrite_head(file: Path, head: dict[str, Any]) -> None:
    """Replace the header of a safetensors file. The tensors stay the same."""
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    text = json.dumps(head).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def read_head(file: Path) -> dict[str, Any]:
    """Return the header of a safetensors file."""
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    found: dict[str, Any] = json.loads(data[8 : 8 + length])
    return found
