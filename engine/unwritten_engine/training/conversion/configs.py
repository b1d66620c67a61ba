"""What every ``DiffusionGemmaConfig`` that is made here has in common: the control tokens' ids, and no eyes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...diffusion.loading.small import ENDS
from ...diffusion.loading.vocabulary import control_ids


def make_config(text: Mapping[str, Any], canvas: int) -> Any:
    """A ``DiffusionGemmaConfig`` in float32.

    Args:
        text: its ``text_config``; ``vocab_size`` is among it.
        canvas: tokens in one canvas.
    """
    from transformers import DiffusionGemmaConfig

    make: Any = DiffusionGemmaConfig  # its signature does not show all that it takes
    controls = control_ids(text["vocab_size"])
    return make(
        text_config={**text, "use_bidirectional_attention": "vision"},
        vision_config={  # transformers always builds a vision tower: the smallest
            "model_type": "gemma4_vision",
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "patch_size": 2,
            "pooling_kernel_size": 2,
            "position_embedding_size": 4,
        },
        canvas_length=canvas,
        boi_token_id=controls["<|image>"],
        eoi_token_id=controls["<image|>"],
        image_token_id=controls["<|image|>"],
        eos_token_id=list(ENDS),
        pad_token_id=0,
        dtype="float32",
    )
