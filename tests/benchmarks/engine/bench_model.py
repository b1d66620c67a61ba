"""The measured model, and its description, from which another process can create the same model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import torch
from tests.benchmarks.engine.random_weights import build, full_size_config

from unwritten_engine.diffusion.diffusion_gemma.family import DIFFUSION_GEMMA
from unwritten_engine.diffusion.diffusion_gemma.random_model import END_IDS, random_model
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.diffusion_gemma.weight_loader import choose_experts_implementation
from unwritten_engine.diffusion.loader import count_bytes, load_model
from unwritten_engine.diffusion.loading.devices import find_device
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.engine import Progress

SMALL: Final = "small"
"""A small random model with the full vocabulary."""
FULL: Final = "full"
"""The full architecture with random weights."""
SMALL_SIZES: Final = {
    "vocabulary": 262_144,
    "canvas": 256,
    "hidden": 64,
    "layers": 6,
    "experts": 8,
    "top_k": 2,
    "window": 1024,
}
"""Arguments of ``random_model``, with the vocabulary and canvas length of the full model."""
BRANCH: Final = 0.3
"""Scale of each layer's output, so that random weights behave like trained ones; see ``random_model``."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to measure.

    Attributes:
        reference: ``SMALL``, ``FULL``, "random", a checkpoint folder or OWNER/REPO.
        device: torch's device name; None uses a GPU if there is one.
        kind: weight format, "bf16", "int8" or "nf4"; None lets the loader choose, and is float32 for random models on a
            CPU.
        sizes: changed sizes of ``SMALL`` (arguments of ``random_model``) or ``FULL`` (of ``full_size_config``).
        threads: threads of torch on a CPU; None keeps the current number.
    """

    reference: str = SMALL
    device: str | None = None
    kind: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    threads: int | None = None

    def text(self) -> str:
        """Return it as JSON, for another process."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> ModelSpec:
        """Return the spec of a JSON text."""
        return ModelSpec(**json.loads(text))


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A loaded model.

    Attributes:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        name: display name.
        detokenizer: of its tokenizer.
        device: where it is.
        dtype: of its activations.
        kind: weight format: "float32", "bf16", "int8" or "nf4".
        weight_bytes: size of the weights; shared ones count once.
    """

    model: Any
    name: str
    detokenizer: Detokenizer
    device: torch.device
    dtype: torch.dtype
    kind: str
    weight_bytes: int

    @property
    def size(self) -> int:
        """Tokens in a canvas."""
        return int(self.model.config.canvas_length)

    @property
    def vocabulary(self) -> int:
        """Number of tokens in the vocabulary."""
        return int(self.model.config.text_config.vocab_size)

    @property
    def exact(self) -> bool:
        """True for float32 weights, for which token-by-token parity can be expected."""
        return self.kind == "float32"


def open_bench_model(spec: ModelSpec, progress: Progress = lambda share, doing: None) -> BenchModel:
    """Create or load the model.

    Raises:
        BadOption, ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: as ``load_model``.
    """
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    device = find_device(spec.device)
    if spec.reference == SMALL:
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        sizes: dict[str, Any] = {**SMALL_SIZES, **spec.sizes}
        model, tokenizer = random_model(branch=BRANCH, **sizes)
        model.to(device, dtype)
        choose_experts_implementation(model, device, dtype)
        kind = "float32" if dtype == torch.float32 else "bf16"
        name = "a small random model"
    elif spec.reference == FULL:
        kind = spec.kind or "bf16"
        dtype = torch.float32 if kind == "float32" else torch.bfloat16
        config = full_size_config(**spec.sizes)
        model, shape = build(config, kind, device, dtype, branch=BRANCH, progress=progress)
        tokenizer, name = (
            make_tokenizer(shape.vocab_size),
            f"the full architecture with random weights, {_describe_sizes(model)}",
        )
    else:
        quantize = {"bf16": "none"}.get(spec.kind or "", spec.kind)
        loaded = load_model(
            spec.reference, device=spec.device, quantize=quantize, dtype=None, budget_bytes=None, progress=progress
        )
        model, tokenizer, name = loaded.model, loaded.tokenizer, loaded.name
        dtype, kind = loaded.dtype, loaded.quantization
        if spec.reference == DIFFUSION_GEMMA.random:
            name = "the engine's own random model"
    vocabulary = int(model.config.text_config.vocab_size)
    detokenizer = Detokenizer(tokenizer, frozenset(END_IDS), 0, vocabulary)
    return BenchModel(model, name, detokenizer, device, dtype, kind, count_bytes(model))


def _describe_sizes(model: Any) -> str:
    """Return its sizes as text."""
    text = model.config.text_config
    return (
        f"{text.num_hidden_layers} layers, hidden {text.hidden_size}, {text.num_experts} experts, canvas "
        f"{model.config.canvas_length}, vocabulary {text.vocab_size:,}"
    )
