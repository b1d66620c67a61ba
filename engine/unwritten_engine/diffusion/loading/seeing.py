"""What a checkpoint needs to see: its own cutting of pictures into patches, without torchvision."""

from __future__ import annotations

from typing import Any

from ...errors import MissingPackage
from ..tokens.images import ImageProcessor
from .checkpoint import Checkpoint
from .safetensors_files import read_json


def load_processor(checkpoint: Checkpoint, tokenizer: Any) -> tuple[ImageProcessor | None, tuple[str, ...]]:
    """The processor, if the checkpoint has a vision tower and Pillow is installed; else None, and why in a sentence."""
    if not checkpoint.vision:
        return None, ()
    try:
        cutter = _cutter(checkpoint)
    except MissingPackage as error:
        return None, (str(error),)
    image = checkpoint.config.get("image_token_id")
    if image is None or tokenizer.convert_tokens_to_ids(getattr(tokenizer, "image_token", "")) != image:
        return None, ("Pictures cannot be read: tokenizer and config.json disagree on the image token.",)
    return ImageProcessor(cutter, tokenizer, image), ()


def _cutter(checkpoint: Checkpoint) -> Any:
    try:
        import PIL  # noqa: F401
        from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
    except ImportError as error:
        raise MissingPackage("Pictures need the package pillow. Type: pip install pillow") from error
    file = checkpoint.folder / "processor_config.json"
    config: dict[str, Any] = read_json(file).get("image_processor") or {} if file.is_file() else {}
    if not config and (checkpoint.folder / "preprocessor_config.json").is_file():
        config = read_json(checkpoint.folder / "preprocessor_config.json")
    names = ("patch_size", "max_soft_tokens", "pooling_kernel_size", "do_rescale", "rescale_factor", "do_normalize")
    known = {name: config[name] for name in (*names, "image_mean", "image_std", "resample") if name in config}
    make: Any = Gemma4ImageProcessorPil
    return make(**known)
