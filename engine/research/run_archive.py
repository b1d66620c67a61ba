"""Pack a run into one small file, to move it between machines with limited storage and transfer.

The file is a tar archive. Tokens are compressed. Weights are rounded to bfloat16 and packed into about 12 bits: the
upper bytes, with sign and most of the exponent, take four bits with Huffman coding; the lower bytes are stored. With
the compact optimizer state (``checkpoints.py``), a model of 30 million weights and its pages fit into 64 MiB. An
unpacked run continues approximately, not exactly, like the original.

    python -m research.run_archive pack run run.pack
    python -m research.run_archive train run.pack --minutes 8      # options as for the training command `train`
    python -m research.run_archive unpack run.pack run
"""

from __future__ import annotations

import argparse
import io
import lzma
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unwritten_engine.errors import EngineError, ModelBroken, ModelNotFound
from unwritten_engine.training.cli import main as training_main
from unwritten_engine.training.runs import TrainingRun

DEFAULT_LIMIT: Final = 64 * 2**20
"""Default size limit of the file in bytes."""
_WEIGHTS: Final = "model.safetensors"
_SHAPE: Final = ".shape"
_COMPRESSED: Final = ("corpus.npz", "held_out.npz", "samples.jsonl", "log.jsonl")


def pack_run(run: TrainingRun, path: Path, *, limit: int = DEFAULT_LIMIT) -> int:
    """Pack a run into a file.

    Args:
        run: a prepared run.
        path: the file.
        limit: maximum size in bytes.

    Returns:
        The size in bytes.

    Raises:
        EngineError: the file would be larger; nothing is written then.
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
            archive.add(run.config_file, run.config_file.name)
            if run.compact_state.exists():
                archive.add(run.compact_state, run.compact_state.name)
            for name in _COMPRESSED:
                if (run.folder / name).exists():
                    _add(archive, f"{name}.xz", lzma.compress((run.folder / name).read_bytes()))
        size = beside.stat().st_size
        if size > limit:
            raise EngineError(
                f"{run.folder} needs {size / 2**20:.1f} MiB, and the limit is {limit / 2**20:g}. Prepare a run with a "
                f"smaller model or fewer pages."
            )
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return size


def unpack_run(path: Path, folder: Path) -> TrainingRun:
    """Unpack a file into a run's folder.

    Raises:
        ModelNotFound, ModelBroken: the file does not exist, or is not a packed run.
        EngineError: the folder exists.
    """
    if folder.exists():
        raise EngineError(f"{folder} exists. Choose another folder, or resume the run: train {folder}")
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
        raise ModelNotFound(f"{path} does not exist. Give a file that was written by `pack`.") from None
    except (tarfile.TarError, lzma.LZMAError, SafetensorError, zlib.error, OSError, ValueError) as error:
        raise ModelBroken(f"{path} is not a packed run ({error}). Pack it again.") from None
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
    """Unpack the tensors of a file, to float32."""
    tensors = load_file(source)
    whole = {
        name: _unpacked(tensors[name].numpy(), torch.Size(tensors[f"{name}{_SHAPE}"].tolist())).float()
        for name in tensors
        if not name.endswith(_SHAPE)
    }
    save_file(whole, target, metadata={"format": "pt"})


def _packed(weight: Tensor) -> np.ndarray:
    """Return a tensor's bfloat16 bytes: the lower ones, then the upper ones with Huffman coding."""
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Return the exit status: 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m research.run_archive", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    pack = commands.add_parser("pack", help="pack a run into a file", allow_abbrev=False)
    pack.add_argument("run", type=Path)
    pack.add_argument("file", type=Path)
    unpack = commands.add_parser("unpack", help="unpack a packed run", allow_abbrev=False)
    unpack.add_argument("file", type=Path)
    unpack.add_argument("run", type=Path)
    train = commands.add_parser("train", help="train a packed run and pack it again", allow_abbrev=False)
    train.add_argument("file", type=Path)
    train.add_argument("--out", type=Path, help="output file; default: the input file")
    for command in (pack, train):
        command.add_argument("--limit", type=float, default=64, metavar="MIB", help="maximum size (64)")
    given, options = parser.parse_known_args(arguments)
    if options and given.command != "train":
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    try:
        if given.command == "unpack":
            print(f"Unpacked {unpack_run(given.file, given.run).folder}.")
            return 0
        if given.command == "pack":
            _pack(TrainingRun(given.run), given.file, given.limit)
            return 0
        with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
            run = unpack_run(given.file, Path(folder) / "run")
            try:
                return training_main(["train", str(run.folder), *options])
            finally:
                _pack(run, given.out or given.file, given.limit)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1


def _pack(run: TrainingRun, path: Path, limit: float) -> None:
    print(f"{path}: {pack_run(run, path, limit=int(limit * 2**20)) / 2**20:.1f} MiB.")


if __name__ == "__main__":
    sys.exit(main())
