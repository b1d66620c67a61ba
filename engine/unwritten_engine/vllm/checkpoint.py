"""Checkpoints for vLLM: download them, and read what the engine needs. vLLM loads the weights itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..diffusion.diffusion_gemma.family import DIFFUSION_GEMMA
from ..diffusion.diffusion_gemma.memory import cache_bytes
from ..diffusion.diffusion_gemma.model_config import read_model_config
from ..diffusion.families import FAMILIES
from ..diffusion.loading.memory_plan import gigabytes
from ..downloads import hugging_face
from ..engine import Progress
from ..errors import EngineError, ModelBroken, ModelNotFound, ModelUnsupported

ARCHITECTURE: Final = "DiffusionGemmaForBlockDiffusion"
RANDOM: Final = "random"
_SAMPLER: Final = ("max_denoising_steps", "t_min", "t_max", "stability_threshold", "confidence_threshold")
_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")
_CONFIG_FILES: Final = ["config.json", "generation_config.json"]
TEXT_FILES: Final = ["*.json", "*.jinja", "tokenizer.model", "README.md"]


@dataclass(frozen=True, slots=True)
class VLLMCheckpoint:
    """A checkpoint folder.

    Attributes:
        folder: its folder.
        name: display name.
        config: its ``config.json``.
        canvas_length: tokens in a canvas.
        vocab_size: of the model.
        context: maximum tokens of a request.
        steps: maximum steps per canvas.
        end_ids: ids of end tokens.
        pad_id: id of the padding token.
        format: of the weights, such as "bf16" or "compressed-tensors".
        weight_bytes: size of the weight files.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    canvas_length: int
    vocab_size: int
    context: int
    steps: int
    end_ids: frozenset[int]
    pad_id: int
    format: str
    weight_bytes: int

    def memory(self, context: int, parallel: int) -> tuple[int, str]:
        """Return the bytes of weights and caches, and a sentence about them."""
        caches = parallel * cache_bytes(read_model_config(self.config, self.name), context)
        return self.weight_bytes + caches, (
            f"The weights take {gigabytes(self.weight_bytes)}, and the caches of {parallel} requests of {context:,} "
            f"tokens {gigabytes(caches)}."
        )


def read_checkpoint(folder: Path, name: str = "", *, weights: bool = True) -> VLLMCheckpoint:
    """Read a checkpoint folder.

    Args:
        folder: the folder.
        name: display name; the folder's name if "".
        weights: whether it must have weights.

    Raises:
        ModelNotFound, ModelBroken: the folder or one of its files is missing or damaged.
        ModelUnsupported: it is no DiffusionGemma.
    """
    name = name or folder.resolve().name
    if not folder.is_dir():
        raise ModelNotFound(f"There is no folder {folder}. Give a checkpoint folder, or OWNER/REPO on the hub.")
    config = _json(folder, "config.json")
    kind = (config.get("architectures") or [f"of the type {config.get('model_type')!r}"])[0]
    _refuse_architecture(kind, name)
    generation = _json(folder, "generation_config.json")
    if kind != ARCHITECTURE:
        raise ModelUnsupported(
            f"{name} is {kind}. The engine vllm runs DiffusionGemma; serve other models with: vllm serve {name}"
        )
    missing = [key for key in _SAMPLER if generation.get(key) is None]
    if not (generation.get("sampler_config") or {}).get("entropy_bound"):
        missing.append("sampler_config")
    if missing:
        raise ModelBroken(
            f"The generation_config.json of {name} has no {' and no '.join(missing)}, which vLLM requires. Copy the "
            f"file from the original checkpoint."
        )
    files = list(folder.glob("*.safetensors"))
    if weights and not files:
        raise ModelNotFound(f"{folder} has no *.safetensors. Fetch the checkpoint again.")
    if weights and (missing := _missing_shards(folder, {file.name for file in files})):
        raise ModelBroken(
            f"{folder} lacks {missing[0]} ({len(missing)} files are missing). Fetch the checkpoint again."
        )
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    quantization = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    sizes = read_model_config(config, name)
    return VLLMCheckpoint(
        folder=folder,
        name=name,
        config=config,
        canvas_length=sizes.canvas_length,
        vocab_size=sizes.vocab_size,
        context=sizes.context,
        steps=int(generation["max_denoising_steps"]),
        end_ids=frozenset([ends] if isinstance(ends, int) else ends or [1, 106, 50]),
        pad_id=int(generation.get("pad_token_id") or 0),
        format=str(quantization.get("quant_method", "quantized")) if quantization else str(config.get("dtype", "bf16")),
        weight_bytes=sum(file.stat().st_size for file in files),
    )


def refuse_other_families(reference: str) -> None:
    """Refuse models that the engine ``diffusion`` runs and vLLM does not. Uses no network.

    Args:
        reference: a folder, OWNER/REPO, or another name of a model.

    Raises:
        ModelUnsupported: it is one of them. The message names the engine.
    """
    for family in FAMILIES:
        if family is not DIFFUSION_GEMMA and reference in (family.example, family.random):
            _refuse_architecture(family.architectures[0], reference)
    folder = Path(reference).expanduser()
    if reference and (folder / "config.json").is_file():
        kinds = _json(folder, "config.json").get("architectures") or [""]
        _refuse_architecture(str(kinds[0]), reference)


def _refuse_architecture(kind: str, name: str) -> None:
    for family in FAMILIES:
        if family is not DIFFUSION_GEMMA and kind in family.architectures:
            raise ModelUnsupported(f"{name} is {kind}, which vLLM does not run. Use --engine diffusion:{name}")


def _missing_shards(folder: Path, names: set[str]) -> list[str]:
    """Return the weight files that are missing, as after an interrupted download."""
    expected: set[str] = set()
    if (folder / _INDEX).is_file():
        expected |= set(_json(folder, _INDEX).get("weight_map", {}).values())
    for name in names:  # the index may be missing too
        if match := _SHARD.fullmatch(name):
            stem, total = match.groups()
            expected |= {f"{stem}-{number:05}-of-{total}.safetensors" for number in range(1, int(total) + 1)}
    return sorted(expected - names)


def fetch(reference: str, progress: Progress, check: Callable[[VLLMCheckpoint], str]) -> Path:
    """Return the folder of a model on the hub, downloading it if it is not in the cache.

    Args:
        reference: OWNER/REPO.
        progress: gets sizes and folder before the download.
        check: raises if the model does not fit; returns a sentence about its memory. Called before the download.

    Raises:
        ModelNotFound: the model does not exist, or the hub cannot be reached.
        ModelBroken, ModelUnsupported: vLLM cannot run it, or it does not fit.
        EngineError: the disk is too full.
    """
    hub = hugging_face()
    try:
        folder = Path(hub.snapshot_download(reference, local_files_only=True))
        read_checkpoint(folder, reference)
        return folder
    except Exception:  # noqa: S110 - not in the cache, or incomplete; its error types differ between versions
        pass
    try:
        about = hub.HfApi().model_info(reference, files_metadata=True)
        size = sum(item.size or 0 for item in about.siblings or () if item.rfilename.endswith(".safetensors"))
        place = Path(hub.constants.HF_HUB_CACHE)
        configs = Path(hub.snapshot_download(reference, allow_patterns=_CONFIG_FILES))
        fit = check(replace(read_checkpoint(configs, reference, weights=False), weight_bytes=size))
        free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free
        if free < size:
            raise EngineError(
                f"The disk is too full: {reference} needs {gigabytes(size)}, and {place} has {gigabytes(free)} free. "
                f"Free some space, or set HF_HOME to a folder on another disk."
            )
        progress(0.0, f"Downloading {reference}, {gigabytes(size)}, to {place}. {fit}".rstrip())
        return Path(hub.snapshot_download(reference, allow_patterns=[*TEXT_FILES, "*.safetensors"]))
    except EngineError:
        raise
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelNotFound(
            f"{reference} cannot be fetched from Hugging Face ({type(error).__name__}: {line}), and it is not in its "
            f"cache. Check the name and the connection; a gated model needs: hf auth login. A local folder needs no "
            f"network."
        ) from error


def write_random(folder: Path, *, canvas: int = 256) -> Path:
    """Write a small random model in sizes that vLLM runs on a CPU. Return the folder.

    vLLM has one scale per layer for encoder and decoder, so both get the same. The sliding window is longer than any
    prompt of a test, because vLLM and transformers mask differently beyond it.
    """
    from safetensors.torch import load_file, save_file

    from ..diffusion.diffusion_gemma.model_config import DECODER, ENCODER
    from ..diffusion.diffusion_gemma.random_model import write_checkpoint

    # Attention on a CPU needs heads of 32 numbers or more.
    write_checkpoint(folder, hidden=128, canvas=canvas, window=4096, branch=0.3, spread=8.0, words=True)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if name.startswith(ENCODER) and name.endswith("layer_scalar"):
            weights[name] = weights[name.replace(ENCODER, DECODER, 1)].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["vision_config"]["default_output_length"] = 280  # vLLM reads it also without images
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        return found
    except FileNotFoundError as error:
        raise ModelNotFound(f"{folder} has no {name}. Give the folder of a checkpoint.") from error
    except (OSError, ValueError) as error:
        raise ModelBroken(f"{folder / name} cannot be read ({error}). Fetch the checkpoint again.") from error
