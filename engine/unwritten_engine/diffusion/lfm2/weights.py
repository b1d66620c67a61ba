"""Load the weights of an LFM2 diffusion checkpoint, tensor by tensor. No code of the checkpoint is run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ...engine import Progress
from ...errors import BadOption, ModelBroken, ModelUnsupported
from ..loading.safetensors_index import TensorInfo
from .config import EMBEDDINGS, HEAD, Lfm2Config, check_tensors
from .layers import Lfm2Model
from .memory import KINDS
from .quantization import Int8Linear, has_onednn, use_int8

_ROWS: Final = 4096
"""Rows of the embeddings that are compared at a time."""


def load_weights(
    config: Lfm2Config,
    tensors: Mapping[str, TensorInfo],
    *,
    kind: str,
    device: torch.device,
    dtype: torch.dtype,
    name: str,
    progress: Progress,
) -> Lfm2Model:
    """Return a model with the weights of a checkpoint, in eval mode without gradients.

    Args:
        config: its sizes.
        tensors: its tensors, as ``read_tensors`` returns them.
        kind: weight format: "float32" or one of ``KINDS``.
        device: target device.
        dtype: of all weights that are not quantized.
        name: display name, for messages.
        progress: gets the share of bytes that are loaded.

    Raises:
        BadOption: the weight format does not exist, or not on this device.
        ModelBroken: a file is damaged, or tensors are missing or have the wrong shape.
        ModelUnsupported: unknown tensors, or an output that is not a copy of the embeddings.
    """
    _check_kind(kind, device)
    check_tensors(config, tensors, name)
    wanted = config.tensors()
    with torch.device("meta"):  # no memory is used before the weights arrive
        model = Lfm2Model(config)
        if kind == "int8":
            use_int8(model.layers)
    by_file: dict[Path, list[str]] = defaultdict(list)
    for key in wanted:
        by_file[tensors[key].file].append(key)
    done, total = 0, max(1, sum(tensors[key].size for key in wanted))
    for file, keys in by_file.items():
        try:
            with safe_open(file, framework="pt", device="cpu") as stream:
                for key in keys:
                    _put(model, key.removeprefix("model."), stream.get_tensor(key), device, dtype)
                    done += tensors[key].size
                    progress(done / total, f"Loading {name}")
        except SafetensorError as error:
            raise ModelBroken(f"{file} is damaged ({error}). Fetch it again.") from error
    if HEAD in tensors:
        _check_tied(tensors, name)
    return model.eval()


def _check_kind(kind: str, device: torch.device) -> None:
    if kind not in ("float32", *KINDS):
        raise BadOption(f"LFM2 diffusion has no weights in {kind}; give quantize='none' or, on a CPU, 'int8'.")
    if kind == "int8" and device.type != "cpu":
        raise BadOption(
            f"LFM2 diffusion has int8 layers for a CPU, not for the device {device.type!r}. Give quantize='none', "
            f"which needs less than a gigabyte in bfloat16, or device='cpu'."
        )
    if kind == "int8" and not has_onednn():
        raise BadOption("The int8 layers of LFM2 diffusion need a torch with oneDNN, as on x86. Give quantize='none'.")


def _put(model: Lfm2Model, path: str, stored: torch.Tensor, device: torch.device, dtype: torch.dtype) -> None:
    """Put a tensor of the file, which may be mapped, into its place."""
    parent, _, attribute = path.rpartition(".")
    module = model.get_submodule(parent)
    if isinstance(module, Int8Linear) and attribute == "weight":
        module.put(stored)
    else:
        weight = stored.to(device, dtype, copy=True)
        module.register_parameter(attribute, nn.Parameter(weight, requires_grad=False))


def _check_tied(tensors: Mapping[str, TensorInfo], name: str) -> None:
    """Check that the stored output equals the embeddings, which are used in its place."""
    with (
        safe_open(tensors[HEAD].file, framework="pt", device="cpu") as head_file,
        safe_open(tensors[EMBEDDINGS].file, framework="pt", device="cpu") as file,
    ):
        head, embeddings = head_file.get_slice(HEAD), file.get_slice(EMBEDDINGS)
        for start in range(0, tensors[HEAD].shape[0], _ROWS):
            rows = slice(start, start + _ROWS)
            if not torch.equal(head[rows], embeddings[rows]):
                raise ModelUnsupported(
                    f"{name} has separate weights for its output: {HEAD} differs from {EMBEDDINGS}. This engine runs "
                    f"models whose output is tied to the token embeddings."
                )
