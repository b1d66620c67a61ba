"""Pictures in prompts: opens them, cuts them into patches, and puts marks for them into the prompt.

transformers' own processor for this model needs torchvision and a part for sound, even for a picture. Its image
processor alone needs Pillow and is used here; the marks are put by this module. Frames of a video are
pictures in a row.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ...errors import RequestRefused

IMAGE_TOKEN_BUDGETS: Final = (70, 140, 280, 560, 1120)
"""Tokens that one picture may take at most: more see more."""
_NARROWEST: Final = 100  # length over width; nothing can be seen in narrower ones
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")


@dataclass(frozen=True, slots=True)
class ImagePatches:
    """A prompt with pictures, ready for the encoder; names and shapes are those of its arguments.

    Attributes:
        input_ids: [1, tokens] int64.
        pixel_values: [pictures, patches, numbers] float32, padded to the most patches.
        image_position_ids: [pictures, patches, 2] int64, column and row of each patch; -1 where padded.
        mm_token_type_ids: [1, tokens] int64, 1 where a picture stands.
    """

    input_ids: Tensor
    pixel_values: Tensor
    image_position_ids: Tensor
    mm_token_type_ids: Tensor


class ImageProcessor:
    """Makes prompts with pictures for one model.

    Args:
        cutter: transformers' ``Gemma4ImageProcessorPil``.
        tokenizer: of the model, with the image tokens named.
        image: the id of the token that stands for a piece of a picture.
    """

    def __init__(self, cutter: Any, tokenizer: Any, image: int) -> None:
        self._hf_processor, self._tokenizer, self.image_token_id = cutter, tokenizer, image
        self.image_token: str = tokenizer.image_token
        """What a chat template writes where a picture belongs."""

    def process(self, prompt: str, images: Sequence[bytes], budget: int | None = None) -> ImagePatches:
        """Join a prompt and its pictures.

        Args:
            prompt: as the chat template writes it, with one ``mark`` per picture.
            images: the files, PNG, JPEG, WebP or GIF, in the order of the marks.
            budget: tokens that one picture may take, one of ``BUDGETS``; None takes the checkpoint's own.

        Raises:
            RequestRefused: something is no picture, the numbers differ, or there is no such budget.
        """
        if budget is not None and budget not in IMAGE_TOKEN_BUDGETS:
            raise RequestRefused(
                f"A picture cannot take {budget} tokens; give {', '.join(map(str, IMAGE_TOKEN_BUDGETS))}."
            )
        pieces = prompt.split(self.image_token)
        if not images or len(pieces) != len(images) + 1:
            raise RequestRefused(
                f"The prompt has places for {len(pieces) - 1} pictures, and {len(images)} came with it."
            )
        opened = [_open(data, at) for at, data in enumerate(images, 1)]
        options = {} if budget is None else {"max_soft_tokens": budget}
        try:
            cut = self._hf_processor(opened, return_tensors="pt", **options)
        except ValueError as error:  # a picture far too long and narrow
            raise RequestRefused(f"A picture cannot be cut into patches: {error}") from error
        begin, end = self._tokenizer.boi_token, self._tokenizer.eoi_token
        text = pieces[0]
        for count, piece in zip(cut["num_soft_tokens_per_image"], pieces[1:], strict=True):
            text += f"{begin}{self.image_token * int(count)}{end}{piece}"
        ids = torch.tensor([self._tokenizer(text, add_special_tokens=False)["input_ids"]])
        return ImagePatches(ids, cut["pixel_values"], cut["image_position_ids"], (ids == self.image_token_id).long())


def _open(data: bytes, at: int) -> Any:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            turned: Any = ImageOps.exif_transpose(picture)
            upright = turned.convert("RGB")
    except Exception as error:  # damaged files raise whatever their decoder raises
        raise RequestRefused(
            f"Picture {at} cannot be opened ({len(data):,} bytes; {type(error).__name__}). Give a PNG, JPEG, WebP or "
            f"GIF file of reasonable size."
        ) from error
    width, height = upright.size
    if max(width, height) > _NARROWEST * min(width, height):
        raise RequestRefused(f"Picture {at} cannot be read: it has {width} x {height} pixels, a line.")
    return upright
