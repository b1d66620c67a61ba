"""The model that is measured: what it is made of, so that another process can make the same one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import torch
from tests.benchmarks.engine.built_model import build, real_config

from unwritten_engine.diffusion.loading.devices import find_device
from unwritten_engine.diffusion.loading.loader import RANDOM, count_bytes, load_model
from unwritten_engine.diffusion.loading.random_model import END_IDS, random_model
from unwritten_engine.diffusion.loading.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.loading.weight_loader import choose_experts_implementation
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.engine import Progress

SMALL: Final = "small"
"""A small body at the real vocabulary, random, made in memory."""
FULL: Final = "full"
"""The real architecture with random weights, made on the device."""
SMALL_SIZES: Final = {
    "vocabulary": 262_144,
    "canvas": 256,
    "hidden": 64,
    "layers": 6,
    "experts": 8,
    "top_k": 2,
    "window": 1024,
}
"""As ``small.small_config`` takes them; the vocabulary and the canvas are the real ones."""
BRANCH: Final = 0.3
"""How much each layer adds: random weights, as calm as trained ones (``small.py``)."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to measure.

    Attributes:
        reference: ``SMALL``, ``FULL``, "random", a checkpoint folder or OWNER/REPO.
        device: as torch names it; None takes a GPU if there is one.
        kind: how the weights are kept, "bf16", "int8" or "nf4"; None leaves it to the loader, and is float32 for
            random models on a CPU.
        sizes: changes to the sizes of ``SMALL`` (as for ``small.small_config``) or ``FULL`` (as for
            ``built.real_config``).
        threads: of torch on a CPU; None leaves them as they are.
    """

    reference: str = SMALL
    device: str | None = None
    kind: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    threads: int | None = None

    def text(self) -> str:
        """As JSON, for another process."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> Spec:
        """From JSON."""
        return Spec(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is ready to be measured.

    Attributes:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        name: for people.
        reader: turns its tokens into text.
        device: where it is.
        dtype: of its activations.
        kind: how its weights are kept: "float32", "bf16", "int8" or "nf4".
        weight_bytes: counted, shared ones once.
    """

    model: Any
    name: str
    reader: Detokenizer
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
        """How many tokens there are."""
        return int(self.model.config.text_config.vocab_size)

    @property
    def exact(self) -> bool:
        """Whether it computes in float32 on whole weights, so that token for token is a fair question."""
        return self.kind == "float32"


def open_subject(spec: Spec, progress: Progress = lambda share, doing: None) -> Subject:
    """Make or load the model.

    Raises:
        BadOption, ModelNotFound, ModelBroken, ModelUnsupported, MissingPackage: as ``loader.load``.
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
        name = "a small random body"
    elif spec.reference == FULL:
        kind, dtype = spec.kind or "bf16", torch.bfloat16
        config = real_config(**spec.sizes)
        model, shape = build(config, kind, device, dtype, branch=BRANCH, progress=progress)
        tokenizer, name = make_tokenizer(shape.vocab_size), f"the real architecture, random, {shape_of(model)}"
    else:
        quantize = {"bf16": "none"}.get(spec.kind or "", spec.kind)
        loaded = load_model(
            spec.reference, device=spec.device, quantize=quantize, dtype=None, budget_bytes=None, progress=progress
        )
        model, tokenizer, name = loaded.model, loaded.tokenizer, loaded.name
        dtype, kind = loaded.dtype, loaded.quantization
        if spec.reference == RANDOM:
            name = "the engine's own random model"
    vocabulary = int(model.config.text_config.vocab_size)
    reader = Detokenizer(tokenizer, frozenset(END_IDS), 0, vocabulary)
    return Subject(model, name, reader, device, dtype, kind, count_bytes(model))


def shape_of(model: Any) -> str:
    """Its sizes in words."""
    text = model.config.text_config
    return (
        f"{text.num_hidden_layers} layers, hidden {text.hidden_size}, {text.num_experts} experts, canvas "
        f"{model.config.canvas_length}, vocabulary {text.vocab_size:,}"
    )
