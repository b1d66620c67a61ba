"""Training states: a full state that resumes a run exactly, and a compact state that is easy to move.

The full state has the weights and both moments of the optimizer in float32, 12 bytes per weight. A run that is resumed
from it continues bit for bit on the same machine.

The compact state has no weights (``run_archive.py`` packs those) and little of the moments: row and column means of the
second moment of a matrix, as in Adafactor (arXiv 1804.04235), and nothing of the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..diffusion.diffusion_gemma.random_model import no_progress_bars
from ..errors import EngineError, ModelBroken

FORMAT: Final = "1"
_FIRST, _SECOND, _COUNT = "exp_avg", "exp_avg_sq", "step"
_ROWS, _COLUMNS = ".rows", ".columns"


def trainable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that are trained, by name; shared ones once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def save_state(
    path: Path, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, notes: Mapping[str, Any]
) -> None:
    """Write a full state atomically."""
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        tensors[name] = weight.detach()
        for moment, value in optimizer.state.get(weight, {}).items():
            tensors[f"{moment} {name}"] = value
    _write(path, tensors, notes)


def load_state(path: Path, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Read a full state into weights and optimizer. Return the notes.

    Raises:
        ModelBroken: the file is not a state, or belongs to another model.
    """
    tensors, notes = _read(path)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(_get(tensors, name, weight.shape, path))
            if f"{_COUNT} {name}" in tensors:
                first = _get(tensors, f"{_FIRST} {name}", weight.shape, path)
                second = _get(tensors, f"{_SECOND} {name}", weight.shape, path)
                _set_optimizer_state(optimizer, weight, tensors[f"{_COUNT} {name}"], first, second)
    return notes


def save_compact_state(
    path: Path, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, notes: Mapping[str, Any]
) -> None:
    """Write a compact state."""
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        state = optimizer.state.get(weight)
        if not state:
            continue
        tensors[f"{_COUNT} {name}"] = state[_COUNT].reshape(1)
        second = state[_SECOND].float().cpu()
        if second.ndim < 2:
            tensors[f"{_SECOND} {name}"] = second
        else:
            tensors[f"{_SECOND} {name}{_ROWS}"] = second.mean(-1)
            tensors[f"{_SECOND} {name}{_COLUMNS}"] = second.mean(-2)
    _write(path, tensors, notes)


def load_compact_state(
    path: Path, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Read a compact state into the optimizer. Return the notes.

    Raises:
        ModelBroken: the file is not a state, or belongs to another model.
    """
    tensors, notes = _read(path)
    for name, weight in weights.items():
        if f"{_COUNT} {name}" not in tensors:
            continue
        if weight.ndim < 2:
            second = _get(tensors, f"{_SECOND} {name}", weight.shape, path)
        else:
            rows = _get(tensors, f"{_SECOND} {name}{_ROWS}", weight.shape[:-1], path)
            columns = _get(tensors, f"{_SECOND} {name}{_COLUMNS}", weight.shape[:-2] + weight.shape[-1:], path)
            mean = rows.mean(-1, keepdim=True)[..., None].clamp(min=1e-30)
            second = rows[..., :, None] * columns[..., None, :] / mean
        _set_optimizer_state(
            optimizer, weight, tensors[f"{_COUNT} {name}"].reshape(()), torch.zeros_like(weight), second
        )
    return notes


def _set_optimizer_state(
    optimizer: torch.optim.Optimizer, weight: nn.Parameter, count: Tensor, first: Tensor, second: Tensor
) -> None:
    """Set the state of one weight. A fused optimizer needs the count on the device, others on the CPU."""
    device = weight.device if optimizer.defaults.get("fused") else torch.device("cpu")
    optimizer.state[weight] = {
        _COUNT: count.to(device).clone(),
        _FIRST: first.to(weight.device, weight.dtype).clone(),
        _SECOND: second.to(weight.device, weight.dtype).clone(),
    }


def _write(path: Path, tensors: dict[str, Tensor], notes: Mapping[str, Any]) -> None:
    apart = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = path.with_name(f"{path.name}.part")
    save_file(apart, temporary, metadata={"format": FORMAT, "notes": json.dumps(notes)})
    temporary.replace(path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names: list[str] = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelBroken(f"{path} is not a training state ({error}). Use the previous one, or start again.") from None
    if metadata.get("format") != FORMAT:
        raise ModelBroken(f"{path} was written by another version. Resume with that one, or start again.")
    notes: dict[str, Any] = json.loads(metadata["notes"])
    return tensors, notes


def _get(tensors: Mapping[str, Tensor], name: str, shape: torch.Size, path: Path) -> Tensor:
    if name not in tensors or tensors[name].shape != shape:
        raise ModelBroken(f"{path} belongs to another model: its {name} does not match. Prepare the run again.")
    return tensors[name]


def write_checkpoint_folder(folder: Path, model: Any, tokenizer: Any, card: str = "") -> Path:
    """Write a checkpoint folder that the engine can load.

    Args:
        folder: target folder, created if needed.
        model: a ``DiffusionGemmaForBlockDiffusion``.
        tokenizer: its tokenizer.
        card: text of the README.md; "" for none.

    Returns:
        The folder.

    Raises:
        EngineError: the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with no_progress_bars():
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise EngineError(
            f"Cannot write {folder} ({error.strerror}). Choose another folder, or free some space."
        ) from None
    return folder
