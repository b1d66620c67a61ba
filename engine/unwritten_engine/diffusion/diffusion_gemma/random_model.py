"""Small DiffusionGemma models with random weights, for tests, benchmarks and ``model="random"``. Nothing is downloaded.

The layers are as in the real model: five with a sliding window, then one with full attention, experts in each, and a
causal encoder and a decoder that share their weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .generation_config import fill_generation_config
from .random_tokenizer import control_ids, make_tokenizer

_BRANCHES = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
END_IDS = (1, 106, 50)
"""Ids of the end tokens: end of text, end of turn, and start of a tool response."""


def random_config(
    *,
    vocabulary: int = 1024,
    hidden: int = 64,
    layers: int = 6,
    experts: int = 4,
    top_k: int = 2,
    canvas: int = 32,
    window: int = 64,
    heads: int = 4,
    context: int = 8192,
    vision: bool = False,
) -> Any:
    """Return the ``DiffusionGemmaConfig`` of a small model.

    Args:
        vocabulary: number of tokens; at least 640.
        hidden: hidden size.
        layers: number of layers; every sixth and the last have full attention.
        experts: experts per layer.
        top_k: experts per token.
        canvas: tokens in one canvas.
        window: sliding window in tokens.
        heads: query heads; half as many heads for keys and values (full layers: a quarter).
        context: maximum tokens of prompt and output together.
        vision: whether to build a usable vision tower. Otherwise it is minimal, because transformers always builds one.
    """
    head = max(8, hidden // heads // 8 * 8)
    return make_config(
        {
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "intermediate_size": hidden * 2,
            "moe_intermediate_size": hidden,
            "num_hidden_layers": layers,
            "layer_types": [
                "full_attention" if (at + 1) % 6 == 0 or at + 1 == layers else "sliding_attention"
                for at in range(layers)
            ],
            "num_attention_heads": heads,
            "num_key_value_heads": max(1, heads // 2),
            "num_global_key_value_heads": max(1, heads // 4),
            "head_dim": head,
            "global_head_dim": head * 2,
            "sliding_window": window,
            "num_experts": experts,
            "top_k_experts": top_k,
            "max_position_embeddings": context,
        },
        canvas,
        vision=vision,
    )


def make_config(text: Mapping[str, Any], canvas: int, *, vision: bool = False) -> Any:
    """Return a ``DiffusionGemmaConfig`` in float32 with matching ids of control tokens.

    Args:
        text: its ``text_config``, including ``vocab_size``.
        canvas: tokens in one canvas.
        vision: as for ``random_config``.
    """
    from transformers import DiffusionGemmaConfig

    make: Any = DiffusionGemmaConfig  # its signature is incomplete
    controls = control_ids(text["vocab_size"])
    wide = 32 if vision else 8
    return make(
        text_config={**text, "use_bidirectional_attention": "vision"},
        vision_config={
            "model_type": "gemma4_vision",
            "hidden_size": wide,
            "intermediate_size": wide * 2,
            "num_hidden_layers": 2 if vision else 1,
            "num_attention_heads": 2 if vision else 1,
            "num_key_value_heads": 2 if vision else 1,
            "head_dim": 16 if vision else 8,
            "patch_size": 4 if vision else 2,
            "pooling_kernel_size": 2,
            "position_embedding_size": 256 if vision else 4,
        },
        canvas_length=canvas,
        boi_token_id=controls["<|image>"],
        eoi_token_id=controls["<image|>"],
        image_token_id=controls["<|image|>"],
        eos_token_id=list(END_IDS),
        pad_token_id=0,
        dtype="float32",
    )


def random_model(
    *, spread: float = 4.0, branch: float = 1.0, words: bool = False, seed: int = 0, **shape: Any
) -> tuple[Any, Any]:
    """Return a float32 model on the CPU and its tokenizer.

    Args:
        spread: standard deviation of the logits: at 0.2 the model is uncertain everywhere, at 8 it is nearly certain.
        branch: scale of each layer's contribution. At 1 the model is chaotic like any random one: small early errors
            become large. At 0.3 it is as stable as a trained one.
        words: prefer tokens that start a word. Other tokens (syllables, bytes, tags, controls, blanks) get embeddings
            near zero and only appear as noise.
        seed: of the weights.
        shape: as for ``random_config``.

    Returns:
        ``DiffusionGemmaForBlockDiffusion`` in eval mode without gradients, and a fast tokenizer.
    """
    import torch
    from transformers import DiffusionGemmaForBlockDiffusion

    config = random_config(**shape)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # the constructor draws numbers; keep the caller's state
        model: Any = DiffusionGemmaForBlockDiffusion(config)
    model.eval().requires_grad_(False)
    hidden = config.text_config.hidden_size
    with torch.no_grad():
        for name, weight in model.named_parameters():  # shared ones occur once
            if name.endswith("embed_tokens.weight"):
                weight.normal_(0.0, spread / math.sqrt(hidden), generator=generator)
            elif weight.ndim >= 2:
                weight.normal_(0.0, 1 / math.sqrt(weight.shape[-1]), generator=generator)
            else:  # norms and scales
                weight.normal_(1.0, 0.1, generator=generator)
                if name.endswith(_BRANCHES):
                    weight.mul_(branch)
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):  # separate for encoder and decoder
                buffer.normal_(1.0, 0.05, generator=generator)
    fill_generation_config(model, end_ids=END_IDS)
    tokenizer = make_tokenizer(config.text_config.vocab_size)
    if words:
        names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        others = torch.tensor([not (name.startswith("▁") and name[1:].isalpha()) for name in names])
        model.model.decoder.embed_tokens.weight[others] *= 0.1
    return model, tokenizer


def write_checkpoint(folder: str | Path, *, shard_bytes: int | None = None, **options: Any) -> Path:
    """Write a small random model as a checkpoint folder.

    Args:
        folder: target folder, created if needed.
        shard_bytes: maximum size of a weight file; None for a single file.
        options: as for ``random_model``.

    Returns:
        The folder.
    """
    model, tokenizer = random_model(**options)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with no_progress_bars():
        model.save_pretrained(target, **({} if shard_bytes is None else {"max_shard_size": shard_bytes}))
    tokenizer.save_pretrained(target)
    if options.get("vision"):
        _write_processor(target)
    return target


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Disable transformers' progress bars, which would overwrite the caller's output."""
    from transformers.utils import logging as theirs

    logging: Any = theirs
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _write_processor(folder: Path) -> None:
    """Write the config of Gemma 4's image processor for the small vision tower."""
    image = {
        "image_processor_type": "Gemma4ImageProcessor",
        "patch_size": 4,
        "pooling_kernel_size": 2,
        "max_soft_tokens": 70,
        "image_seq_length": 70,
    }
    config = {"processor_class": "Gemma4Processor", "image_processor": image}
    (folder / "processor_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
