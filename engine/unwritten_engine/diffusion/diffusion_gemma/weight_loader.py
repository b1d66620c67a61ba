"""Build transformers' model on the meta device and load its weights tensor by tensor.

transformers' classes are built without memory and filled from the files: each tensor is moved to the device, packed on
the way if weights are quantized, and shared by encoder and decoder. Neither device nor host ever holds more than the
finished weights and one slice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...engine import Progress
from ...errors import MissingPackage, ModelBroken, ModelUnsupported
from .checkpoint import DiffusionGemmaCheckpoint
from .generation_config import fill_generation_config
from .grouped_experts import is_available, run_plain
from .model_config import ENCODER, tensor_kind
from .quantization import PackedExperts, PackedLinear, can_pack

_OLDEST: Final = "5.11"
_GROUPED_MM: Final = (9, 10)
"""Major compute capabilities with a fast ``torch.nn.functional.grouped_mm``, in bfloat16. On other GPUs it waits for
the host and loops over the experts, which cannot be captured in a CUDA graph."""


def load_weights(
    checkpoint: DiffusionGemmaCheckpoint, kind: str, device: torch.device, dtype: torch.dtype, progress: Progress
) -> tuple[Any, tuple[str, ...]]:
    """Return a model with the weights of a checkpoint.

    Args:
        checkpoint: the checkpoint.
        kind: weight format: "float32", "bf16", "int8" or "nf4".
        device: target device.
        dtype: of activations and of weights that are not quantized.
        progress: gets the share of bytes that are loaded.

    Returns:
        The model, in eval mode without gradients, and sentences about choices that were made.

    Raises:
        ModelBroken: a file is damaged, or tensors are missing. The message names them.
        ModelUnsupported: the model has no place for some tensors.
        MissingPackage: transformers is too old, or bitsandbytes is missing.
    """
    config = read_transformers_config(checkpoint)
    loader = WeightLoader(config, kind, device, dtype, name=checkpoint.name, vision=checkpoint.counts.vision > 0)
    done, total = 0, max(1, checkpoint.weight_bytes)
    for file, names in _by_file(checkpoint).items():
        try:
            with safe_open(file, framework="pt", device="cpu") as stream:
                for name in names:
                    loader.put(name, stream)
                    done += checkpoint.tensors[name].size
                    progress(done / total, f"Loading {checkpoint.name}")
        except SafetensorError as error:
            raise ModelBroken(f"{file} is damaged ({error}). Fetch it again.") from error
    fill_generation_config(
        loader.model, checkpoint.sampling_params, end_ids=sorted(checkpoint.end_ids), pad_id=checkpoint.pad_id
    )
    return loader.finish()


def _need_bitsandbytes() -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingPackage("4 bits need the package bitsandbytes. Type: pip install bitsandbytes") from error


def read_transformers_config(checkpoint: DiffusionGemmaCheckpoint) -> Any:
    """Return the ``DiffusionGemmaConfig`` of a checkpoint."""
    try:
        from transformers import DiffusionGemmaConfig
    except ImportError as error:
        raise MissingPackage(
            f"DiffusionGemma needs transformers {_OLDEST} or newer. Type: pip install 'transformers>={_OLDEST}'"
        ) from error
    return DiffusionGemmaConfig.from_pretrained(checkpoint.folder, local_files_only=True)


def _build_on_meta(config: Any, dtype: torch.dtype) -> Any:
    """Return the model on the meta device, without memory."""
    from transformers import DiffusionGemmaForBlockDiffusion

    make: Any = DiffusionGemmaForBlockDiffusion
    config.dtype = dtype
    with _default_dtype(dtype), torch.device("meta"):
        return make(config)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _by_file(checkpoint: DiffusionGemmaCheckpoint) -> dict[str, list[str]]:
    files: dict[str, list[str]] = defaultdict(list)
    for name, tensor in checkpoint.tensors.items():
        files[str(tensor.file)].append(name)
    return files


class Tensors(Protocol):
    """Source of tensors, as returned by ``safe_open``."""

    def get_tensor(self, name: str) -> Tensor:
        """Return a whole tensor."""
        ...

    def get_slice(self, name: str) -> Any:
        """Return an object with ``get_shape`` that yields slices of a tensor by index."""
        ...


class WeightLoader:
    """A model on the meta device that is filled tensor by tensor.

    Args:
        config: transformers' ``DiffusionGemmaConfig``.
        kind: weight format: "float32", "bf16", "int8" or "nf4".
        device: target device.
        dtype: of activations and of weights that are not quantized.
        name: display name, for messages.
        vision: whether it has a vision tower.
    """

    def __init__(
        self, config: Any, kind: str, device: torch.device, dtype: torch.dtype, *, name: str, vision: bool
    ) -> None:
        if kind == "nf4":
            _need_bitsandbytes()
        self.model, self.name = _build_on_meta(config, dtype), name
        self.kind = kind if kind in ("int8", "nf4") else None
        self.device, self.dtype = device, dtype
        self.reasons: list[str] = []
        if not vision:
            self.model.model.encoder.vision_tower = self.model.model.encoder.embed_vision = None
            self.reasons.append("The checkpoint has no vision tower, so images are not supported.")
        self.num_unpacked = 0
        self.unexpected: list[str] = []
        self.experts: dict[str, PackedExperts] = {}
        self.targets: dict[str, list[tuple[nn.Module, str, str]]] = {}
        """By tensor name, all uses of it: module, attribute and module path."""
        shared: dict[int, list[tuple[nn.Module, str, str]]] = defaultdict(list)
        for path, module in self.model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                shared[id(parameter)].append((module, name, path))
                self.targets[f"{path}.{name}"] = shared[id(parameter)]
            for name in module._buffers:
                if name not in module._non_persistent_buffers_set:
                    self.targets[f"{path}.{name}"] = [(module, name, path)]

    def put(self, name: str, stream: Tensors) -> None:
        """Load a tensor into all its uses."""
        targets = self.targets.get(name)
        if targets is None:
            self.unexpected.append(name)
            return
        module, attribute, _ = targets[0]
        if self.kind is not None and tensor_kind(name) == "experts" and self._packs_experts(module):
            self._put_experts(name, attribute, targets, stream)
        elif (
            self.kind is not None
            and tensor_kind(name) == "linears"
            and self._packs(stream.get_slice(name).get_shape()[-1])
        ):
            layer = PackedLinear(self._read(stream.get_tensor(name)), self.kind)
            for _, _, path in targets:
                self._replace(path, layer)
        else:
            tensor = self._copied(name, stream)
            if attribute in module._buffers:
                module._buffers[attribute] = tensor
                return
            parameter = nn.Parameter(tensor, requires_grad=False)
            for owner, own, _ in targets:
                owner._parameters[own] = parameter

    def finish(self) -> tuple[Any, tuple[str, ...]]:
        """Return the model, in eval mode without gradients, and sentences about choices that were made.

        Raises:
            ModelBroken: tensors are missing. The message names one.
            ModelUnsupported: the model has no place for some tensors.
        """
        if self.unexpected:
            raise ModelUnsupported(
                f"{self.name} has {len(self.unexpected)} unknown tensors, such as {self.unexpected[0]}. It was saved "
                f"by another version or changed; update transformers, or save it again with save_pretrained."
            )
        _make_buffers(self.model, self.device)
        _check_whole(self.model, self.name)
        self.model.eval().requires_grad_(False)
        if self.kind is None:
            self.reasons.append(choose_experts_implementation(self.model, self.device, self.dtype))
            return self.model, tuple(self.reasons)
        if self.num_unpacked:
            self.reasons.append(f"{self.num_unpacked} matrices are not quantized: their rows are not multiples of 64.")
        if self.device.type == "cuda" and (problem := try_kernel(self.model, self.device, self.dtype)):
            self.reasons.append(f"Experts run one after the other, which is slow: {problem}.")
        return self.model, tuple(self.reasons)

    def _packs(self, inputs: int) -> bool:
        if self.kind is not None and can_pack(inputs, self.kind):
            return True
        self.num_unpacked += 1
        return False

    def _packs_experts(self, module: Any) -> bool:
        return self._packs(module.hidden_dim) and self._packs(module.intermediate_dim)

    def _put_experts(
        self, name: str, attribute: str, targets: list[tuple[nn.Module, str, str]], stream: Tensors
    ) -> None:
        module: Any = targets[0][0]
        path = targets[0][2]
        if path not in self.experts:
            assert self.kind is not None
            self.experts[path] = PackedExperts(
                module.num_experts, module.hidden_dim, module.intermediate_dim, self.kind, module.act_fn, self.device
            )
        packed = self.experts[path]
        parts = stream.get_slice(name)
        for expert in range(module.num_experts):
            packed.put(attribute, expert, self._read(parts[expert]))
        for _, _, where in targets:
            self._replace(where, packed)

    def _replace(self, path: str, module: nn.Module) -> None:
        parent, _, name = path.rpartition(".")
        setattr(self.model.get_submodule(parent), name, module)

    def _read(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype)

    def _copied(self, name: str, stream: Tensors) -> Tensor:
        """Copy a tensor to the device; large ones slice by slice, to limit main memory."""
        parts = stream.get_slice(name)
        shape = parts.get_shape()
        if len(shape) < 3:
            return stream.get_tensor(name).to(self.device, self.dtype, copy=True)
        stacked = torch.empty(shape, dtype=self.dtype, device=self.device)
        for at in range(shape[0]):
            stacked[at].copy_(parts[at])
        return stacked


def _make_buffers(model: Any, device: torch.device) -> None:
    """Compute the buffers that checkpoints do not store: rotary frequencies and the embedding scale."""
    for module in model.modules():
        names = module._non_persistent_buffers_set
        if not names:
            continue
        if hasattr(module, "scalar_embed_scale"):
            weight = module.weight
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=weight.dtype, device=device)
            continue
        fresh = type(module)(module.config)  # on the CPU; its constructor computes them
        for name in names:
            setattr(module, name, getattr(fresh, name).to(device))


def _check_whole(model: Any, name: str) -> None:
    empty = [key for key, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if empty:
        text = [key for key in empty if not key.startswith(ENCODER)] or empty
        raise ModelBroken(
            f"{name} lacks {len(empty)} tensors, such as {text[0]}. Fetch the checkpoint again, or save it again with "
            f"save_pretrained."
        )


def choose_experts_implementation(model: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Set the fastest implementation of unquantized experts that works here. Return it with the reason.

    Raises:
        ModelUnsupported: none works.
    """
    trial = _experts_trial(model, device, dtype)
    problem = ""
    for choice in _experts_implementations(device, dtype):
        model.set_experts_implementation(choice)
        try:
            _run_and_sync(trial)
        except Exception as error:  # Triton has errors of its own
            problem = problem or f" ({choice} fails here: {_first_line(error)})"
            continue
        name = "our Triton kernel" if choice == "triton" else f"transformers' {choice}"
        return f"Experts are computed by {name}{problem}."
    raise ModelUnsupported(f"Experts cannot be computed on {device} in {dtype}{problem}. Give another device or dtype.")


def try_kernel(model: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Run the kernel for packed experts once. If it fails, turn it off, and return why."""
    if not is_available():
        return "Triton is not installed"
    try:
        _run_and_sync(_experts_trial(model, device, dtype))
    except Exception as error:  # Triton has errors of its own, and needs a C compiler and Python's headers
        for module in model.modules():
            if isinstance(module, PackedExperts):
                module.use_kernel = False
        return f"Triton fails here ({_first_line(error)})"
    return ""


def _experts_implementations(device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    """Return names in transformers' ``ExpertsInterface``, fastest first."""
    if device.type != "cuda" or not is_available():
        return ("grouped_mm", "eager")
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register("triton", run_plain)
    if dtype == torch.bfloat16 and torch.cuda.get_device_capability(device)[0] in _GROUPED_MM:
        return ("grouped_mm", "triton", "eager")
    return ("triton", "grouped_mm", "eager")


def _experts_trial(model: Any, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return a function that runs some rows through the experts of a layer."""
    experts, config = model.model.decoder.layers[0].experts, model.config.text_config
    rows = torch.zeros(8, config.hidden_size, device=device, dtype=dtype)
    expert_ids = torch.arange(config.top_k_experts, device=device).repeat(8, 1)
    share = torch.full((8, config.top_k_experts), 1 / config.top_k_experts, device=device, dtype=dtype)
    return lambda: experts(rows, expert_ids, share)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:120]


def _run_and_sync(run: Callable[[], Tensor]) -> None:
    """Run a function and wait for its result, because GPU errors are asynchronous."""
    with torch.no_grad():
        float(run().sum())
