"""What a checkpoint folder holds, and whether this engine can load it. Reads heads and JSON alone; no torch.

transformers would load a checkpoint that lacks tensors, or that is quantised in a way it does not know, with random
numbers in their place. So everything is compared here first, and what is wrong is said in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

from ...errors import ModelBroken, ModelNotFound, ModelUnsupported
from .model_config import DECODER, ENCODER, VISION, ModelConfig, ParameterCounts, read_model_config, tensor_kind
from .safetensors_index import TensorInfo, read_json, read_tensors

OFFICIAL: Final = "google/diffusiongemma-26B-A4B-it"
"""The checkpoint in bf16 that all others derive from."""
ARCHITECTURE: Final = "DiffusionGemmaForBlockDiffusion"
_ENDS: Final = (1, 106, 50)
_DTYPES: Final = {"BF16", "F16", "F32"}
_LEFT_TO_RIGHT: Final = re.compile(r"ForCausalLM|ForConditionalGeneration|LMHeadModel")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that can be loaded.

    Attributes:
        folder: where it lies.
        name: for people.
        config: its ``config.json``.
        sizes: the sizes of the model.
        tensors: its tensors, by name.
        counts: parameters by kind, counted in the files.
        weight_bytes: bytes of all tensors, as they are stored.
        ends: ids of the tokens that end a text.
        pad: id of the token that fills a canvas after its end.
        vision: it has a vision tower, and a processor that says how images are cut.
        licence: its terms, in a word or two; "" if it does not tell.
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
    vision: bool
    licence: str


def inspect_checkpoint(folder: str | Path, name: str = "") -> Checkpoint:
    """Look into a checkpoint folder.

    Args:
        folder: the folder.
        name: what it is called in messages and ``Checkpoint.name``; its own name if "".

    Raises:
        ModelNotFound: there is no such folder, or a file is missing.
        ModelBroken: a file is truncated or damaged, or tensors are missing or of the wrong shape.
        ModelUnsupported: another architecture, or quantised in a way that cannot be loaded here.
    """
    here = Path(folder).expanduser()
    name = name or here.resolve().name
    if here.is_file():
        hint = f"give its folder, {here.parent}" if here.suffix == ".safetensors" else "give a checkpoint folder"
        raise ModelNotFound(f"{here} is a file; {hint}.")
    if not here.is_dir():
        raise ModelNotFound(
            f"There is no folder {here}. Give a checkpoint folder, or a model on the hub such as {OFFICIAL}."
        )
    config = read_config(here, name)
    sizes = read_model_config(config, name)
    tensors = read_tensors(here)
    _check_tensors(sizes, tensors, name)
    if not any((here / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
        raise ModelNotFound(f"{here} has no tokenizer.json. Fetch the checkpoint again, with its tokenizer.")
    kinds: dict[str, int] = dict.fromkeys(("experts", "linears", "embeddings", "vision", "rest"), 0)
    for key, tensor in tensors.items():
        if key != "lm_head.weight":  # where it is stored, it is the embeddings once more
            kinds[tensor_kind(key)] += prod(tensor.shape)
    ends, pad = _ends(here, config)
    return Checkpoint(
        folder=here,
        name=name,
        config=config,
        model_config=sizes,
        tensors=tensors,
        counts=ParameterCounts(**kinds),
        weight_bytes=sum(tensor.size for tensor in tensors.values()),
        end_ids=ends,
        pad_id=pad,
        vision=kinds["vision"] > 0
        and any((here / file).is_file() for file in ("processor_config.json", "preprocessor_config.json")),
        licence=_licence(here, name),
    )


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The ``config.json`` of a folder, if it is of a model that this engine can load.

    Raises:
        ModelNotFound: there is none.
        ModelBroken: it is damaged.
        ModelUnsupported: another architecture, or a quantisation that cannot be loaded here.
    """
    file = folder / "config.json"
    if not file.is_file():
        if gguf := sorted(path.name for path in folder.glob("*.gguf")):
            raise ModelUnsupported(f"{folder} holds a GGUF file. Give that to the llama.cpp engine: {folder / gguf[0]}")
        raise ModelNotFound(f"{folder} has no config.json, so it is no checkpoint. Give the folder that has one.")
    config = read_json(file)
    _check_architecture(config, name)
    _check_quantisation(folder, config, name)
    return config


def _check_architecture(config: Mapping[str, Any], name: str) -> None:
    found = config.get("architectures") or []
    kind = str(config.get("model_type") or "")
    if ARCHITECTURE in found or (not found and kind == "diffusion_gemma"):
        return
    what = str(found[0]) if found else (f"of the type {kind!r}" if kind else "of no known type")
    if _LEFT_TO_RIGHT.search(what):
        raise ModelUnsupported(
            f"{name} is {what}, which writes from left to right; the diffusion engine runs {ARCHITECTURE}. Convert it "
            f"to GGUF and give the .gguf file, which llama.cpp runs, or serve it with vLLM: vllm serve {name}"
        )
    raise ModelUnsupported(
        f"{name} is {what}; the diffusion engine runs {ARCHITECTURE}, such as {OFFICIAL}. Other models of "
        f"this kind run in the libraries of their makers."
    )


def _check_quantisation(folder: Path, config: Mapping[str, Any], name: str) -> None:
    found = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if not found and (folder / "hf_quant_config.json").is_file():  # as NVIDIA's model optimiser writes it
        found = read_json(folder / "hf_quant_config.json").get("quantization") or {"quant_method": "modelopt"}
    if found:
        raise ModelUnsupported(_refusal(name, _quantisation(found)))
    if config.get("tie_word_embeddings") is False:
        raise ModelUnsupported(
            f"{name} has an encoder and a decoder with weights of their own (tie_word_embeddings is false). This "
            f"engine runs checkpoints in which they are shared, such as {OFFICIAL}."
        )


def _quantisation(found: Any) -> str:
    """What a checkpoint calls its quantisation, such as "compressed-tensors, nvfp4"."""
    if not isinstance(found, Mapping):
        return str(found)
    words = [str(found[key]) for key in ("quant_method", "quant_algo", "format", "fmt") if found.get(key)]
    words += [f"{found['bits']} bits"] if "bits" in found else []
    return ", ".join(dict.fromkeys(words)) or "a way that it does not name"


def _refusal(name: str, how: str) -> str:
    return (
        f"{name} is quantised ({how}). transformers does not load experts that are stored so: they would be random "
        f"numbers. Serve it with vLLM, which does (vllm serve {name} --max-num-seqs 4 --generation-config vllm), or "
        f'load the checkpoint in bf16, {OFFICIAL}, with quantize="nf4" or "int8".'
    )


def _check_tensors(sizes: ModelConfig, tensors: Mapping[str, TensorInfo], name: str) -> None:
    """Everything is there, in its shape. The encoder's name may stand for the decoder's: they share the weights."""
    missing, misshapen = [], []
    for key, wanted in sizes.tensors().items():
        tensor = tensors.get(key) or (tensors.get(_twin(key)) if not key.endswith("layer_scalar") else None)
        if tensor is None:
            missing.append(key)
        elif tensor.shape != wanted:
            misshapen.append(f"{key} is {list(tensor.shape)} and should be {list(wanted)}")
    odd = sorted({tensor.dtype for tensor in tensors.values()} - _DTYPES)
    if odd:
        raise ModelUnsupported(_refusal(name, f"tensors of the type {', '.join(odd)}"))
    if missing:
        raise ModelBroken(
            f"{name} lacks {len(missing)} of its tensors, such as {missing[0]}. Fetch the checkpoint again, or save "
            f"it again with save_pretrained."
        )
    if misshapen:
        raise ModelBroken(
            f"{name} does not fit its config.json: {misshapen[0]}. The files belong to different checkpoints; fetch "
            f"all of them again."
        )


def _twin(key: str) -> str:
    """The encoder's name of a weight of the decoder."""
    return key.replace(DECODER, ENCODER, 1)


def is_vision(key: str) -> bool:
    """Whether a tensor belongs to the vision tower or its projection."""
    return key.startswith(VISION)


def _ends(folder: Path, config: Mapping[str, Any]) -> tuple[frozenset[int], int]:
    """The end tokens and the padding: as generation_config.json says, else config.json, else as Gemma 4 has them."""
    file = folder / "generation_config.json"
    places = [read_json(file) if file.is_file() else {}, config, config.get("text_config") or {}]
    ends = next((place["eos_token_id"] for place in places if place.get("eos_token_id") is not None), _ENDS)
    pad = next((place["pad_token_id"] for place in places if place.get("pad_token_id") is not None), 0)
    return frozenset([ends] if isinstance(ends, int) else ends), int(pad)


def _licence(folder: Path, name: str) -> str:
    """What the model card's head says; the official model's is known."""
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace")[:4000]
        if head.startswith("---") and (found := re.search(r"^license:\s*[\"']?([\w.-]+)", head, re.MULTILINE)):
            return found[1]
    return f"Apache-2.0 (huggingface.co/{OFFICIAL})" if name == OFFICIAL else ""
