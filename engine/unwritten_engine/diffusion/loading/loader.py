"""Load a checkpoint onto the device.

transformers' classes are built without memory and filled from the files: each tensor is moved to the device, packed on
the way if weights are quantized, and shared by encoder and decoder. Neither device nor host ever holds more than the
finished weights and one slice. Code of a checkpoint is never executed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ...engine import Progress
from ...errors import BadOption, EngineError, ModelUnsupported
from . import devices
from .checkpoint import Checkpoint, inspect_checkpoint
from .hub import fetch_checkpoint
from .memory_plan import KINDS, MemoryPlan, gigabytes, plan_memory, weight_bytes
from .model_config import ModelConfig, read_model_config
from .weight_loader import load_weights

RANDOM: Final = "random"
"""Reference of a small random model."""
RANDOM_SIZES: Final[Mapping[str, Any]] = {
    "vocabulary": 8192, "hidden": 64, "layers": 6, "canvas": 128, "window": 256, "spread": 4.0, "branch": 0.25,
    "words": True,
}  # fmt: skip
"""Its sizes, for ``random_model.write_checkpoint``, chosen so that drafts settle visibly: the share of settled
positions grows evenly over 20 to 35 steps, from a quarter after three steps, in 2 to 3 seconds for three canvases on 2
cores. At a branch of 0.15 everything settles after 5 steps, and at 0.5 hardly anything after 48.
"""
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        checkpoint: its checkpoint.
        model: transformers' ``DiffusionGemmaForBlockDiffusion`` in eval mode without gradients. If it is quantized,
            experts and linear layers are those of ``quantization.py``. Encoder and decoder share their weights.
        tokenizer: a fast tokenizer with a chat template.
        name: display name.
        device: device of the weights.
        dtype: of the activations.
        quantization: weight format: "float32", "bf16", "int8" or "nf4".
        weight_bytes: bytes of all weights and buffers after loading; shared ones count once.
        end_ids: ids of end tokens.
        pad_id: id of the padding token.
        licence: terms of the model; "" if unknown.
        reasons: choices that were made, one sentence each.
    """

    checkpoint: Checkpoint
    model: Any
    tokenizer: Any
    name: str
    device: torch.device
    dtype: torch.dtype
    quantization: str
    weight_bytes: int
    end_ids: frozenset[int]
    pad_id: int
    licence: str
    reasons: tuple[str, ...]


def load_model(
    reference: str,
    *,
    device: str | None,
    quantize: str | None,
    dtype: str | None,
    budget_bytes: int | None,
    progress: Progress,
) -> LoadedModel:
    """Load a model.

    Args:
        reference: a checkpoint folder, OWNER/REPO on the hub, or "random".
        device: torch's device name, such as "cuda" or "cpu"; None chooses a GPU if there is one.
        quantize: "none", "int8" or "nf4"; None chooses the best that fits.
        dtype: "float32" or "bfloat16", of the activations; None chooses float32 on a CPU, else bfloat16.
        budget_bytes: limit of weights, caches and workspace together; None uses the free memory.
        progress: gets download and memory sizes in advance.

    Raises:
        BadOption: an invalid value, or one that this machine does not support.
        ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: the checkpoint cannot be loaded, or does not fit.
        EngineError: memory or disk ran out.
    """
    torch_device = devices.find_device(device)
    number = _dtype(dtype, torch_device)
    if quantize not in (None, "none", *KINDS[1:]):
        raise BadOption(f"The option 'quantize' is {quantize!r}; give 'none', 'int8' or 'nf4'.")
    budget = devices.free_bytes(torch_device) if budget_bytes is None else budget_bytes

    def planned(sizes: ModelConfig) -> MemoryPlan:
        plain = "float32" if number == torch.float32 else "bf16"
        kind = plain if quantize == "none" else quantize
        name = devices.describe_device(torch_device)
        return plan_memory(sizes, memory=budget, device=name, kind=kind, plain=plain, rows=1, context=4096)

    if reference == RANDOM:
        from .random_model import write_checkpoint

        with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
            progress(0.0, "Making a small random model; its text is gibberish")
            checkpoint = inspect_checkpoint(write_checkpoint(folder, **RANDOM_SIZES), name=RANDOM)
            reason = "The model is small and random, so its text is gibberish."
            return _load(checkpoint, planned(checkpoint.model_config), torch_device, number, progress, (reason,))
    local = Path(reference).expanduser()
    if local.exists() or not _is_hub(reference):
        checkpoint = inspect_checkpoint(local)
    else:
        folder_ = fetch_checkpoint(reference, progress, lambda config: _agree(planned, config, reference))
        checkpoint = inspect_checkpoint(folder_, name=reference)
    return _load(checkpoint, planned(checkpoint.model_config), torch_device, number, progress, ())


def _load(
    checkpoint: Checkpoint,
    plan: MemoryPlan,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress,
    reasons: tuple[str, ...],
) -> LoadedModel:
    sizes = ", ".join(f"{gigabytes(weight_bytes(checkpoint.model_config, kind))} in {kind}" for kind in KINDS)
    progress(0.0, f"Loading {checkpoint.name} in {plan.kind}, {gigabytes(plan.weights)} (weights: {sizes})")
    try:
        model, more = load_weights(checkpoint, plan.kind, device, dtype, progress)
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{devices.describe_device(device)} ran out of memory while {checkpoint.name} was loaded in {plan.kind}, "
            f"which takes {gigabytes(plan.weights)}. Close other programs that use it (nvidia-smi lists them), or "
            f"take a smaller quantize."
        ) from error
    return LoadedModel(
        checkpoint=checkpoint,
        model=model,
        tokenizer=load_tokenizer(checkpoint),
        name=checkpoint.name,
        device=device,
        dtype=dtype,
        quantization=plan.kind,
        weight_bytes=count_bytes(model),
        end_ids=checkpoint.end_ids,
        pad_id=checkpoint.pad_id,
        licence=checkpoint.licence,
        reasons=(*reasons, plan.reason, *more),
    )


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Return the checkpoint's tokenizer.

    Raises:
        ModelUnsupported: it has no chat template, or more tokens than the model.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    if not tokenizer.is_fast or not tokenizer.chat_template:
        raise ModelUnsupported(
            f"The tokenizer of {checkpoint.name} has no chat template. Add the chat_template.jinja of the original "
            f"checkpoint to the folder."
        )
    if len(tokenizer) > checkpoint.model_config.vocab_size:
        raise ModelUnsupported(
            f"The tokenizer of {checkpoint.name} has {len(tokenizer):,} tokens and the model "
            f"{checkpoint.model_config.vocab_size:,}. They belong to different checkpoints; fetch all files again."
        )
    return tokenizer


def count_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of all parameters and buffers; shared storage counts once."""
    storages = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
    if name is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in _DTYPES:
        raise BadOption(f"The option 'dtype' is {name!r}; give 'float32' or 'bfloat16'.")
    return _DTYPES[name]


def _is_hub(reference: str) -> bool:
    """Return True for OWNER/REPO, as opposed to a path."""
    owner, _, repo = reference.partition("/")
    return bool(owner and repo) and "/" not in repo and not reference.startswith((".", "~", "\\"))


def _agree(planned: Any, config: Mapping[str, Any], reference: str) -> None:
    planned(read_model_config(config, reference))
