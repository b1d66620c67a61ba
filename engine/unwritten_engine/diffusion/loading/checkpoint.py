"""What all families check in a checkpoint folder. Reads only headers and JSON, without torch.

transformers fills missing tensors, or tensors of unknown quantization, with random numbers. Therefore everything is
checked before a model is loaded, with precise messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...errors import ModelBroken, ModelNotFound, ModelUnsupported
from .memory_plan import MemoryNeeds
from .safetensors_index import TensorInfo, read_json

DTYPES: Final = frozenset({"BF16", "F16", "F32"})
"""Types of tensors that are not quantized."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that can be loaded. Families extend it.

    Attributes:
        folder: its folder.
        name: display name.
        config: its ``config.json``.
        memory: how much memory the model needs.
        vocab_size: tokens of the model, which its tokenizer must not exceed.
        canvas_length: tokens of a canvas, as requests count them.
        tensors: its tensors by name.
        weight_bytes: bytes of all tensors as stored.
        end_ids: ids of end tokens.
        pad_id: id of the padding token.
        sampling_params: default sampling parameters, of the family's class.
        vision: it has a vision tower and an image processor config.
        licence: name of its licence; "" if unknown.
    """

    folder: Path
    name: str
    config: Mapping[str, Any] = field(repr=False)
    memory: MemoryNeeds = field(repr=False)
    vocab_size: int
    canvas_length: int
    tensors: Mapping[str, TensorInfo] = field(repr=False)
    weight_bytes: int
    end_ids: frozenset[int]
    pad_id: int
    sampling_params: Any
    vision: bool
    licence: str


def check_folder(path: Path, example: str) -> None:
    """Check that a checkpoint folder exists.

    Args:
        path: the folder.
        example: OWNER/REPO of a checkpoint, for the message.

    Raises:
        ModelNotFound: it does not exist, or is a file.
    """
    if path.is_file():
        hint = f"give its folder, {path.parent}" if path.suffix == ".safetensors" else "give a checkpoint folder"
        raise ModelNotFound(f"{path} is a file; {hint}.")
    if not path.is_dir():
        raise ModelNotFound(
            f"There is no folder {path}. Give a checkpoint folder, or a model on the hub such as {example}."
        )


def read_config(folder: Path) -> dict[str, Any]:
    """Return the ``config.json`` of a folder.

    Raises:
        ModelNotFound: it does not exist.
        ModelBroken: it is damaged.
        ModelUnsupported: the folder has a GGUF file instead.
    """
    file = folder / "config.json"
    if not file.is_file():
        if gguf := sorted(path.name for path in folder.glob("*.gguf")):
            raise ModelUnsupported(f"{folder} has a GGUF file. Open it with the llama.cpp engine: {folder / gguf[0]}")
        raise ModelNotFound(f"{folder} has no config.json, so it is not a checkpoint. Give the folder that has one.")
    return read_json(file)


def read_optional(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one if the file does not exist."""
    return read_json(file) if file.is_file() else {}


def find_quantization(folder: Path, config: Mapping[str, Any]) -> Any:
    """Return how a checkpoint is quantized, as its files say it; a false value if it is not."""
    text = _text_config(config)
    quantization = config.get("quantization_config") or text.get("quantization_config") or config.get("quantization")
    if not quantization and (folder / "hf_quant_config.json").is_file():  # NVIDIA's model optimizer
        quantization = read_json(folder / "hf_quant_config.json").get("quantization") or {"quant_method": "modelopt"}
    return quantization


def describe_quantization(quantization: Any) -> str:
    """Return the name of a quantization, such as "compressed-tensors, nvfp4"."""
    if not isinstance(quantization, Mapping):
        return str(quantization)
    words = [str(quantization[key]) for key in ("quant_method", "quant_algo", "format", "fmt") if quantization.get(key)]
    words += [f"{quantization['bits']} bits"] if "bits" in quantization else []
    return ", ".join(dict.fromkeys(words)) or "an unnamed method"


def check_tensors(
    wanted: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, TensorInfo],
    name: str,
    *,
    alias: Callable[[str], str | None] = lambda key: None,
) -> None:
    """Check that all tensors exist with the right shape.

    Args:
        wanted: shapes by name.
        tensors: of the checkpoint.
        name: display name of the checkpoint.
        alias: returns another name under which a tensor may be stored.

    Raises:
        ModelBroken: tensors are missing, or have another shape. The message names one.
    """
    missing, mismatched = [], []
    for key, shape in wanted.items():
        tensor = tensors.get(key) or tensors.get(alias(key) or key)
        if tensor is None:
            missing.append(key)
        elif tensor.shape != shape:
            mismatched.append(f"{key} is {list(tensor.shape)} and should be {list(shape)}")
    if missing:
        raise ModelBroken(
            f"{name} lacks {len(missing)} tensors, such as {missing[0]}. Fetch the checkpoint again, or save it again "
            f"with save_pretrained."
        )
    if mismatched:
        raise ModelBroken(
            f"{name} does not match its config.json: {mismatched[0]}. The files belong to different checkpoints; "
            f"fetch all of them again."
        )


def check_tokenizer(folder: Path) -> None:
    """Check that a folder has a tokenizer.

    Raises:
        ModelNotFound: it has none.
    """
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
        raise ModelNotFound(f"{folder} has no tokenizer.json. Fetch the checkpoint again, with its tokenizer.")


def read_ends(
    generation: Mapping[str, Any], config: Mapping[str, Any], ends: tuple[int, ...], pad: int, tokens: int, name: str
) -> tuple[frozenset[int], int]:
    """Return end tokens and padding from generation_config.json, else config.json, else these.

    Args:
        generation: contents of generation_config.json.
        config: contents of config.json.
        ends: the usual end tokens.
        pad: the usual padding.
        tokens: number of tokens that the model can write.
        name: display name, for messages.

    Raises:
        ModelBroken: one of them is not a token of the model.
    """

    def find(key: str, default: Any) -> tuple[int, ...]:
        sources = [generation, config, _text_config(config)]
        found = next((place[key] for place in sources if place.get(key) is not None), default)
        ids: tuple[Any, ...] = tuple(found) if isinstance(found, list | tuple) and key == "eos_token_id" else (found,)
        if not ids or any(isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < tokens for id in ids):
            raise ModelBroken(
                f"{name} has the invalid value {found!r} for {key!r} in its generation_config.json or config.json: the "
                f"model writes the tokens 0 to {tokens - 1:,}. Fetch the checkpoint again."
            )
        return ids

    return frozenset(find("eos_token_id", ends)), find("pad_token_id", pad)[0]


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a ``config.json`` about text, which only some models have."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) else {}


def read_licence(folder: Path) -> str:
    """Return the licence that the model card names, or "". If that is "other", return the name beside it."""
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace")[:4000]
        if head.startswith("---"):
            found: dict[str, str] = dict(re.findall(r"^(license|license_name):\s*[\"']?([\w.-]+)", head, re.MULTILINE))
            licence = found.get("license", "")
            return found.get("license_name", licence) if licence == "other" else licence
    return ""
