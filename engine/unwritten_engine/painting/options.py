"""Options of painters."""

from __future__ import annotations

from typing import Final

from ..options import Option

OPTIONS: Final = (
    Option("steps", None, "count", "denoising steps; those that the pipeline has by itself if it is not given", 1, 200),
    Option("guidance", None, "number", "how closely it keeps to the words; few-step models want 0", 0, 30),
    Option("size", 512, "count", "pixels along a side of the largest square that is painted", 64, 2048),
    Option("device", None, "text", "as torch names it; a GPU if there is one"),
    Option("dtype", None, "text", "float32, float16 or bfloat16; float32 on a CPU, else float16"),
)
"""Options of a painter."""
