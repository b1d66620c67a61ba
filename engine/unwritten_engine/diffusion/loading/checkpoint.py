"""Inspect a checkpoint folder, and check that this engine can load it. Reads only headers and JSON, without torch.

transformers fills missing tensors, or tensors of unknown quantization, with random numbers. Therefore everything is
checked here first, with precise messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

from ...errors import ModelBroken, ModelNotFound, ModelUnsupported
from ..sampling_params import SamplingParams
from .generation_config import read_generation_config
from .model_config import DECODER, ENCODER, ModelConfig, ParameterCounts, read_model_config, tensor_kind
from .safetensors_index import TensorInfo, read_json, read_tensors

OFFICIAL: Final = "google/diffusiongemma-26B-A4B-it"
"""The published bf16 checkpoint."""
ARCHITECTURE: Final = "DiffusionGemmaForBlockDiffusion"
_ENDS: Final = (1, 106, 50)
_DTYPES: Final = {"BF16", "F16", "F32"}
_FP8: Final = re.compile(r"fp8|f8_|float-quantized", re.IGNORECASE)
_LEFT_TO_RIGHT: Final = re.compile(r"ForCausalLM|ForConditionalGeneration|LMHeadModel")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that can be loaded.

    Attributes:
        folder: its folder.
        name: display name.
        config: its ``config.json``.
        model_config: sizes of the model.
        tensors: its tensors by name.
        counts: number of parameters by kind, counted in the files.
        weight_bytes: bytes of all tensors as stored.
        end_ids: ids of end tokens.
        pad_id: id of the padding token.
        sampling_params: default sampling parameters.
        vision: it has a vision tower and an image processor config.
        licence: name of its licence; "" if unknown.
    """

    folder: Path
    name: str
    config: Mapping[str, Any] = field(repr=False)
    model_config: ModelConfig = field(repr=False)
    tensors: Mapping[str, TensorInfo] = field(repr=False)
    counts: ParameterCounts
    weight_bytes: int
    end_ids: frozenset[int]
    pad_id: int
    sampling_params: SamplingParams
    vision: bool
    licence: str


def inspect_checkpoint(folder: str | Path, name: str = "") -> Checkpoint:
    """Inspect a checkpoint folder.

    Args:
        folder: the folder.
        name: display name; the folder's name if "".

    Raises:
        ModelNotFound: the folder or a file does not exist.
        ModelBroken: a file is truncated or damaged, or tensors are missing or have the wrong shape.
        ModelUnsupported: another architecture, or an unsupported quantization.
    """
    path = Path(folder).expanduser()
    name = name or path.resolve().name
    if path.is_file():
        hint = f"give its folder, {path.parent}" if path.suffix == ".safetensors" else "give a checkpoint folder"
        raise ModelNotFound(f"{path} is a file; {hint}.")
    if not path.is_dir():
        raise ModelNotFound(
            f"There is no folder {path}. Give a checkpoint folder, or a model on the hub such as {OFFICIAL}."
        )
    config = read_config(path, name)
    sizes = read_model_config(config, name)
    tensors = read_tensors(path)
    _check_tensors(sizes, tensors, name)
    if not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
        raise ModelNotFound(f"{path} has no tokenizer.json. Fetch the checkpoint again, with its tokenizer.")
    kinds: dict[str, int] = dict.fromkeys(("experts", "linears", "embeddings", "vision", "rest"), 0)
    for key, tensor in tensors.items():
        if key != "lm_head.weight":  # a copy of the embeddings
            kinds[tensor_kind(key)] += prod(tensor.shape)
    generation_file = path / "generation_config.json"
    generation = read_json(generation_file) if generation_file.is_file() else {}
    ends, pad = _ends(generation, config)
    return Checkpoint(
        folder=path,
        name=name,
        config=config,
        model_config=sizes,
        tensors=tensors,
        counts=ParameterCounts(**kinds),
        weight_bytes=sum(tensor.size for tensor in tensors.values()),
        end_ids=ends,
        pad_id=pad,
        sampling_params=read_generation_config(generation, name),
        vision=kinds["vision"] > 0
        and any((path / file).is_file() for file in ("processor_config.json", "preprocessor_config.json")),
        licence=_licence(path, name),
    )


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return the ``config.json`` of a folder, if this engine supports the model.

    Raises:
        ModelNotFound: it does not exist.
        ModelBroken: it is damaged.
        ModelUnsupported: another architecture, or an unsupported quantization.
    """
    file = folder / "config.json"
    if not file.is_file():
        if gguf := sorted(path.name for path in folder.glob("*.gguf")):
            raise ModelUnsupported(f"{folder} has a GGUF file. Open it with the llama.cpp engine: {folder / gguf[0]}")
        raise ModelNotFound(f"{folder} has no config.json, so it is not a checkpoint. Give the folder that has one.")
    config = read_json(file)
    _check_architecture(config, name)
    _check_quantisation(folder, config, name)
    return config


def _check_architecture(config: Mapping[str, Any], name: str) -> None:
    architectures = config.get("architectures") or []
    kind = str(config.get("model_type") or "")
    if ARCHITECTURE in architectures or (not architectures and kind == "diffusion_gemma"):
        return
    description = str(architectures[0]) if architectures else (f"of the type {kind!r}" if kind else "of no known type")
    if _LEFT_TO_RIGHT.search(description):
        raise ModelUnsupported(
            f"{name} is {description}, an autoregressive model; the diffusion engine runs {ARCHITECTURE}. Convert it "
            f"to GGUF and open the .gguf file with llama.cpp, or serve it with vLLM: vllm serve {name}"
        )
    raise ModelUnsupported(
        f"{name} is {description}; the diffusion engine only runs {ARCHITECTURE}, such as {OFFICIAL}."
    )


def _check_quantisation(folder: Path, config: Mapping[str, Any], name: str) -> None:
    text = config.get("text_config") or {}
    quantization = config.get("quantization_config") or text.get("quantization_config") or config.get("quantization")
    if not quantization and (folder / "hf_quant_config.json").is_file():  # NVIDIA's model optimizer
        quantization = read_json(folder / "hf_quant_config.json").get("quantization") or {"quant_method": "modelopt"}
    if quantization:
        if isinstance(quantization, Mapping) and "quant_method" not in quantization and "group_size" in quantization:
            raise ModelUnsupported(
                f"{name} is quantized for MLX. On a Mac, serve it with mlx-vlm (mlx_vlm.server --model {name} --port "
                f"8080) and use --engine http://localhost:8080/v1. On other machines, load {OFFICIAL}."
            )
        raise ModelUnsupported(_refusal(name, _quantisation(quantization)))
    if config.get("tie_word_embeddings") is False:
        raise ModelUnsupported(
            f"{name} has separate weights for encoder and decoder (tie_word_embeddings is false). This engine runs "
            f"checkpoints with shared weights, such as {OFFICIAL}."
        )


def _quantisation(quantization: Any) -> str:
    """Return the name of a quantization, such as "compressed-tensors, nvfp4"."""
    if not isinstance(quantization, Mapping):
        return str(quantization)
    words = [str(quantization[key]) for key in ("quant_method", "quant_algo", "format", "fmt") if quantization.get(key)]
    words += [f"{quantization['bits']} bits"] if "bits" in quantization else []
    return ", ".join(dict.fromkeys(words)) or "an unnamed method"


def _refusal(name: str, how: str) -> str:
    # vLLM computes FP8 only where the hardware does.
    fp8 = " FP8 needs a GPU of the Ada generation or newer; on an Ampere GPU, take an AWQ-INT4 checkpoint."
    return (
        f"{name} is quantized ({how}). transformers cannot load experts in this format and would use random numbers. "
        f"Run it with vLLM: --engine vllm --model {name}.{fp8 if _FP8.search(how) else ''} Or load the bf16 checkpoint "
        f'{OFFICIAL} with quantize="nf4" or "int8".'
    )


def _check_tensors(sizes: ModelConfig, tensors: Mapping[str, TensorInfo], name: str) -> None:
    """Check that all tensors exist with the right shape. The encoder's name is accepted for a shared weight."""
    missing, mismatched = [], []
    for key, wanted in sizes.tensors().items():
        tensor = tensors.get(key) or (tensors.get(_twin(key)) if not key.endswith("layer_scalar") else None)
        if tensor is None:
            missing.append(key)
        elif tensor.shape != wanted:
            mismatched.append(f"{key} is {list(tensor.shape)} and should be {list(wanted)}")
    unknown = sorted({tensor.dtype for tensor in tensors.values()} - _DTYPES)
    if unknown:
        raise ModelUnsupported(_refusal(name, f"tensors of type {', '.join(unknown)}"))
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


def _twin(key: str) -> str:
    """Return the encoder's name of a decoder weight."""
    return key.replace(DECODER, ENCODER, 1)


def _ends(generation: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[frozenset[int], int]:
    """Return end tokens and padding from generation_config.json, else config.json, else the defaults of Gemma 4."""
    sources = [generation, config, config.get("text_config") or {}]
    ends = next((place["eos_token_id"] for place in sources if place.get("eos_token_id") is not None), _ENDS)
    pad = next((place["pad_token_id"] for place in sources if place.get("pad_token_id") is not None), 0)
    return frozenset([ends] if isinstance(ends, int) else ends), int(pad)


def _licence(folder: Path, name: str) -> str:
    """Return the licence from the model card; that of the official model is known."""
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace")[:4000]
        if head.startswith("---") and (match := re.search(r"^license:\s*[\"']?([\w.-]+)", head, re.MULTILINE)):
            return match[1]
    return f"Apache-2.0 (huggingface.co/{OFFICIAL})" if name == OFFICIAL else ""
