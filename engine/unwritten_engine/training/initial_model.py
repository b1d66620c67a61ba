"""Initial models: random weights of a named size with a new tokenizer, or an existing checkpoint."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ..diffusion.diffusion_gemma.generation_config import fill_generation_config
from ..diffusion.diffusion_gemma.random_model import END_IDS, make_config
from ..errors import EngineError, ModelNotFound
from .checkpoints import write_checkpoint_folder
from .dataset import TrainingPage
from .tokenizer_training import train_tokenizer


@contextmanager
def create_initial_model(
    name: str, pages: Callable[[], Iterable[TrainingPage]], vocabulary: int, *, seed: int = 0
) -> Iterator[Path]:
    """Yield an initial checkpoint folder. A new one is temporary.

    Args:
        name: one of ``SIZES``, or a checkpoint folder.
        pages: training pages for a new tokenizer.
        vocabulary: size of a new tokenizer.
        seed: of new weights.

    Raises:
        ModelNotFound: the name is neither.
        EngineError: there are too few pages for this tokenizer.
    """
    if name not in SIZES:
        if not (Path(name) / "config.json").is_file():
            raise ModelNotFound(
                f"{name!r} is neither a size ({', '.join(SIZES)}) nor a checkpoint folder with a config.json."
            )
        yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        yield write_new_model(Path(folder) / "start", name, train_tokenizer(pages(), vocabulary), seed=seed)


_ROUTER_STD: Final = 0.1
"""Initial standard deviation of router scores, which distributes tokens evenly over the experts."""
_INITIAL_MARGIN: Final = 4.0
"""Approximate initial advantage in nats of the input token over other tokens."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a new model. ``window``, ``canvas`` and ``context`` are in tokens.

    Attributes:
        hidden: hidden size.
        layers: number of layers.
        every: period of layers with full attention; the last layer always has it.
        heads: query heads.
        keys: heads of keys and values.
        head: size of a head; doubled in layers with full attention, where keys serve as values too.
        inner: intermediate size of the dense MLP.
        experts: experts per layer.
        expert_inner: intermediate size of an expert.
        top_k: experts per token.
        canvas: canvas length.
        window: sliding window.
        context: maximum tokens of prompt and output together.
    """

    hidden: int
    layers: int
    every: int
    heads: int
    keys: int
    head: int
    inner: int
    experts: int
    expert_inner: int
    top_k: int
    canvas: int
    window: int
    context: int


SIZES: Final[Mapping[str, ModelShape]] = MappingProxyType(
    {
        "toy": ModelShape(
            hidden=128, layers=4, every=2, heads=4, keys=2, head=32, inner=256,
            experts=4, expert_inner=64, top_k=2, canvas=32, window=64, context=1024,
        ),
        "small": ModelShape(
            hidden=512, layers=6, every=3, heads=8, keys=2, head=64, inner=1024,
            experts=8, expert_inner=128, top_k=2, canvas=128, window=256, context=2048,
        ),
    }
)  # fmt: skip
"""Named sizes: "toy" trains in minutes on a CPU, for tests; "small" writes pages."""


def new_config(shape: ModelShape, vocabulary: int) -> Any:
    """Return the ``DiffusionGemmaConfig`` of a new model.

    Args:
        shape: its sizes.
        vocabulary: number of tokens.
    """
    full = [(at + 1) % shape.every == 0 or at + 1 == shape.layers for at in range(shape.layers)]
    return make_config(
        {
            "vocab_size": vocabulary,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.inner,
            "moe_intermediate_size": shape.expert_inner,
            "num_hidden_layers": shape.layers,
            "layer_types": ["full_attention" if is_full else "sliding_attention" for is_full in full],
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.keys,
            "num_global_key_value_heads": max(1, shape.keys // 2),
            "head_dim": shape.head,
            "global_head_dim": shape.head * 2,
            "sliding_window": shape.window,
            "num_experts": shape.experts,
            "top_k_experts": shape.top_k,
            "max_position_embeddings": shape.context,
        },
        shape.canvas,
    )


def new_model(shape: ModelShape, vocabulary: int, *, seed: int = 0) -> Any:
    """Return a new ``DiffusionGemmaForBlockDiffusion`` in float32 on the CPU, in training mode.

    Args:
        shape: its sizes.
        vocabulary: number of tokens.
        seed: of the weights.
    """
    import torch
    from transformers import DiffusionGemmaForBlockDiffusion

    config = new_config(shape, vocabulary)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # the constructor draws numbers; keep the caller's state
        model: Any = DiffusionGemmaForBlockDiffusion(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():  # shared ones occur once
            if weight.ndim >= 2:
                weight.normal_(0.0, _init_std(name, weight.shape[-1]), generator=generator)
            else:
                weight.fill_(_init_scale(name, shape, len(weight)))
    fill_generation_config(model, end_ids=END_IDS)
    return model.train()


def _init_std(name: str, inputs: int) -> float:
    """Return the initial standard deviation of a matrix."""
    if name.endswith("self_conditioning.down_proj.weight"):
        return 0.0
    if name.endswith("router.proj.weight"):
        return _ROUTER_STD  # its input is already divided by the root of the hidden size
    return 1 / math.sqrt(inputs)


def _init_scale(name: str, shape: ModelShape, size: int) -> float:
    """Return the initial weight of a norm or scale."""
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return float(size**-0.25)
    if name.endswith(("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")):
        return 1 / math.sqrt(2 * shape.layers)
    if name.endswith(("decoder.norm.weight", "language_model.norm.weight")):
        return _INITIAL_MARGIN / math.sqrt(shape.hidden)
    return 1.0


def write_new_model(folder: Path, size: str, tokenizer: Any, *, seed: int = 0) -> Path:
    """Write a new model as a checkpoint folder.

    Args:
        folder: target folder, created if needed.
        size: one of ``SIZES``.
        tokenizer: from ``train_tokenizer``, or another with Gemma 4's control tokens.
        seed: of the weights.

    Returns:
        The folder.

    Raises:
        EngineError: an unknown size, or the folder is not writable.
    """
    if size not in SIZES:
        raise EngineError(f"There is no size {size!r}. Choose one of {', '.join(SIZES)}.")
    return write_checkpoint_folder(folder, new_model(SIZES[size], len(tokenizer), seed=seed), tokenizer)
