"""From a checkpoint to a model on the device, tensor by tensor.

transformers' classes are built without memory and filled from the files: each tensor goes to the device, is packed on
its way if weights are to be quantised, and takes its place in the encoder and in the decoder, which share it. So
neither the device nor the machine ever holds more than the finished weights and one slice. No code that comes with a
checkpoint is run.
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
"""The reference of a small random model that is made here."""
RANDOM_SIZES: Final[Mapping[str, Any]] = {
    "vocabulary": 8192, "hidden": 64, "layers": 6, "canvas": 128, "window": 256, "spread": 4.0, "branch": 0.25,
    "words": True,
}  # fmt: skip
"""Its sizes, as ``small.write_checkpoint`` takes them: so that it is seen to settle. With these its sure positions
grow evenly over 20 to 35 steps, from a quarter after three steps to all, in 2 to 3 seconds for three canvases on 2
cores. At a branch of 0.15 it is sure of everything after 5 steps, and at 0.5 of hardly anything after 48."""
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        checkpoint: what it was loaded from.
        model: transformers' ``DiffusionGemmaForBlockDiffusion`` in eval mode without gradients, its experts and linear
            layers perhaps replaced by those of ``quantize.py``. Encoder and decoder share their weights.
        tokenizer: a fast tokenizer with a chat template.
        name: for people.
        device: where it is.
        dtype: of its activations.
        quantization: how the weights are kept: "float32", "bf16", "int8" or "nf4".
        weight_bytes: bytes of all weights and buffers, counted after loading, shared ones once.
        ends: ids of the tokens that end a text.
        pad: id of the token that fills a canvas after its end.
        licence: terms of the model, in a few words; "" if the checkpoint does not tell.
        reasons: why it was loaded so, one sentence each.
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
        device: as torch names it, such as "cuda" or "cpu"; None takes a GPU if there is one.
        quantize: "none", "int8" or "nf4"; None takes the best that fits.
        dtype: "float32" or "bfloat16", of the activations; None takes float32 on a CPU, else bfloat16.
        budget_bytes: bytes that weights, caches and workspace may take together; None takes what is free.
        progress: told what will be downloaded and what it will take, before it happens.

    Raises:
        BadOption: an option has a value that does not exist, or that this machine cannot serve.
        ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: the checkpoint cannot be loaded, or does not fit.
        EngineError: memory or disk ran out.
    """
    where = devices.find_device(device)
    number = _dtype(dtype, where)
    if quantize not in (None, "none", *KINDS[1:]):
        raise BadOption(f"The option 'quantize' is {quantize!r}; give 'none', 'int8' or 'nf4'.")
    budget = devices.free_bytes(where) if budget_bytes is None else budget_bytes

    def planned(sizes: ModelConfig) -> MemoryPlan:
        plain = "float32" if number == torch.float32 else "bf16"
        kind = plain if quantize == "none" else quantize
        name = devices.describe_device(where)
        return plan_memory(sizes, memory=budget, device=name, kind=kind, plain=plain, rows=1, context=4096)

    if reference == RANDOM:
        from .random_model import write_checkpoint

        with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
            progress(0.0, "Making a small random model; what it writes is gibberish")
            checkpoint = inspect_checkpoint(write_checkpoint(folder, **RANDOM_SIZES), name=RANDOM)
            why = "The model is small and random: the mechanics are real, the text is gibberish."
            return _load(checkpoint, planned(checkpoint.model_config), where, number, progress, (why,))
    local = Path(reference).expanduser()
    if local.exists() or not _is_hub(reference):
        checkpoint = inspect_checkpoint(local)
    else:
        folder_ = fetch_checkpoint(reference, progress, lambda config: _agree(planned, config, reference))
        checkpoint = inspect_checkpoint(folder_, name=reference)
    return _load(checkpoint, planned(checkpoint.model_config), where, number, progress, ())


def _load(
    checkpoint: Checkpoint,
    found: MemoryPlan,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress,
    reasons: tuple[str, ...],
) -> LoadedModel:
    told = ", ".join(f"{gigabytes(weight_bytes(checkpoint.model_config, kind))} in {kind}" for kind in KINDS)
    progress(0.0, f"Loading {checkpoint.name} in {found.kind}, {gigabytes(found.weights)} (weights: {told})")
    try:
        model, more = load_weights(checkpoint, found.kind, device, dtype, progress)
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{devices.describe_device(device)} ran out of memory while {checkpoint.name} was loaded in {found.kind}, "
            f"which takes {gigabytes(found.weights)}. Close other programs that use it (nvidia-smi lists them), or "
            f"take a smaller quantize."
        ) from error
    return LoadedModel(
        checkpoint=checkpoint,
        model=model,
        tokenizer=load_tokenizer(checkpoint),
        name=checkpoint.name,
        device=device,
        dtype=dtype,
        quantization=found.kind,
        weight_bytes=count_bytes(model),
        end_ids=checkpoint.end_ids,
        pad_id=checkpoint.pad_id,
        licence=checkpoint.licence,
        reasons=(*reasons, found.reason, *more),
    )


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's tokenizer.

    Raises:
        ModelUnsupported: it has no chat template, or fewer or more tokens than the model.
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
    """Bytes of all parameters and buffers of a model; storage that is shared counts once."""
    seen = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
    if name is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in _DTYPES:
        raise BadOption(f"The option 'dtype' is {name!r}; give 'float32' or 'bfloat16'.")
    return _DTYPES[name]


def _is_hub(reference: str) -> bool:
    """OWNER/REPO, and nothing that looks like a path."""
    owner, _, repo = reference.partition("/")
    return bool(owner and repo) and "/" not in repo and not reference.startswith((".", "~", "\\"))


def _agree(planned: Any, config: Mapping[str, Any], reference: str) -> None:
    planned(read_model_config(config, reference))
