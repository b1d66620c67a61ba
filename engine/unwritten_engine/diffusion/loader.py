"""Load a checkpoint onto the device.

Its family loads the weights. Code of a checkpoint is never executed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ..engine import Progress
from ..errors import BadOption, EngineError, ModelBroken, ModelUnsupported
from .families import FAMILIES, find_family, inspect_checkpoint
from .family import Family
from .loading import devices
from .loading.checkpoint import Checkpoint, read_config
from .loading.hub import fetch_checkpoint
from .loading.memory_plan import KINDS, MemoryNeeds, MemoryPlan, gigabytes, plan_memory

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        family: its family.
        checkpoint: its checkpoint.
        model: the family's module, in eval mode without gradients. See ``Family.load_weights``.
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

    family: Family
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
        reference: a checkpoint folder, OWNER/REPO on the hub, or ``random`` of a family.
        device: torch's device name, such as "cuda" or "cpu"; None chooses a GPU if there is one.
        quantize: "none", "int8" or "nf4"; None chooses the best that fits.
        dtype: "float32" or "bfloat16", of the activations; None chooses bfloat16, and on a CPU what the family prefers.
        budget_bytes: limit of weights, caches and workspace together; None uses the free memory.
        progress: gets download and memory sizes in advance.

    Raises:
        BadOption: an invalid value, or one that this machine does not support.
        ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: the checkpoint cannot be loaded, or does not fit.
        EngineError: memory or disk ran out.
    """
    torch_device = devices.find_device(device)
    if quantize not in (None, "none", *KINDS[1:]):
        raise BadOption(f"The option 'quantize' is {quantize!r}; give 'none', 'int8' or 'nf4'.")
    budget = devices.free_bytes(torch_device) if budget_bytes is None else budget_bytes

    def planned(family: Family, needs: MemoryNeeds) -> MemoryPlan:
        if quantize not in (None, "none", *needs.kinds[1:]):
            choices = " or ".join(map(repr, ("none", *needs.kinds[1:])))
            raise BadOption(f"The option 'quantize' is {quantize!r}; for {reference}, give {choices}.")
        plain = "float32" if _dtype(dtype, torch_device, family) == torch.float32 else "bf16"
        kind = plain if quantize == "none" else quantize
        name = devices.describe_device(torch_device)
        return plan_memory(needs, memory=budget, device=name, kind=kind, plain=plain, rows=1, context=4096)

    def agree(folder: Path) -> str:
        config = read_config(folder)
        family = find_family(config, reference)
        planned(family, family.memory_needs(folder, config, reference))
        return family.licence(folder, reference)

    def load(family: Family, checkpoint: Checkpoint, *reasons: str) -> LoadedModel:
        plan, number = planned(family, checkpoint.memory), _dtype(dtype, torch_device, family)
        return _load(family, checkpoint, plan, torch_device, number, progress, reasons)

    for family in FAMILIES:
        if reference == family.random:
            with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
                progress(0.0, "Making a small random model; its text is gibberish")
                family.write_random(Path(folder))
                found = inspect_checkpoint(folder, name=reference)
                return load(*found, "The model is small and random, so its text is gibberish.")
    local = Path(reference).expanduser()
    if local.exists() or not _is_hub(reference):
        return load(*inspect_checkpoint(local))
    fetched = fetch_checkpoint(reference, progress, agree, example=" or ".join(family.example for family in FAMILIES))
    return load(*inspect_checkpoint(fetched, name=reference))


def _load(
    family: Family,
    checkpoint: Checkpoint,
    plan: MemoryPlan,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress,
    reasons: tuple[str, ...],
) -> LoadedModel:
    needs = checkpoint.memory
    sizes = ", ".join(f"{gigabytes(needs.weights(kind))} in {kind}" for kind in needs.kinds)
    progress(0.0, f"Loading {checkpoint.name} in {plan.kind}, {gigabytes(plan.weights)} (weights: {sizes})")
    try:
        model, more = family.load_weights(checkpoint, plan.kind, device, dtype, progress)
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{devices.describe_device(device)} ran out of memory while {checkpoint.name} was loaded in {plan.kind}, "
            f"which takes {gigabytes(plan.weights)}. Close other programs that use it (nvidia-smi lists them), or "
            f"take a smaller quantize."
        ) from error
    return LoadedModel(
        family=family,
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
        ModelBroken: its files cannot be read.
        ModelUnsupported: it has no chat template, one that fails, or more tokens than the model.
    """
    from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedConfig

    # The file of a type that transformers does not know would only cause a warning: tokenizer_config.json has all.
    is_known = checkpoint.config.get("model_type") in CONFIG_MAPPING
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            checkpoint.folder,
            config=None if is_known else PreTrainedConfig(),
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:  # tokenizers raises plain exceptions
        raise ModelBroken(
            f"The tokenizer of {checkpoint.name} cannot be read ({str(error) or repr(error)}). Fetch the checkpoint "
            f"again."
        ) from error
    if not tokenizer.is_fast or not tokenizer.chat_template:
        raise ModelUnsupported(
            f"The tokenizer of {checkpoint.name} has no chat template. Add the chat_template.jinja of the original "
            f"checkpoint to the folder."
        )
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "A"}], add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # of Jinja, or raised by the template
        text, problem = "", f"fails ({str(error) or repr(error)})"
    else:
        problem = "leaves the request out"
    if "A" not in text:
        raise ModelUnsupported(
            f"The chat template of {checkpoint.name} {problem}. Put the chat_template.jinja of the original checkpoint "
            f"into the folder."
        )
    if len(tokenizer) > checkpoint.vocab_size:
        raise ModelUnsupported(
            f"The tokenizer of {checkpoint.name} has {len(tokenizer):,} tokens and the model "
            f"{checkpoint.vocab_size:,}. They belong to different checkpoints; fetch all files again."
        )
    return tokenizer


def count_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of all parameters and buffers; shared storage counts once."""
    storages = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _dtype(name: str | None, device: torch.device, family: Family) -> torch.dtype:
    if name is None:
        return _DTYPES[family.cpu_dtype] if device.type == "cpu" else torch.bfloat16
    if name not in _DTYPES:
        raise BadOption(f"The option 'dtype' is {name!r}; give 'float32' or 'bfloat16'.")
    return _DTYPES[name]


def _is_hub(reference: str) -> bool:
    """Return True for OWNER/REPO, as opposed to a path."""
    owner, _, repo = reference.partition("/")
    return bool(owner and repo) and "/" not in repo and not reference.startswith((".", "~", "\\"))
