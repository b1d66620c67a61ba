"""A run in one small file, for machines that keep nothing and take little in.

The file is a tar archive. Tokens are compressed (prompts repeat themselves), and weights are rounded to bfloat16 and
packed in about 12 bits: their upper bytes, with the sign and most of the exponent, take four bits under Huffman
coding; the lower ones cannot be packed. With the small state of the optimizer (``states.py``) a model of 30 million
weights and the pages for it fit into 64 MiB. A run that is carried goes on nearly, not exactly, as it would have.
"""

from __future__ import annotations

import io
import lzma
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import EngineError, ModelBroken, ModelNotFound
from .runs import TrainingRun

DEFAULT_LIMIT: Final = 64 * 2**20
"""Bytes of the file, unless something else is said."""
_WEIGHTS: Final = "model.safetensors"
_SHAPE: Final = ".shape"
_COMPRESSED: Final = ("corpus.npz", "held_out.npz", "samples.jsonl", "log.jsonl")


def pack_run(run: TrainingRun, path: Path, *, limit: int = DEFAULT_LIMIT) -> int:
    """Put a run into a file.

    Args:
        run: one that has been trained a little, or just prepared.
        path: the file.
        limit: bytes that it may have.

    Returns:
        Its bytes.

    Raises:
        EngineError: it would be larger; nothing is written then.
    """
    run.check()
    source = run.checkpoint if run.checkpoint.exists() else run.start
    beside = path.with_name(f"{path.name}.part")
    try:
        with tarfile.open(beside, "w") as archive:
            for file in sorted(source.iterdir()):
                if file.name == _WEIGHTS:
                    with tempfile.TemporaryDirectory() as folder:
                        packed = Path(folder) / _WEIGHTS
                        pack_weights(file, packed)
                        archive.add(packed, f"start/{_WEIGHTS}.packed")
                else:
                    archive.add(file, f"start/{file.name}")
            archive.add(run.folder / "recipe.json", "recipe.json")
            if run.compact_state.exists():
                archive.add(run.compact_state, run.compact_state.name)
            for name in _COMPRESSED:
                if (run.folder / name).exists():
                    _add(archive, f"{name}.xz", lzma.compress((run.folder / name).read_bytes()))
        size = beside.stat().st_size
        if size > limit:
            raise EngineError(
                f"{run.folder} would take {size / 2**20:.1f} MiB, and may take {limit / 2**20:g}. Prepare a run with a "
                f"smaller model or fewer pages."
            )
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return size


def unpack_run(path: Path, folder: Path) -> TrainingRun:
    """Make a run's folder of a file.

    Raises:
        ModelNotFound, ModelBroken: there is no such file, or it is none of ours.
        EngineError: the folder is there already.
    """
    if folder.exists():
        raise EngineError(f"{folder} is there already. Take another folder, or go on with it: train {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        with tarfile.open(path) as archive:
            archive.extractall(beside, filter="data")
        for packed in beside.glob("*.xz"):
            packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
            packed.unlink()
        packed = beside / "start" / f"{_WEIGHTS}.packed"
        unpack_weights(packed, beside / "start" / _WEIGHTS)
        packed.unlink()
        TrainingRun(beside).check()
        beside.replace(folder)
    except FileNotFoundError:
        raise ModelNotFound(f"{path} is not there. Give a file that `pack` has written.") from None
    except (tarfile.TarError, lzma.LZMAError, SafetensorError, zlib.error, OSError, ValueError) as error:
        raise ModelBroken(f"{path} is no packed run ({error}). Pack it again.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return TrainingRun(folder)


def pack_weights(source: Path, target: Path) -> None:
    """Pack the tensors of a file."""
    packed: dict[str, Tensor] = {}
    for name, tensor in load_file(source).items():
        packed[name] = torch.from_numpy(_packed(tensor))
        packed[f"{name}{_SHAPE}"] = torch.tensor(tensor.shape, dtype=torch.int64)
    save_file(packed, target)


def unpack_weights(source: Path, target: Path) -> None:
    """The tensors of a packed file, in float32."""
    tensors = load_file(source)
    whole = {
        name: _unpacked(tensors[name].numpy(), torch.Size(tensors[f"{name}{_SHAPE}"].tolist())).float()
        for name in tensors
        if not name.endswith(_SHAPE)
    }
    save_file(whole, target, metadata={"format": "pt"})


def _packed(weight: Tensor) -> np.ndarray:
    """The bytes of a tensor in bfloat16: lower ones, then the upper ones under Huffman coding."""
    halves = weight.to(torch.bfloat16).contiguous().flatten().view(torch.uint8).numpy().reshape(-1, 2)
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    upper = coder.compress(halves[:, 1].tobytes()) + coder.flush()
    return np.concatenate([halves[:, 0], np.frombuffer(upper, np.uint8)])


def _unpacked(data: np.ndarray, shape: torch.Size) -> Tensor:
    count = shape.numel()
    upper = np.frombuffer(zlib.decompress(data[count:].tobytes(), -15), np.uint8)
    halves = np.stack([data[:count], upper], axis=1).reshape(-1)
    return torch.from_numpy(halves).view(torch.bfloat16).reshape(shape)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
