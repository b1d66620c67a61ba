"""Images in prompts: decode them, split them into patches, and insert their tokens into the prompt.

transformers' processor of this model needs torchvision and an audio processor. Its image processor alone only needs
Pillow and is used here; this module inserts the tokens. Video frames are consecutive images.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ...errors import RequestRefused

_MAX_ASPECT_RATIO: Final = 100
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")


@dataclass(frozen=True, slots=True)
class ImagePatches:
    """A prompt with images for the encoder. Names and shapes match its arguments.

    Attributes:
        input_ids: [1, tokens] int64.
        pixel_values: [images, patches, values] float32, padded to the largest number of patches.
        image_position_ids: [images, patches, 2] int64, column and row of each patch; -1 for padding.
        mm_token_type_ids: [1, tokens] int64, 1 for image tokens.
    """

    input_ids: Tensor
    pixel_values: Tensor
    image_position_ids: Tensor
    mm_token_type_ids: Tensor


class ImageProcessor:
    """Builds prompts with images for one model.

    Args:
        hf_processor: transformers' ``Gemma4ImageProcessorPil``.
        tokenizer: of the model, with named image tokens.
        image_token_id: id of the image token.
    """

    def __init__(self, hf_processor: Any, tokenizer: Any, image_token_id: int) -> None:
        self._hf_processor, self._tokenizer, self.image_token_id = hf_processor, tokenizer, image_token_id
        self.image_token: str = tokenizer.image_token
        """The placeholder of an image in a chat template."""

    def process(self, prompt: str, images: Sequence[bytes]) -> ImagePatches:
        """Combine a prompt with its images.

        Args:
            prompt: text of the chat template, with one ``image_token`` per image.
            images: PNG, JPEG, WebP or GIF files in the order of the placeholders.

        Raises:
            RequestRefused: an invalid image, or another number of images than placeholders.
        """
        pieces = prompt.split(self.image_token)
        if not images or len(pieces) != len(images) + 1:
            raise RequestRefused(f"The prompt has {len(pieces) - 1} image placeholders, and {len(images)} images.")
        decoded = [_decode(data, at) for at, data in enumerate(images, 1)]
        try:
            patches = self._hf_processor(decoded, return_tensors="pt")
        except ValueError as error:  # a very narrow image
            raise RequestRefused(f"An image cannot be split into patches: {error}") from error
        begin, end = self._tokenizer.boi_token, self._tokenizer.eoi_token
        text = pieces[0]
        for count, piece in zip(patches["num_soft_tokens_per_image"], pieces[1:], strict=True):
            text += f"{begin}{self.image_token * int(count)}{end}{piece}"
        ids = torch.tensor([self._tokenizer(text, add_special_tokens=False)["input_ids"]])
        is_image = (ids == self.image_token_id).long()
        return ImagePatches(ids, patches["pixel_values"], patches["image_position_ids"], is_image)


def _decode(data: bytes, at: int) -> Any:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            turned: Any = ImageOps.exif_transpose(picture)
            upright = turned.convert("RGB")
    except Exception as error:  # damaged files raise any error of their decoder
        raise RequestRefused(
            f"Image {at} cannot be opened ({len(data):,} bytes; {type(error).__name__}). Give a PNG, JPEG, WebP or "
            f"GIF file of reasonable size."
        ) from error
    width, height = upright.size
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        raise RequestRefused(f"Image {at} is too narrow: it has {width} x {height} pixels.")
    return upright
