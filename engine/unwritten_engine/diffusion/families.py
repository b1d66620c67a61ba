"""The families of diffusion models that the engine runs, and the choice by ``config.json``. Does not use torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ModelUnsupported
from .diffusion_gemma.family import DIFFUSION_GEMMA
from .family import Family
from .lfm2.family import LFM2_DIFFUSION
from .loading.checkpoint import Checkpoint, check_folder, read_config

FAMILIES: Final[tuple[Family, ...]] = (DIFFUSION_GEMMA, LFM2_DIFFUSION)
_LEFT_TO_RIGHT: Final = re.compile(r"ForCausalLM|ForConditionalGeneration|LMHeadModel")


def find_family(config: Mapping[str, Any], name: str) -> Family:
    """Return the family of a model.

    Args:
        config: its ``config.json``.
        name: display name, for messages.

    Raises:
        ModelUnsupported: no family has this architecture. The message names those that are supported.
    """
    stated = config.get("architectures") or []
    architectures = [str(one) for one in ([stated] if isinstance(stated, str) else stated)]
    kind = str(config.get("model_type") or "")
    for family in FAMILIES:
        if set(family.architectures) & set(architectures) or (not architectures and kind in family.model_types):
            return family
    description = architectures[0] if architectures else (f"of the type {kind!r}" if kind else "of no known type")
    supported = " and ".join(f"{family.architectures[0]}, such as {family.example}" for family in FAMILIES)
    if _LEFT_TO_RIGHT.search(description):
        raise ModelUnsupported(
            f"{name} is {description}, an autoregressive model; the diffusion engine runs {supported}. Convert it to "
            f"GGUF and open the .gguf file with llama.cpp, or serve it with vLLM: vllm serve {name}"
        )
    raise ModelUnsupported(f"{name} is {description}; the diffusion engine only runs {supported}.")


def inspect_checkpoint(folder: str | Path, name: str = "") -> tuple[Family, Checkpoint]:
    """Inspect a checkpoint folder.

    Args:
        folder: the folder.
        name: display name; the folder's name if "".

    Returns:
        Its family, and what the family found.

    Raises:
        ModelNotFound: the folder or a file does not exist.
        ModelBroken: a file is truncated or damaged, or tensors are missing or have the wrong shape.
        ModelUnsupported: another architecture, or an unsupported quantization.
    """
    path = Path(folder).expanduser()
    name = name or path.resolve().name
    check_folder(path, FAMILIES[0].example)
    config = read_config(path)
    family = find_family(config, name)
    return family, family.inspect(path, config, name)
