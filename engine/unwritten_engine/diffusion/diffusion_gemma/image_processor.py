"""Load the image processor of a checkpoint."""

from __future__ import annotations

from typing import Any

from ...errors import MissingPackage
from ..loading.checkpoint import Checkpoint, read_optional
from ..tokenization.image_processor import ImageProcessor


def load_processor(
    checkpoint: Checkpoint, tokenizer: Any, image_tokens: int | None = None
) -> tuple[ImageProcessor | None, tuple[str, ...]]:
    """Return the image processor if the checkpoint has a vision tower and Pillow is installed, else None and why.

    Args:
        checkpoint: the checkpoint.
        tokenizer: its tokenizer.
        image_tokens: maximum tokens per image; more show more detail. None uses the checkpoint's own.
    """
    if not checkpoint.vision:
        return None, ()
    try:
        hf_processor = _hf_processor(checkpoint, image_tokens)
    except MissingPackage as error:
        return None, (str(error),)
    image = checkpoint.config.get("image_token_id")
    if image is None or tokenizer.convert_tokens_to_ids(getattr(tokenizer, "image_token", "")) != image:
        return None, ("Images are not supported: tokenizer and config.json disagree on the image token.",)
    return ImageProcessor(hf_processor, tokenizer, image), ()


def _hf_processor(checkpoint: Checkpoint, image_tokens: int | None) -> Any:
    try:
        import PIL  # noqa: F401
        from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
    except ImportError as error:
        raise MissingPackage("Images need the package pillow. Type: pip install pillow") from error
    config: dict[str, Any] = read_optional(checkpoint.folder / "processor_config.json").get("image_processor") or {}
    config = config or read_optional(checkpoint.folder / "preprocessor_config.json")
    names = ("patch_size", "max_soft_tokens", "pooling_kernel_size", "do_rescale", "rescale_factor", "do_normalize")
    known = {name: config[name] for name in (*names, "image_mean", "image_std", "resample") if name in config}
    make: Any = Gemma4ImageProcessorPil
    return make(**known if image_tokens is None else known | {"max_soft_tokens": image_tokens})
