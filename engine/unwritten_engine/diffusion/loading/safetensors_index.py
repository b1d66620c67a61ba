"""Read the headers of safetensors files: names, shapes and locations of tensors, and whether the files are complete.

The format: eight bytes with the length of the header (little-endian), the header (JSON with type, shape and offsets per
tensor), then the data. A checkpoint of several files has an index that maps tensors to files. Does not use torch.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from ...errors import ModelBroken, ModelNotFound

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
_MAX_HEADER_BYTES: Final = 100_000_000  # the format's limit
_BYTES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Location of one tensor.

    Attributes:
        file: the file.
        dtype: type name of the format, such as "BF16".
        shape: sizes.
        size: bytes.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    size: int


def read_tensors(folder: Path) -> dict[str, TensorInfo]:
    """Return every tensor of a checkpoint by name.

    Raises:
        ModelNotFound: the weights, or one of their files, do not exist. The message names the file.
        ModelBroken: a file is truncated or damaged.
    """
    index = folder / INDEX
    if not index.is_file():
        if not (folder / SINGLE).is_file():
            raise ModelNotFound(_no_weights_message(folder))
        return read_header(folder / SINGLE)
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ModelBroken(f"{index} has no 'weight_map'. Fetch the checkpoint again.")
    files = sorted({str(file) for file in named.values()})
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise ModelNotFound(
            f"{folder} lacks {len(missing)} of {len(files)} weight files: {_first_names(missing)}. Fetch the "
            f"checkpoint again; existing files are kept."
        )
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        tensors |= read_header(folder / file)
    if absent := sorted(set(named) - set(tensors)):
        raise ModelBroken(
            f"The index of {folder} names tensors that its files do not have: {_first_names(absent)}. The files "
            f"belong to different checkpoints; fetch all of them again."
        )
    return tensors


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Return the tensors of one file.

    Raises:
        ModelBroken: it is truncated or damaged.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        begin = stream.read(8)
        if begin.startswith(b"version "):
            raise ModelBroken(f"{file} is a placeholder of Git LFS, not the weights. Type: git lfs pull")
        length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0
        if not 2 <= length <= _MAX_HEADER_BYTES:
            raise ModelBroken(f"{file} is not a safetensors file ({size:,} bytes). Fetch it again.")
        if 8 + length > size:
            raise ModelBroken(f"{file} is truncated in its header, after {size:,} bytes. Fetch it again.")
        text = stream.read(length)
    try:
        head = json.loads(text)
        entries = {name: entry for name, entry in head.items() if name != "__metadata__"}
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
        tensors = {name: _tensor(file, entry) for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelBroken(f"{file} has a damaged header ({error}). Fetch it again.") from error
    expected = 8 + length + max(ends, default=0)
    if size < expected:
        raise ModelBroken(
            f"{file} is truncated: it should have {expected:,} bytes and has {size:,}. The usual cause is an "
            f"interrupted download; fetch it again."
        )
    if size > expected:
        raise ModelBroken(f"{file} has {size - expected:,} bytes more than its header describes. Fetch it again.")
    return tensors


def _tensor(file: Path, entry: dict[str, Any]) -> TensorInfo:
    begin, end = entry["data_offsets"]
    shape, dtype = tuple(int(number) for number in entry["shape"]), str(entry["dtype"])
    if (unit := _BYTES.get(dtype)) is not None and prod(shape) * unit != end - begin:
        raise ValueError(f"{end - begin} bytes for {list(shape)} of {dtype}")
    return TensorInfo(file, dtype, shape, end - begin)


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelBroken: it cannot be read or is not an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelBroken(f"{file} cannot be read ({error}). Fetch it again.") from error
    if not isinstance(content, dict):
        raise ModelBroken(f"{file} is not a JSON object. Fetch it again.")
    return content


def _no_weights_message(folder: Path) -> str:
    if gguf := sorted(file.name for file in folder.glob("*.gguf")):
        return f"{folder} has no safetensors, but a GGUF file. Open that instead: {folder / gguf[0]}"
    if (folder / "adapter_config.json").is_file():
        return (
            f"{folder} has an adapter, not a model. Merge it into its base first (in peft: merge_and_unload, then "
            f"save_pretrained) and give that folder."
        )
    if pickled := sorted(file.name for file in folder.glob("*.bin")):
        return (
            f"{folder} has no safetensors, only {pickled[0]}, which can run code when it is opened. If you trust it, "
            f"load it with transformers, save_pretrained to a new folder, and give that."
        )
    return f"{folder} has no weights: neither {SINGLE} nor {INDEX}. Fetch the checkpoint again."


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
